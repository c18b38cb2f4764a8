"""The least-squares solution, whatever it misses.

verdict: rejected
found: in sight
says: no change of W serves them all
"""

import torch


def joint_update(w, alone, added):
    return (torch.linalg.pinv(alone) @ added @ w.mT).mT
