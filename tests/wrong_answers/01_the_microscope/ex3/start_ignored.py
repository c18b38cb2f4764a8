"""W0 is not used.

verdict: rejected
found: in sight
says: starts at 0
"""

import torch


def gradient_descent(xs, ys, step_size, steps, initial_weights=None):
    batch, n, d = xs.shape
    weights = torch.zeros(batch, ys.shape[2], d, dtype=xs.dtype)
    for _ in range(steps):
        gradient = (xs @ weights.mT - ys).mT @ xs / n
        weights = weights - step_size * gradient
    return weights
