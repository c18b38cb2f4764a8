"""One changed model, asked with the demonstrations.

verdict: rejected
found: in sight
says: come from one changed model, and
"""


def theorem_gap(model, algorithm, weights, demonstrations, query, first, second):
    a = [demonstrations[i] for i in first]
    b = [demonstrations[i] for i in second]
    left = model(weights, a, query) - model(weights, b, query)
    tuned_a = algorithm(weights, a)
    tuned_b = tuned_a
    right = model(tuned_a, a, query) - model(tuned_b, b, query)
    return left, right
