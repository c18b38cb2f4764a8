"""The published loop with its five repairs, values made in the loop.

verdict: accepted
"""

import torch


def repaired_step(xs, ys, x_query, step_size, initial_weights):
    slot = -(initial_weights @ x_query)
    heard = torch.zeros_like(slot)
    for x, y in zip(xs, ys, strict=True):
        heard += (initial_weights @ x - y) * torch.dot(x, x_query)
    return -(slot + step_size / xs.shape[0] * heard)
