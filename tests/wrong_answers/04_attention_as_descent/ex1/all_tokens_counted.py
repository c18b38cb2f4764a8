"""Divided by the number of all tokens.

verdict: rejected
found: in sight
says: number of all tokens
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ xs[:, :n_context].mT
    values = (xs @ initial_weights.mT - ys)[:, :n_context]
    return torch.cat([xs, ys + step_size / tokens.shape[1] * scores @ values], dim=-1)
