"""The derivative of the square without the half.

verdict: rejected
found: in sight
says: twice too long
"""

import torch


def gradient_descent(xs, ys, step_size, steps, initial_weights=None):
    batch, n, d = xs.shape
    weights = initial_weights
    if weights is None:
        weights = torch.zeros(batch, ys.shape[2], d, dtype=xs.dtype)
    for _ in range(steps):
        gradient = 2 * (xs @ weights.mT - ys).mT @ xs / n
        weights = weights - step_size * gradient
    return weights
