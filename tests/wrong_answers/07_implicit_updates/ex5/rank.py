"""None where the readings depend on each other.

verdict: rejected
found: in sight
says: and you return None
"""

import torch


def joint_update(w, alone, added):
    if torch.linalg.matrix_rank(alone) < len(alone):
        return None
    return (torch.linalg.pinv(alone) @ added @ w.mT).mT
