"""Loops over heads, in single precision; a large constant.

verdict: accepted
"""

import torch


def best_outputs(omega, d, n_context, noise_variance):
    heads = omega.tolist()
    matrix = torch.zeros(len(heads), len(heads), dtype=torch.float32)
    for g, a in enumerate(heads):
        for h, b in enumerate(heads):
            noise = (1 + noise_variance) / n_context
            matrix[g, h] = a * b + noise * torch.tensor(d * a * b).exp()
    return torch.linalg.inv(matrix) @ omega.float()


def is_debiased(learner, xs, ys, x_query):
    before, after = learner(xs, ys, x_query), learner(xs, ys - 50.0, x_query)
    for a, b in zip(before.flatten().tolist(), after.flatten().tolist(), strict=True):
        if abs(a - b) > 50 * 1e-6:
            return False
    return True
