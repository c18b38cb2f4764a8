"""In the eigenbasis of the covariance.

verdict: accepted
"""

import torch


def optimal_preconditioner(covariance, n_train):
    values, vectors = torch.linalg.eigh(covariance)
    gamma = values + (values + values.sum()) / n_train
    return vectors @ torch.diag(1 / gamma) @ vectors.T


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    mean = torch.einsum("bnd,bnm->bdm", xs, ys) / xs.shape[1]
    g = optimal_preconditioner(covariance, n_train)
    return torch.einsum("bqd,de,bem->bqm", x_query, g, mean)
