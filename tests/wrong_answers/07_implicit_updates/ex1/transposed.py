"""The outer product is turned round.

verdict: rejected
found: in sight
says: look for a transpose
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = without.square().sum(-1)
    right = without
    return right[:, :, None] * left[:, None, :] / square[:, None, None]
