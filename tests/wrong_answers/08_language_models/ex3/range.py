"""The range.

verdict: rejected
found: in sight
says: from the smallest to the largest
"""


def order_sensitivity(probabilities):
    return (probabilities.amax(0) - probabilities.amin(0)).sum(-1).mean()
