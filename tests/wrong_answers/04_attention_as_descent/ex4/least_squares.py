"""Least squares on the test context.

verdict: rejected
found: in sight
says: least-squares prediction
"""

import torch


def optimal_preconditioner(covariance, n_train):
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    gamma = (1 + 1 / n_train) * covariance + covariance.trace() / n_train * identity
    return torch.linalg.inv(gamma)


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    return x_query @ torch.linalg.pinv(xs) @ ys
