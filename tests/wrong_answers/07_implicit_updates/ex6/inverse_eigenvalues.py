"""Least squares in the subspace.

verdict: rejected
found: in sight
says: You invert the eigenvalues
"""

import torch


def plateau_losses(covariance, n_context):
    values = torch.linalg.eigvalsh(covariance).flip(0)
    rho = 1 / (1 + (1 + values.sum() / values) / n_context)
    learned = (values * rho).cumsum(0)
    return values.sum() - torch.cat([torch.zeros(1), learned])


def plateau_predictions(covariance, components, xs, ys, x_query):
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    chosen = vectors[:, :components]
    m = chosen * (1 / values)[:components] @ chosen.mT
    beta = (ys * xs).mean(1)
    return x_query @ m.mT @ beta[:, :, None]
