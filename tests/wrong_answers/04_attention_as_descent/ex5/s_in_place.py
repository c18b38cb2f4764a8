"""The argument is used as working memory.

verdict: rejected
found: in sight
says: changed its argument `s` in place
"""

import torch


def newton_schulz(s, alpha, steps):
    first = s.clone()
    s *= alpha
    m, s = s, first
    for _ in range(steps):
        m = 2 * m - m @ s @ m
    return m


def best_matching_steps(model, algorithm, targets):
    similarity = torch.cosine_similarity(algorithm - targets, model - targets, dim=-1).mean(-1)
    best = int(similarity.argmax())
    return best, float(similarity[best])
