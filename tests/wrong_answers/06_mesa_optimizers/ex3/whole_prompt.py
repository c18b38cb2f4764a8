"""Every prediction uses all pairs.

verdict: rejected
found: in sight
says: uses the whole prompt
"""

import torch


def next_token_predictions(xs, ys, regularization):
    tokens = torch.stack([xs, ys], 2).flatten(1, 2)
    prior = torch.eye(xs.shape[-1]) / regularization
    predictions = []
    for k in range(xs.shape[1]):
        a, b = tokens[:, :-1], tokens[:, 1:]
        phi = torch.linalg.solve(a.mT @ a + prior, a.mT @ b).mT
        predictions.append((phi @ xs[:, k, :, None])[..., 0])
    return torch.stack(predictions, 1)


def error_curve(predictions, ys):
    curve = (predictions - ys).square().mean((0, 2)) / 2
    return curve, int(curve.argmax()) + 1
