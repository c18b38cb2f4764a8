"""The equations are compared before W.

verdict: rejected
found: hidden
says: there is a change
"""

import torch


def joint_update(w, alone, added):
    mapped = torch.linalg.pinv(alone) @ added
    if (alone @ mapped - added).abs().max() > 1e-6:
        return None
    return w @ mapped.mT
