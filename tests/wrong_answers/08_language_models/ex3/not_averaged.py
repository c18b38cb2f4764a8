"""One number for each query.

verdict: rejected
found: in sight
says: is one number; got shape
"""


def order_sensitivity(probabilities):
    return probabilities.std(0).sum(-1)
