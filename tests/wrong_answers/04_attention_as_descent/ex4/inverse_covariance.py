"""The limit of long contexts.

verdict: rejected
found: in sight
says: inverse of the covariance
"""

import torch


def optimal_preconditioner(covariance, n_train):
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    gamma = covariance + 0 * identity
    return torch.linalg.inv(gamma)


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    preconditioner = optimal_preconditioner(covariance, n_train)
    return x_query @ preconditioner @ (xs.mT @ ys) / xs.shape[1]
