"""The prior has the weight lambda.

verdict: rejected
found: in sight
says: upside down
"""

import torch


def next_token_predictions(xs, ys, regularization):
    tokens = torch.stack([xs, ys], 2).flatten(1, 2)
    prior = torch.eye(xs.shape[-1]) * regularization
    predictions = []
    for k in range(xs.shape[1]):
        a, b = tokens[:, : 2 * k], tokens[:, 1 : 2 * k + 1]
        phi = torch.linalg.solve(a.mT @ a + prior, a.mT @ b).mT
        predictions.append((phi @ xs[:, k, :, None])[..., 0])
    return torch.stack(predictions, 1)


def error_curve(predictions, ys):
    curve = (predictions - ys).square().mean((0, 2)) / 2
    return curve, int(curve.argmax()) + 1
