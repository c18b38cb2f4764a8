"""The full solution, and its projection on the learned directions.

verdict: accepted
"""

import torch


def solution(covariance, n):
    one = torch.eye(len(covariance))
    return torch.linalg.inv(covariance + (covariance + covariance.trace() * one) / n)


def directions(covariance, components):
    u, s, vh = torch.linalg.svd(covariance)
    return u[:, :components] @ u[:, :components].mT


def plateau_losses(covariance, n_context):
    out = []
    for m in range(len(covariance) + 1):
        learned = solution(covariance, n_context) @ directions(covariance, m)
        out.append(covariance.trace() - (covariance @ covariance @ learned).trace())
    return torch.stack(out)


def plateau_predictions(covariance, components, xs, ys, x_query):
    m = directions(covariance, components) @ solution(covariance, xs.shape[1])
    return x_query @ m @ xs.mT @ ys / xs.shape[1]
