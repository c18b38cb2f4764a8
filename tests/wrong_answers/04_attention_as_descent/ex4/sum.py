"""No average.

verdict: rejected
found: in sight
says: add up the test context
"""

import torch


def optimal_preconditioner(covariance, n_train):
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    gamma = (1 + 1 / n_train) * covariance + covariance.trace() / n_train * identity
    return torch.linalg.inv(gamma)


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    preconditioner = optimal_preconditioner(covariance, n_train)
    return x_query @ preconditioner @ (xs.mT @ ys)
