"""Uphill.

verdict: rejected
found: in sight
says: full-batch step goes uphill
"""

import torch


def full_batch_step(theta, gradient, examples, step_size):
    return theta + step_size * torch.stack([gradient(theta, one) for one in examples]).mean(0)


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
