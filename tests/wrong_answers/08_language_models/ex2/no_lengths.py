"""A product without lengths.

verdict: rejected
found: in sight
says: without the lengths
"""

import torch


def overlap_cosine(p, q, k):
    both = torch.ones_like(p)
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[..., :k]
        both = both * torch.zeros_like(law).scatter(-1, first, 1)
    shared = both.sum(-1)
    cosine = (p * q * both).sum(-1)
    return cosine / (k - shared).clamp_min(1)
