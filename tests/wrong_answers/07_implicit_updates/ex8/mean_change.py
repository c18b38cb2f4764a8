"""The mean of the changes.

verdict: rejected
found: hidden
says: and queries x and -x
"""

import torch


def best_outputs(omega, d, n_context, noise_variance):
    products = torch.outer(omega, omega)
    share = (1 + noise_variance) / n_context
    return torch.linalg.solve(products + share * (d * products).exp(), omega)


def is_debiased(learner, xs, ys, x_query):
    moved = learner(xs, ys + 1, x_query) - learner(xs, ys, x_query)
    return moved.mean().abs() < 1e-6
