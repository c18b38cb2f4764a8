"""The principal components of the prompt.

verdict: rejected
found: in sight
says: principal components of the PROMPT
"""

import torch


def plateau_losses(covariance, n_context):
    values = torch.linalg.eigvalsh(covariance).flip(0)
    rho = 1 / (1 + (1 + values.sum() / values) / n_context)
    learned = (values * rho).cumsum(0)
    return values.sum() - torch.cat([torch.zeros(1), learned])


def plateau_predictions(covariance, components, xs, ys, x_query):
    n = xs.shape[1]
    values, vectors = torch.linalg.eigh(xs.mT @ xs / n)
    values, vectors = values.flip(-1), vectors.flip(-1)
    share = 1 / (1 + (1 + values.sum(-1, keepdim=True) / values) / n)
    chosen = vectors[..., :components]
    m = chosen * (share / values)[:, None, :components] @ chosen.mT
    beta = (ys * xs).mean(1)
    return x_query @ m.mT @ beta[:, :, None]
