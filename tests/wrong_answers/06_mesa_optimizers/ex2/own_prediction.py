"""The residual uses the first channel, the prediction of the next state.

verdict: rejected
found: in sight
says: You subtract the first channel
"""

import torch


def next_step_weights(d, step_size, initial_weights):
    first, now, before = (slice(k * d, (k + 1) * d) for k in range(3))
    values, scores = torch.zeros(3 * d, 3 * d), torch.zeros(3 * d, 3 * d)
    values[first, first] = -step_size * torch.eye(d)
    values[first, now] = step_size * torch.eye(d)
    values[first, before] = 0
    scores[before, now] = torch.eye(d)
    return values, scores
