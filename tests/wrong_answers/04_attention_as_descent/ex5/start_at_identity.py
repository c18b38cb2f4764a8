"""M_0 is alpha times the identity.

verdict: rejected
found: in sight
says: alpha times the identity
"""

import torch


def newton_schulz(s, alpha, steps):
    m = alpha * torch.eye(s.shape[-1], dtype=s.dtype).expand_as(s)
    for _ in range(steps):
        m = 2 * m - m @ s @ m
    return m


def best_matching_steps(model, algorithm, targets):
    similarity = torch.cosine_similarity(algorithm - targets, model - targets, dim=-1).mean(-1)
    best = int(similarity.argmax())
    return best, float(similarity[best])
