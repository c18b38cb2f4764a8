"""The pair (y_(k-1), x_k) is left out.

verdict: rejected
found: in sight
says: leaves the pair (y_(k-1), x_k) out
"""

import torch


def next_token_predictions(xs, ys, regularization):
    tokens = torch.stack([xs, ys], 2).flatten(1, 2)
    prior = torch.eye(xs.shape[-1]) / regularization
    predictions = []
    for k in range(xs.shape[1]):
        a, b = tokens[:, : max(2 * k - 1, 0)], tokens[:, 1 : max(2 * k, 1)]
        phi = torch.linalg.solve(a.mT @ a + prior, a.mT @ b).mT
        predictions.append((phi @ xs[:, k, :, None])[..., 0])
    return torch.stack(predictions, 1)


def error_curve(predictions, ys):
    curve = (predictions - ys).square().mean((0, 2)) / 2
    return curve, int(curve.argmax()) + 1
