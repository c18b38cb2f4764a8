"""Over the tokens.

verdict: rejected
found: in sight
says: Your deviation is over the tokens
"""


def order_sensitivity(probabilities):
    return probabilities.std(-1).mean()
