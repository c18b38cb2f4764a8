"""W0 is not in the values.

verdict: rejected
found: in sight
says: W0 is missing
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ xs[:, :n_context].mT
    values = (-ys)[:, :n_context]
    return torch.cat([xs, ys + step_size / n_context * scores @ values], dim=-1)
