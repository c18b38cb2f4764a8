"""W is corrected for one query after the other.

verdict: rejected
found: in sight
says: you correct W for one after the other
"""

import torch


def joint_update(w, alone, added):
    changed = w
    for a, d in zip(alone, added, strict=True):
        left = w @ (a + d) - changed @ a
        changed = changed + torch.outer(left, a) / a.dot(a)
    return changed - w
