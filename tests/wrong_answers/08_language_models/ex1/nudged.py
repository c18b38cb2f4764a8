"""Ties broken by taking a little off each token's probability.

verdict: rejected
found: hidden
says: they are no ties
"""

import torch


def token_overlap(p, q, k):
    masks = []
    for law in (p, q):
        first = (law - 1e-5 * torch.arange(law.shape[-1])).argsort(dim=-1, descending=True)[..., :k]
        masks.append(torch.zeros_like(law).scatter(-1, first, 1))
    return (masks[0] * masks[1]).sum(-1) / k
