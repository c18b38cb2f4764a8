"""No 1/n.

verdict: rejected
found: in sight
says: times too long
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    d = preconditioner.shape[0]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ preconditioner.mT @ xs[:, :n_context].mT
    return torch.cat([xs, ys - scores @ ys[:, :n_context]], dim=-1)
