"""The inverse of X^T X, which need not exist.

verdict: rejected
found: in sight
says: pseudo-inverse
"""

import torch


def hat_matrix(xs):
    return xs @ torch.linalg.inv(xs.mT @ xs) @ xs.mT
