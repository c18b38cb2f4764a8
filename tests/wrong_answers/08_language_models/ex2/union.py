"""Over the union.

verdict: rejected
found: in sight
says: over the union of the top sets
"""

import torch


def overlap_cosine(p, q, k):
    either, both = torch.zeros_like(p), torch.ones_like(p)
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[..., :k]
        mask = torch.zeros_like(law).scatter(-1, first, 1)
        either, both = torch.maximum(either, mask), both * mask
    cosine = torch.nn.functional.cosine_similarity(p * either, q * either, dim=-1)
    return cosine / (k - both.sum(-1)).clamp_min(1)
