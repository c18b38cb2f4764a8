"""Divided by the size of the vocabulary.

verdict: rejected
found: in sight
says: size of the vocabulary
"""

import torch


def token_overlap(p, q, k):
    masks = []
    for law in (p, q):
        first = law.argsort(dim=-1, descending=True, stable=True)[..., :k]
        masks.append(torch.zeros_like(law).scatter(-1, first, 1))
    return (masks[0] * masks[1]).mean(-1)
