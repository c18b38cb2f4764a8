"""A solution that does something more.

verdict: rejected
found: in sight
says: it is not the smallest
"""

import torch


def joint_update(w, alone, added):
    wanted = added @ w.mT
    back = torch.linalg.pinv(alone)
    free = torch.eye(alone.shape[1]) - back @ alone
    delta = (back @ wanted).mT + w @ free
    missed = (alone @ delta.mT - wanted).abs().max()
    return delta if missed < 1e-4 * wanted.abs().max() else None
