"""In context with changed weights.

verdict: rejected
found: in sight
says: uses weights that the algorithm has changed
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[i] for i in first]
    b = [demonstrations[i] for i in second]
    left = model(algorithm(weights, a), a, query) - model(algorithm(weights, b), b, query)
    tuned_a = algorithm(weights, a)
    tuned_b = algorithm(weights, b)
    right = model(tuned_a, [], query) - model(tuned_b, [], query)
    return left, right
