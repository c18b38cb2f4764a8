"""None where there are more queries than inputs.

verdict: rejected
found: in sight
says: you return None
"""

import torch


def joint_update(w, alone, added):
    if len(alone) > alone.shape[1]:
        return None
    wanted = added @ w.mT
    delta = (torch.linalg.pinv(alone) @ wanted).mT
    missed = (alone @ delta.mT - wanted).abs().max()
    return delta if missed < 1e-4 * wanted.abs().max() else None
