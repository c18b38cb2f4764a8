"""A small number is added to the denominator.

verdict: rejected
found: in sight
says: a small number is added
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = without.square().sum(-1) + 1e-12
    right = without
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
