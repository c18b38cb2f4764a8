"""The step is not divided by N.

verdict: rejected
found: in sight
says: times too long
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ xs[:, :n_context].mT
    values = (xs @ initial_weights.mT - ys)[:, :n_context]
    return torch.cat([xs, ys + step_size * scores @ values], dim=-1)
