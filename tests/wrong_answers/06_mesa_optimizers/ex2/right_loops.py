"""Entry by entry, in single precision.

verdict: accepted
"""

import torch


def next_step_weights(d, step_size, initial_weights):
    values = torch.zeros(3 * d, 3 * d, dtype=torch.float32)
    scores = torch.zeros(3 * d, 3 * d, dtype=torch.float32)
    for r in range(d):
        values[r, d + r] = step_size
        scores[2 * d + r, d + r] = 1
        for c in range(d):
            values[r, 2 * d + c] = -step_size * initial_weights[r, c]
    return values, scores
