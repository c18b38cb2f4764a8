"""The sum over queries.

verdict: rejected
found: in sight
says: You sum over the queries too
"""


def order_sensitivity(probabilities):
    return probabilities.std(0).sum()
