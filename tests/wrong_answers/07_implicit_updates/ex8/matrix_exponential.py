"""The exponential of the matrix.

verdict: rejected
found: in sight
says: You take the matrix exponential
"""

import torch


def best_outputs(omega, d, n_context, noise_variance):
    products = torch.outer(omega, omega)
    share = (1 + noise_variance) / n_context
    return torch.linalg.solve(products + share * torch.linalg.matrix_exp(d * products), omega)


def is_debiased(learner, xs, ys, x_query):
    moved = learner(xs, ys + 1, x_query) - learner(xs, ys, x_query)
    return moved.abs().max() < 1e-6
