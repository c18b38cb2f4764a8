"""A cosine over all tokens.

verdict: rejected
found: in sight
says: cosine over the whole vocabulary
"""

import torch


def overlap_cosine(p, q, k):
    return torch.nn.functional.cosine_similarity(p, q, dim=-1)
