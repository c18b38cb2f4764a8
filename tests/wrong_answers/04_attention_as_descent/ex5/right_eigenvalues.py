"""Newton's iteration on eigenvalues; cosines in loops; single precision.

verdict: accepted
"""

import torch


def newton_schulz(s, alpha, steps):
    values, vectors = torch.linalg.eigh(s.float())
    m = alpha * values
    for _ in range(steps):
        m = m * (2 - values * m)
    return vectors @ torch.diag_embed(m) @ vectors.mT


def best_matching_steps(model, algorithm, targets):
    best, largest = 0, -2.0
    for k, predictions in enumerate(algorithm):
        total = 0.0
        for mine, other, target in zip(model, predictions, targets, strict=True):
            a, b = (mine - target).float(), (other - target).float()
            total += torch.dot(a, b).item() / (a.norm() * b.norm()).item()
        if total / len(model) > largest:
            best, largest = k, total / len(model)
    return best, largest
