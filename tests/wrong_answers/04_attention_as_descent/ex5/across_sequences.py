"""The cosine over the wrong axis.

verdict: rejected
found: in sight
says: across the sequences at each position
"""

import torch


def newton_schulz(s, alpha, steps):
    m = alpha * s
    for _ in range(steps):
        m = 2 * m - m @ s @ m
    return m


def best_matching_steps(model, algorithm, targets):
    similarity = torch.cosine_similarity(algorithm - targets, model - targets, dim=-2).mean(-1)
    best = int(similarity.argmax())
    return best, float(similarity[best])
