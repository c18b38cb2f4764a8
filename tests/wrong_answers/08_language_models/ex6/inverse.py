"""Orders read the other way round.

verdict: rejected
found: in sight
says: the other way round
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[first.index(i)] for i in range(len(first))]
    b = [demonstrations[second.index(i)] for i in range(len(second))]
    left = model(weights, a, query) - model(weights, b, query)
    tuned_a = algorithm(weights, a)
    tuned_b = algorithm(weights, b)
    right = model(tuned_a, [], query) - model(tuned_b, [], query)
    return left, right
