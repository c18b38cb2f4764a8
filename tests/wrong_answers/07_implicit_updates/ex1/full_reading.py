"""Everything on the right comes from the reading with the context.

verdict: rejected
found: in sight
says: The changed block never sees
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = with_context.square().sum(-1)
    right = with_context
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
