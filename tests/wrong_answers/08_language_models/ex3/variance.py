"""Variances.

verdict: rejected
found: in sight
says: You sum variances
"""


def order_sensitivity(probabilities):
    return probabilities.var(0).sum(-1).mean()
