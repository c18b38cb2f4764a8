"""A is rebuilt from its inverse.

verdict: rejected
found: hidden
says: singular
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    d = preconditioner.shape[0]
    xs, ys = tokens[..., :d], tokens[..., d:]
    solved = torch.linalg.inv(torch.linalg.inv(preconditioner))
    scores = xs @ solved.mT @ xs[:, :n_context].mT
    return torch.cat([xs, ys - scores @ ys[:, :n_context] / n_context], dim=-1)
