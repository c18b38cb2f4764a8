"""Autograd of the mean over the whole batch, outputs included.

verdict: rejected
found: in sight
says: largest difference
"""

import torch


def gradient_descent(xs, ys, step_size, steps, initial_weights=None):
    weights = initial_weights
    if weights is None:
        weights = torch.zeros(len(xs), ys.shape[2], xs.shape[2], dtype=xs.dtype)
    for _ in range(steps):
        weights = weights.detach().clone().requires_grad_()
        loss = 0.5 * (xs @ weights.mT - ys).square().mean()
        weights = weights - step_size * torch.autograd.grad(loss, weights)[0]
    return weights.detach()
