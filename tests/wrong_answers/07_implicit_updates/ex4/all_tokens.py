"""The line begins at the first token.

verdict: rejected
found: in sight
says: Your line uses all tokens
"""

import torch


def untrained_readings(context, x):
    total = torch.cat([x[:, None], context], 1).cumsum(1)
    return total / torch.arange(1, total.shape[1] + 1)[:, None]


def increment_slope(w, readings, first):
    moved = ((readings[:, 1:] - readings[:, :-1]) @ w.mT).norm(dim=-1)
    sizes = (moved / readings[:, :1].norm(dim=-1)).mean(0)
    tokens = torch.arange(1, len(sizes) + 1).log()
    tokens = tokens - tokens.mean()
    return sizes, tokens @ sizes.log() / tokens.square().sum()


def has_learned(losses):
    return losses[-1] <= losses[0] / 2
