"""The denominator has a floor.

verdict: rejected
found: hidden
says: readings of a size of about 1e-05
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = without.square().sum(-1).clamp_min(1e-7)
    right = without
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
