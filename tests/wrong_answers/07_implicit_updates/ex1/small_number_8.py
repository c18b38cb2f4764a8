"""A small number is added to the denominator, as in one public code.

verdict: rejected
found: in sight
says: With readings of a size of about
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = without.square().sum(-1) + 1e-8
    right = without
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
