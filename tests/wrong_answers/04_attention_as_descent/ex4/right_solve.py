"""A linear system for each query, in loops and single precision.

verdict: accepted
"""

import torch


def optimal_preconditioner(covariance, n_train):
    covariance = covariance.float()
    d = len(covariance)
    gamma = covariance.clone()
    for a in range(d):
        for b in range(d):
            gamma[a, b] += covariance[a, b] / n_train
            if a == b:
                gamma[a, b] += sum(covariance[c, c] for c in range(d)) / n_train
    return torch.linalg.solve(gamma, torch.eye(d, dtype=gamma.dtype))


def optimal_prediction(xs, ys, x_query, covariance, n_train):
    xs, ys, x_query = xs.float(), ys.float(), x_query.float()
    g, m = optimal_preconditioner(covariance, n_train), xs.shape[1]
    rows = []
    for b in range(len(xs)):
        slope = sum(torch.outer(x, y) for x, y in zip(xs[b], ys[b], strict=True)) / m
        rows.append(torch.stack([slope.T @ g.T @ x for x in x_query[b]]))
    return torch.stack(rows)
