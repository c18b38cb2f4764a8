"""X^+ X, the projection in the space of weights.

verdict: rejected
found: in sight
says: should have shape
"""

import torch


def hat_matrix(xs):
    return torch.linalg.pinv(xs) @ xs
