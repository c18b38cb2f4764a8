"""Averaged over both directions.

verdict: rejected
found: in sight
says: averaged over both directions
"""

import torch


def full_batch_step(theta, gradient, examples, step_size):
    return theta - step_size * torch.stack([gradient(theta, one) for one in examples]).mean(0)


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
            if a != b:
                end = end + step_size**2 / 2 * h[i] @ g[j]
    return end
