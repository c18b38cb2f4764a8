"""The step is written into the channel of s_t.

verdict: rejected
found: in sight
says: changes the channels
"""

import torch


def next_step_weights(d, step_size, initial_weights):
    first, now, before = (slice(k * d, (k + 1) * d) for k in range(3))
    values, scores = torch.zeros(3 * d, 3 * d), torch.zeros(3 * d, 3 * d)
    values[now, now] = step_size * torch.eye(d)
    values[now, before] = -step_size * initial_weights
    scores[before, now] = torch.eye(d)
    return values, scores
