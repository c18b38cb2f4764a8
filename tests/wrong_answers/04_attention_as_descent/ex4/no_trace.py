"""The trace term is missing.

verdict: rejected
found: in sight
says: trace term is missing
"""

import torch


def optimal_preconditioner(covariance, n_train):
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    gamma = (1 + 1 / n_train) * covariance + 0 * identity
    return torch.linalg.inv(gamma)


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    preconditioner = optimal_preconditioner(covariance, n_train)
    return x_query @ preconditioner @ (xs.mT @ ys) / xs.shape[1]
