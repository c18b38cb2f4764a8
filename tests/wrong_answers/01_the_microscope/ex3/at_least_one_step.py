"""Zero steps are taken for one.

verdict: rejected
found: hidden
says: no step should leave W0
"""

import torch


def gradient_descent(xs, ys, step_size, steps, initial_weights=None):
    batch, n, d = xs.shape
    weights = initial_weights
    if weights is None:
        weights = torch.zeros(batch, ys.shape[2], d, dtype=xs.dtype)
    for _ in range(max(steps, 1)):
        gradient = (xs @ weights.mT - ys).mT @ xs / n
        weights = weights - step_size * gradient
    return weights
