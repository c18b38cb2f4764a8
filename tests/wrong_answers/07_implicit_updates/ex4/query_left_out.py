"""The mean of the context alone.

verdict: rejected
found: in sight
says: You leave the query out
"""

import torch


def untrained_readings(context, x):
    means = context.cumsum(1) / torch.arange(1, context.shape[1] + 1)[:, None]
    return torch.cat([x[:, None], means], 1)


def increment_slope(w, readings, first):
    moved = ((readings[:, 1:] - readings[:, :-1]) @ w.mT).norm(dim=-1)
    sizes = (moved / readings[:, :1].norm(dim=-1)).mean(0)
    tokens = torch.arange(first, len(sizes) + 1).log()
    tokens = tokens - tokens.mean()
    return sizes, tokens @ sizes[first - 1 :].log() / tokens.square().sum()


def has_learned(losses):
    return losses[-1] <= losses[0] / 2
