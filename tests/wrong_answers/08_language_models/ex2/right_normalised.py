"""Both made to sum to 1 on the shared tokens, which a cosine does not see; single precision.

verdict: accepted
"""

import torch


def overlap_cosine(p, q, k):
    p, q = p.float(), q.float()
    both = torch.ones_like(p, dtype=torch.bool)
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[:, :k]
        top = torch.zeros_like(both)
        top[torch.arange(len(p))[:, None], first] = True
        both = both & top
    shared = both.sum(-1)
    a, b = (torch.where(both, law, 0.0) for law in (p, q))
    a, b = (v / v.sum(-1, keepdim=True).clamp_min(1e-30) for v in (a, b))
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)
    return torch.where(shared == 0, 0.0, cosine) / (k - shared).clamp_min(1)
