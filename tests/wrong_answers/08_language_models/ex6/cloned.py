"""The weights are taken for a tensor.

verdict: rejected
found: in sight
says: has no attribute 'clone'
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[i] for i in first]
    b = [demonstrations[i] for i in second]
    left = model(weights, a, query) - model(weights, b, query)
    tuned_a = algorithm(weights.clone(), a)
    tuned_b = algorithm(weights.clone(), b)
    right = model(tuned_a, [], query) - model(tuned_b, [], query)
    return left, right
