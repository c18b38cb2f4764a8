"""Direction by direction, with loops over prompts and queries.

verdict: accepted
"""

import torch


def plateau_losses(covariance, n_context):
    values = sorted(torch.linalg.eigvalsh(covariance).tolist(), reverse=True)
    losses = [sum(values)]
    for value in values:
        fluctuation = (value + sum(values)) / n_context
        losses.append(losses[-1] - value * value / (value + fluctuation))
    return torch.tensor(losses, dtype=torch.float32)


def plateau_predictions(covariance, components, xs, ys, x_query):
    values, vectors = torch.linalg.eigh(covariance)
    batch, n, d = xs.shape
    out = torch.zeros(batch, x_query.shape[1], 1)
    for b in range(batch):
        beta = sum(y * x for x, y in zip(xs[b], ys[b], strict=True)) / n
        for q, query in enumerate(x_query[b]):
            for k in range(d - components, d):
                strength = 1 / (values[k] + (values[k] + values.sum()) / n)
                out[b, q] += strength * (beta @ vectors[:, k]) * (vectors[:, k] @ query)
    return out
