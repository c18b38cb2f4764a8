"""Probabilities rounded before they are ranked.

verdict: rejected
found: hidden
says: they are no ties
"""

import torch


def token_overlap(p, q, k):
    masks = []
    for law in (p, q):
        first = law.mul(1e4).round().argsort(dim=-1, descending=True, stable=True)[..., :k]
        masks.append(torch.zeros_like(law).scatter(-1, first, 1))
    return (masks[0] * masks[1]).sum(-1) / k
