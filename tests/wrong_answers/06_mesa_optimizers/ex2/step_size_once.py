"""The block with Phi_0 has no step size.

verdict: rejected
found: in sight
says: The step size is missing
"""

import torch


def next_step_weights(d, step_size, initial_weights):
    first, now, before = (slice(k * d, (k + 1) * d) for k in range(3))
    values, scores = torch.zeros(3 * d, 3 * d), torch.zeros(3 * d, 3 * d)
    values[first, now] = step_size * torch.eye(d)
    values[first, before] = -initial_weights
    scores[before, now] = torch.eye(d)
    return values, scores
