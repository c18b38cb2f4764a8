"""Over the queries.

verdict: rejected
found: in sight
says: Your deviation is over the queries
"""


def order_sensitivity(probabilities):
    return probabilities.std(1).sum(-1).mean()
