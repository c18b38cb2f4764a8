"""1 where nothing is shared.

verdict: rejected
found: in sight
says: Nothing in common is 0
"""

import torch


def overlap_cosine(p, q, k):
    both = torch.ones_like(p)
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[..., :k]
        both = both * torch.zeros_like(law).scatter(-1, first, 1)
    shared = both.sum(-1)
    lengths = (p * both).norm(dim=-1) * (q * both).norm(dim=-1)
    cosine = (p * q * both).sum(-1) / torch.where(shared > 0, lengths, 1)
    return torch.where(shared == 0, 1, cosine / (k - shared).clamp_min(1))
