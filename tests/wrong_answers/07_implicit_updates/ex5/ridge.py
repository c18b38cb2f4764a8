"""A ridge in the inverse.

verdict: rejected
found: in sight
says: A ridge shrinks
"""

import torch


def joint_update(w, alone, added):
    gram = alone @ alone.mT + 1e-3 * torch.eye(len(alone))
    delta = (alone.mT @ torch.linalg.solve(gram, added @ w.mT)).mT
    if len(alone) > alone.shape[1]:
        return None
    return delta
