"""The derivative by autograd, of the sum of the contexts' losses.

verdict: accepted
"""

import torch


def gradient_descent(xs, ys, step_size, steps, initial_weights=None):
    batch, n, d = xs.shape
    if initial_weights is None:
        weights = torch.zeros(batch, ys.shape[2], d)
    else:
        weights = initial_weights.clone()
    for _ in range(steps):
        weights = weights.detach().requires_grad_()
        losses = (torch.einsum("bmd,bnd->bnm", weights, xs) - ys).pow(2).sum((1, 2)) / (2 * n)
        losses.sum().backward()
        weights = weights.detach() - step_size * weights.grad
    return weights
