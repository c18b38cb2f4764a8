"""Without tokens: W1 x_q, in the order of the sum.

verdict: accepted
"""


def repaired_step(xs, ys, x_query, step_size, initial_weights):
    errors = xs @ initial_weights.mT - ys
    scores = xs @ x_query
    return initial_weights @ x_query - step_size / len(xs) * (scores @ errors)
