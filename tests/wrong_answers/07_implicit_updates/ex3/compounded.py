"""Each token's update is computed with W_i.

verdict: rejected
found: in sight
says: You compute each token's update with W_i
"""

import torch


def token_path(w, readings):
    start = readings[:, 0]
    step_size = 1 / start.square().sum(-1)
    weights, gradients = [w.expand(len(readings), *w.shape)], []
    for before, after in zip(readings.unbind(1)[:-1], readings.unbind(1)[1:], strict=True):
        gradient = weights[-1] @ (before - after)[..., None] * start[:, None, :]
        gradients.append(gradient)
        weights.append(weights[-1] - step_size[:, None, None] * gradient)
    return torch.stack(weights, 1), step_size, torch.stack(gradients, 1)
