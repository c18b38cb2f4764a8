"""One cosine for all sequences.

verdict: rejected
found: in sight
says: one cosine for all sequences
"""

import torch


def newton_schulz(s, alpha, steps):
    m = alpha * s
    for _ in range(steps):
        m = 2 * m - m @ s @ m
    return m


def best_matching_steps(model, algorithm, targets):
    similarity = algorithm - targets
    errors = (model - targets).flatten()
    similarity = torch.cosine_similarity(similarity.flatten(1), errors, dim=-1)
    best = int(similarity.argmax())
    return best, float(similarity[best])
