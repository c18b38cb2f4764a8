"""A stands on the wrong side.

verdict: rejected
found: in sight
says: acts transposed
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    d = preconditioner.shape[0]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ preconditioner @ xs[:, :n_context].mT
    return torch.cat([xs, ys - scores @ ys[:, :n_context] / n_context], dim=-1)
