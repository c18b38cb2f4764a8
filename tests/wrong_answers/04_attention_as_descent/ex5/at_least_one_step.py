"""The predictions before the first step are no candidate.

verdict: rejected
found: hidden
says: best number of steps
"""

import torch


def newton_schulz(s, alpha, steps):
    m = alpha * s
    for _ in range(steps):
        m = 2 * m - m @ s @ m
    return m


def best_matching_steps(model, algorithm, targets):
    similarity = torch.cosine_similarity(algorithm - targets, model - targets, dim=-1).mean(-1)
    best = min(max(int(similarity.argmax()), 1), len(similarity) - 1)
    return best, float(similarity[best])
