"""Written with the inverse of the covariance, which need not exist.

verdict: rejected
found: hidden
says: rank 2
"""

import torch


def optimal_preconditioner(covariance, n_train):
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    gamma = (1 + 1 / n_train) * covariance + covariance.trace() / n_train * identity
    inverse = torch.linalg.inv(covariance)
    return inverse @ torch.linalg.inv(gamma @ inverse)


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    preconditioner = optimal_preconditioner(covariance, n_train)
    return x_query @ preconditioner @ (xs.mT @ ys) / xs.shape[1]
