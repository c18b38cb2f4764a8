"""Divided by R.

verdict: rejected
found: in sight
says: divides by R - 1
"""


def order_sensitivity(probabilities):
    return probabilities.std(0, unbiased=False).sum(-1).mean()
