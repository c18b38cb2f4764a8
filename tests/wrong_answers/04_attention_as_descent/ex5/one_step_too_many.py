"""M_0 counted as the first step.

verdict: rejected
found: in sight
says: steps where 1 were asked for
"""

import torch


def newton_schulz(s, alpha, steps):
    m = alpha * s
    for _ in range(steps + 1):
        m = 2 * m - m @ s @ m
    return m


def best_matching_steps(model, algorithm, targets):
    similarity = torch.cosine_similarity(algorithm - targets, model - targets, dim=-1).mean(-1)
    best = int(similarity.argmax())
    return best, float(similarity[best])
