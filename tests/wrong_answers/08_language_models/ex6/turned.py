"""Second minus first.

verdict: rejected
found: in sight
says: the second order minus the first
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[i] for i in first]
    b = [demonstrations[i] for i in second]
    left = model(weights, b, query) - model(weights, a, query)
    tuned_a = algorithm(weights, a)
    tuned_b = algorithm(weights, b)
    right = model(tuned_b, [], query) - model(tuned_a, [], query)
    return left, right
