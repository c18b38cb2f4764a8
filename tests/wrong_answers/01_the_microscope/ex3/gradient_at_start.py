"""Every step uses the gradient at W0.

verdict: rejected
found: in sight
says: uses the gradient at W0
"""

import torch


def gradient_descent(xs, ys, step_size, steps, initial_weights=None):
    batch, n, d = xs.shape
    weights = initial_weights
    if weights is None:
        weights = torch.zeros(batch, ys.shape[2], d, dtype=xs.dtype)
    start = weights
    for _ in range(steps):
        gradient = (xs @ start.mT - ys).mT @ xs / n
        weights = weights - step_size * gradient
    return weights
