"""The symmetric part of A.

verdict: rejected
found: in sight
says: symmetric part
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    d = preconditioner.shape[0]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ ((preconditioner + preconditioner.mT) / 2) @ xs[:, :n_context].mT
    return torch.cat([xs, ys - scores @ ys[:, :n_context] / n_context], dim=-1)
