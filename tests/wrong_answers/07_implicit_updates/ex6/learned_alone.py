"""What has been learned, not what is left.

verdict: rejected
found: in sight
says: The loss is the trace minus that
"""

import torch


def plateau_losses(covariance, n_context):
    values = torch.linalg.eigvalsh(covariance).flip(0)
    rho = 1 / (1 + (1 + values.sum() / values) / n_context)
    learned = (values * rho).cumsum(0)
    return torch.cat([torch.zeros(1), learned])


def plateau_predictions(covariance, components, xs, ys, x_query):
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    share = 1 / (1 + (1 + values.sum() / values) / xs.shape[1])
    chosen = vectors[:, :components]
    m = chosen * (share / values)[:components] @ chosen.mT
    beta = (ys * xs).mean(1)
    return x_query @ m.mT @ beta[:, :, None]
