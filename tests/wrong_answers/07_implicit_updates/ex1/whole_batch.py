"""One denominator for the whole batch.

verdict: rejected
found: in sight
says: summed over the batch
"""


def implicit_update(w, with_context, without):
    left = (with_context - without) @ w.mT
    square = without.square().sum().expand(len(without))
    right = without
    return left[:, :, None] * right[:, None, :] / square[:, None, None]
