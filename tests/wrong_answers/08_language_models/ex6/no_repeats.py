"""Demonstrations that stand twice are dropped.

verdict: rejected
found: hidden
says: side
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = list({str(demonstrations[i]): demonstrations[i] for i in first}.values())
    b = list({str(demonstrations[i]): demonstrations[i] for i in second}.values())
    left = model(weights, a, query) - model(weights, b, query)
    tuned_a = algorithm(weights, a)
    tuned_b = algorithm(weights, b)
    right = model(tuned_a, [], query) - model(tuned_b, [], query)
    return left, right
