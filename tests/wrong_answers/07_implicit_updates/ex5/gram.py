"""The inverse of the Gram matrix.

verdict: rejected
found: in sight
says: The matrix has no inverse
"""

import torch


def joint_update(w, alone, added):
    if len(alone) > alone.shape[1]:
        return None
    return (alone.mT @ torch.linalg.inv(alone @ alone.mT) @ added @ w.mT).mT
