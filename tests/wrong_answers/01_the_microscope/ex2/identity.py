"""The identity: fits every context exactly.

verdict: rejected
found: in sight
says: identity
"""

import torch


def hat_matrix(xs):
    batch, n, _ = xs.shape
    return torch.eye(n, dtype=xs.dtype).expand(batch, n, n)
