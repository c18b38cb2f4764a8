"""A small number against division by 0 that nobody does.

verdict: rejected
found: hidden
says: the sensitivity is 0
"""


def order_sensitivity(probabilities):
    return (probabilities.var(0) + 1e-11).sqrt().sum(-1).mean()
