"""The noise is missing.

verdict: rejected
found: in sight
says: The noise is missing
"""

import torch


def best_outputs(omega, d, n_context, noise_variance):
    products = torch.outer(omega, omega)
    share = 1 / n_context
    return torch.linalg.solve(products + share * (d * products).exp(), omega)


def is_debiased(learner, xs, ys, x_query):
    moved = learner(xs, ys + 1, x_query) - learner(xs, ys, x_query)
    return moved.abs().max() < 1e-6
