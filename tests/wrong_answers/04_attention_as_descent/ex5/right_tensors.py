"""Other names, tensors as numbers, residuals with the other sign.

verdict: accepted
"""

import torch


def newton_schulz(s, alpha, steps):
    identity = torch.eye(s.shape[-1], dtype=s.dtype)
    m = s * alpha
    while steps > 0:
        m = m @ (2 * identity - s @ m)
        steps -= 1
    return m


def best_matching_steps(model, algorithm, targets):
    mine, other = targets - model, targets - algorithm
    dots = torch.einsum("bt,kbt->kb", mine, other)
    lengths = mine.norm(dim=-1) * other.norm(dim=-1)
    value, index = (dots / lengths).mean(dim=1).max(dim=0)
    return index, value
