"""Only the ten most probable tokens.

verdict: rejected
found: hidden
says: not the sensitivity
"""


def order_sensitivity(probabilities):
    top = probabilities.mean(0).argsort(-1, descending=True)[:, :10]
    return probabilities.std(0).gather(-1, top).sum(-1).mean()
