"""The smallest distance.

verdict: rejected
found: in sight
says: smallest distance
"""

import torch


def newton_schulz(s, alpha, steps):
    m = alpha * s
    for _ in range(steps):
        m = 2 * m - m @ s @ m
    return m


def best_matching_steps(model, algorithm, targets):
    best = int((algorithm - model).square().mean((1, 2)).argmin())
    errors = algorithm[best] - targets
    return best, float(torch.cosine_similarity(errors, model - targets, dim=-1).mean())
