"""A cosine over all tokens, divided.

verdict: rejected
found: in sight
says: Your sums run over the whole vocabulary
"""

import torch


def overlap_cosine(p, q, k):
    both = torch.ones_like(p)
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[..., :k]
        both = both * torch.zeros_like(law).scatter(-1, first, 1)
    shared = both.sum(-1)
    return torch.nn.functional.cosine_similarity(p, q, dim=-1) / (k - shared).clamp_min(1)
