"""The shift in the keys, a factor passed around, single precision.

verdict: accepted
"""

import torch


def copy_layer(d, m, n_tokens):
    first = 2 * d + m
    width = first + n_tokens
    w_query, w_key = torch.zeros(width, width), torch.zeros(width, width)
    w_value, projection = torch.zeros(width, width), torch.zeros(width, width)
    for j in range(n_tokens):
        w_query[first + j, first + j] = -2.0
    for i in range(n_tokens - 1):
        w_key[first + i + 1, first + i] = 0.5
    for a in range(d):
        w_value[a, a] = 1.0
        projection[d + m + a, a] = -1.0
    return tuple(w.float() for w in (w_query, w_key, w_value, projection))
