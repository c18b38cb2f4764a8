"""The preconditioner is made for the test context.

verdict: rejected
found: in sight
says: length of the test context
"""

import torch


def optimal_preconditioner(covariance, n_train):
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    gamma = (1 + 1 / n_train) * covariance + covariance.trace() / n_train * identity
    return torch.linalg.inv(gamma)


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    preconditioner = optimal_preconditioner(covariance, xs.shape[1])
    return x_query @ preconditioner @ (xs.mT @ ys) / xs.shape[1]
