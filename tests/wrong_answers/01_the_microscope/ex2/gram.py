"""X X^T without an inverse.

verdict: rejected
found: in sight
says: no inverse in it yet
"""


def hat_matrix(xs):
    return xs @ xs.mT
