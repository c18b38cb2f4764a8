"""The root of the summed variances.

verdict: rejected
found: in sight
says: the root of the summed variances
"""


def order_sensitivity(probabilities):
    return probabilities.var(0).sum(-1).sqrt().mean()
