"""Every column of Q, also those of rank zero.

verdict: rejected
found: in sight
says: drop the directions
"""

import torch


def hat_matrix(xs):
    q = torch.linalg.qr(xs).Q
    return q @ q.mT
