"""A length in place of its square.

verdict: rejected
found: in sight
says: not by its square
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = without.norm(dim=-1)
    right = without
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
