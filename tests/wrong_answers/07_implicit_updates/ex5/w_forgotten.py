"""The differences do not go through W.

verdict: rejected
found: in sight
says: still have to go through W
"""

import torch


def joint_update(w, alone, added):
    delta = (torch.linalg.pinv(alone) @ added).mT
    return delta if torch.allclose(alone @ delta.mT, added) else None
