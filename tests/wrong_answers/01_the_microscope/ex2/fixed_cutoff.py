"""Singular values dropped below a fixed number, so that tiny inputs vanish.

verdict: rejected
found: hidden
says: inputs around 1e-4
"""

import torch


def hat_matrix(xs):
    u, s, _ = torch.linalg.svd(xs, full_matrices=False)
    u = u * (s > 1e-3)[:, None, :]
    return u @ u.mT
