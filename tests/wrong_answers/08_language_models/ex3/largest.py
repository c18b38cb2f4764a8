"""The token that moves most.

verdict: rejected
found: in sight
says: the token that moves most
"""


def order_sensitivity(probabilities):
    return probabilities.std(0).amax(-1).mean()
