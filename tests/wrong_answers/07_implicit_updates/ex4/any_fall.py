"""Any fall of the loss counts.

verdict: rejected
found: in sight
says: Its loss stays where it was
"""

import torch


def untrained_readings(context, x):
    total = torch.cat([x[:, None], context], 1).cumsum(1)
    return total / torch.arange(1, total.shape[1] + 1)[:, None]


def increment_slope(w, readings, first):
    moved = ((readings[:, 1:] - readings[:, :-1]) @ w.mT).norm(dim=-1)
    sizes = (moved / readings[:, :1].norm(dim=-1)).mean(0)
    tokens = torch.arange(first, len(sizes) + 1).log()
    tokens = tokens - tokens.mean()
    return sizes, tokens @ sizes[first - 1 :].log() / tokens.square().sum()


def has_learned(losses):
    return losses[-1] <= losses[0]
