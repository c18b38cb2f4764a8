"""The right vector is the reading with the context.

verdict: rejected
found: in sight
says: The vector on the right is the reading with
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = without.square().sum(-1)
    right = with_context
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
