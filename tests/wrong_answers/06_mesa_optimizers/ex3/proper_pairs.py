"""The pairs that were meant, and no others.

verdict: rejected
found: in sight
says: the proper pairs (x_i, y_i) alone
"""

import torch


def next_token_predictions(xs, ys, regularization):
    prior = torch.eye(xs.shape[-1]) / regularization
    predictions = []
    for k in range(xs.shape[1]):
        a, b = xs[:, :k], ys[:, :k]
        phi = torch.linalg.solve(a.mT @ a + prior, a.mT @ b).mT
        predictions.append((phi @ xs[:, k, :, None])[..., 0])
    return torch.stack(predictions, 1)


def error_curve(predictions, ys):
    curve = (predictions - ys).square().mean((0, 2)) / 2
    return curve, int(curve.argmax()) + 1
