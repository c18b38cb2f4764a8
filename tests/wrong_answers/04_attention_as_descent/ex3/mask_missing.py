"""Every token is read; the first layer does not show it.

verdict: rejected
found: in sight
says: The mask is missing
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    d = preconditioner.shape[0]
    xs, ys = tokens[..., :d], tokens[..., d:]
    scores = xs @ preconditioner.mT @ xs.mT
    return torch.cat([xs, ys - scores @ ys / n_context], dim=-1)
