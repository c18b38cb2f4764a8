"""The mean of the single updates.

verdict: rejected
found: in sight
says: you average the updates
"""

import torch


def joint_update(w, alone, added):
    square = alone.square().sum(-1)
    return torch.einsum("hd,md,me->he", w, added / square[:, None], alone) / len(alone)
