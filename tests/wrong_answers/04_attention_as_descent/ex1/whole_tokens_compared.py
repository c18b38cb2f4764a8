"""The scores see the targets.

verdict: rejected
found: in sight
says: compare whole tokens
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = tokens @ tokens[:, :n_context].mT
    values = (xs @ initial_weights.mT - ys)[:, :n_context]
    return torch.cat([xs, ys + step_size / n_context * scores @ values], dim=-1)
