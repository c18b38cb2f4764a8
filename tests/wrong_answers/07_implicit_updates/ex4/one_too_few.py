"""Divided by the number of context tokens.

verdict: rejected
found: in sight
says: You divide by i
"""

import torch


def untrained_readings(context, x):
    total = torch.cat([x[:, None], context], 1).cumsum(1)
    return total / torch.arange(total.shape[1]).clamp_min(1)[:, None]


def increment_slope(w, readings, first):
    moved = ((readings[:, 1:] - readings[:, :-1]) @ w.mT).norm(dim=-1)
    sizes = (moved / readings[:, :1].norm(dim=-1)).mean(0)
    tokens = torch.arange(first, len(sizes) + 1).log()
    tokens = tokens - tokens.mean()
    return sizes, tokens @ sizes[first - 1 :].log() / tokens.square().sum()


def has_learned(losses):
    return losses[-1] <= losses[0] / 2
