"""The query is projected and nothing more.

verdict: rejected
found: in sight
says: You project
"""

import torch


def plateau_losses(covariance, n_context):
    values = torch.linalg.eigvalsh(covariance).flip(0)
    rho = 1 / (1 + (1 + values.sum() / values) / n_context)
    learned = (values * rho).cumsum(0)
    return values.sum() - torch.cat([torch.zeros(1), learned])


def plateau_predictions(covariance, components, xs, ys, x_query):
    values, vectors = torch.linalg.eigh(covariance)
    vectors = vectors.flip(1)
    chosen = vectors[:, :components]
    m = chosen @ chosen.mT
    beta = (ys * xs).mean(1)
    return x_query @ m.mT @ beta[:, :, None]
