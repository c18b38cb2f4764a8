"""Each token is absorbed into the changed weights.

verdict: rejected
found: in sight
says: You absorb each token into the weights changed before
"""

import torch


def token_path(w, readings):
    batch, more, d = readings.shape
    now = w.expand(batch, *w.shape)
    weights, gradients = [now], []
    step_size = 1 / readings[:, 0].square().sum(-1)
    for i in range(more - 1):
        before, after = readings[:, i], readings[:, i + 1]
        left = (now @ (after - before)[..., None]) / before.square().sum(-1)[:, None, None]
        now = now + left * before[:, None, :]
        gradients.append((weights[-1] - now) / step_size[:, None, None])
        weights.append(now)
    return torch.stack(weights, 1), step_size, torch.stack(gradients, 1)
