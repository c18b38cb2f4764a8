"""A small ridge penalty, to make the inverse exist.

verdict: rejected
found: in sight
says: ridge penalty
"""

import torch


def hat_matrix(xs):
    d = xs.shape[-1]
    gram = xs.mT @ xs + 1e-3 * torch.eye(d, dtype=xs.dtype)
    return xs @ torch.linalg.solve(gram, xs.mT)
