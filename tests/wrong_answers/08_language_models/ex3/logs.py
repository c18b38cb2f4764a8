"""Logarithms.

verdict: rejected
found: in sight
says: LOG-probabilities
"""


def order_sensitivity(probabilities):
    return probabilities.log().std(0).sum(-1).mean()
