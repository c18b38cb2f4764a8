"""The full-batch step moves between the examples.

verdict: rejected
found: in sight
says: moves theta between the examples
"""

import torch


def full_batch_step(theta, gradient, examples, step_size):
    for one in examples:
        theta = theta - step_size / len(examples) * gradient(theta, one)
    return theta


def one_epoch(theta, gradient, examples, step_size, order):
    for i in order:
        theta = theta - step_size * gradient(theta, examples[i])
    return theta


def expected_epoch(theta, gradient, hessian, examples, step_size, order):
    end, passed = theta, torch.zeros_like(theta)
    for i in order:
        g, h = gradient(theta, examples[i]), hessian(theta, examples[i])
        end = end - step_size * (g - step_size * h @ passed)
        passed = passed + g
    return end
