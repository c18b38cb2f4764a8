"""In context without demonstrations.

verdict: rejected
found: in sight
says: asks the model without the demonstrations
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[i] for i in first]
    b = [demonstrations[i] for i in second]
    left = model(weights, [], query) - model(weights, [], query)
    tuned_a = algorithm(weights, a)
    tuned_b = algorithm(weights, b)
    right = model(tuned_a, [], query) - model(tuned_b, [], query)
    return left, right
