"""The sides exchanged.

verdict: rejected
found: in sight
says: Your two sides are exchanged
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[i] for i in first]
    b = [demonstrations[i] for i in second]
    left = model(weights, a, query) - model(weights, b, query)
    tuned_a = algorithm(weights, a)
    tuned_b = algorithm(weights, b)
    right = model(tuned_a, [], query) - model(tuned_b, [], query)
    return right, left
