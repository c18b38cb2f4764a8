"""The key is the current state.

verdict: rejected
found: in sight
says: predicts a copy
"""

import torch


def next_step_weights(d, step_size, initial_weights):
    first, now, before = (slice(k * d, (k + 1) * d) for k in range(3))
    values, scores = torch.zeros(3 * d, 3 * d), torch.zeros(3 * d, 3 * d)
    values[first, now] = step_size * torch.eye(d)
    values[first, before] = -step_size * initial_weights
    scores[now, now] = torch.eye(d)
    return values, scores
