"""A ridge penalty too small to be seen on inputs of size 1.

verdict: rejected
found: hidden
says: inputs around 1e-4
"""

import torch


def hat_matrix(xs):
    d = xs.shape[-1]
    gram = xs.mT @ xs + 1e-10 * torch.eye(d, dtype=xs.dtype)
    return xs @ torch.linalg.solve(gram, xs.mT)
