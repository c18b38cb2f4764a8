"""The denominator is that of the reading with the context.

verdict: rejected
found: in sight
says: The denominator comes from
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = with_context.square().sum(-1)
    right = without
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
