"""Tokens that either has.

verdict: rejected
found: in sight
says: You count the union
"""

import torch


def token_overlap(p, q, k):
    masks = []
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[..., :k]
        masks.append(torch.zeros_like(law).scatter(-1, first, 1))
    return torch.maximum(masks[0], masks[1]).sum(-1) / k
