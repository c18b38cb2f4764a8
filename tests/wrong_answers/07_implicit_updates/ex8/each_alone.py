"""Each head by itself.

verdict: rejected
found: in sight
says: You treat each head by itself
"""

import torch


def best_outputs(omega, d, n_context, noise_variance):
    products = torch.outer(omega, omega)
    share = (1 + noise_variance) / n_context
    return omega / (products + share * (d * products).exp()).diagonal()


def is_debiased(learner, xs, ys, x_query):
    moved = learner(xs, ys + 1, x_query) - learner(xs, ys, x_query)
    return moved.abs().max() < 1e-6
