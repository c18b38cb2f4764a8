"""A is not used.

verdict: rejected
found: in sight
says: not in your scores
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    d = preconditioner.shape[0]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ xs[:, :n_context].mT
    return torch.cat([xs, ys - scores @ ys[:, :n_context] / n_context], dim=-1)
