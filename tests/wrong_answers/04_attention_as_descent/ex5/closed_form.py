"""The closed form with the inverse of S, which need not exist and is insisted on.

verdict: rejected
found: hidden
says: singular
"""

import torch


def newton_schulz(s, alpha, steps):
    if (torch.linalg.matrix_rank(s) < s.shape[-1]).any():  # whether inv notices hangs on rounding
        raise ValueError("S is singular")
    identity = torch.eye(s.shape[-1], dtype=s.dtype)
    missing = torch.linalg.matrix_power(identity - alpha * s @ s, 2**steps)
    return (identity - missing) @ torch.linalg.inv(s)


def best_matching_steps(model, algorithm, targets):
    similarity = torch.cosine_similarity(algorithm - targets, model - targets, dim=-1).mean(-1)
    best = int(similarity.argmax())
    return best, float(similarity[best])
