"""No weights change.

verdict: rejected
found: in sight
says: it changes no weights
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[i] for i in first]
    b = [demonstrations[i] for i in second]
    left = model(weights, a, query) - model(weights, b, query)
    right = left
    return left, right
