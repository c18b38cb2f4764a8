"""The queries are among the tokens that are read.

verdict: rejected
found: in sight
says: reads the queries too
"""

import torch


def descend_tokens(tokens, n_context, step_size, initial_weights):
    d = initial_weights.shape[-1]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ xs[:, : tokens.shape[1]].mT
    values = (xs @ initial_weights.mT - ys)[:, : tokens.shape[1]]
    return torch.cat([xs, ys + step_size / n_context * scores @ values], dim=-1)
