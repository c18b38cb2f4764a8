"""The curvature is averaged over the examples.

verdict: rejected
found: in sight
says: not right yet
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
    h = sum(hessian(theta, one) for one in examples) / len(examples)
    end, passed = theta, torch.zeros_like(theta)
    for i in order:
        end = end - step_size * (g[i] - step_size * h @ passed)
        passed = passed + g[i]
    return end
