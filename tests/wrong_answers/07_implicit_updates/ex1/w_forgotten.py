"""The difference does not go through W.

verdict: rejected
found: in sight
says: still has to go through W
"""


def implicit_update(w, with_context, without):
    left = with_context - without
    square = without.square().sum(-1)
    right = without
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
