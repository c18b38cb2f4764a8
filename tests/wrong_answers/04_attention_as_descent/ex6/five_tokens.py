"""Five tokens, as in the visible check.

verdict: rejected
found: hidden
says: 7 token(s)
"""

import torch


def copy_layer(d, m, n_tokens):
    width = 2 * d + m + n_tokens
    position = slice(2 * d + m, width)
    w_query, w_key, w_value = (torch.zeros(width, width) for _ in range(3))
    for j in range(1, min(5, n_tokens)):
        w_query[2 * d + m + j - 1, 2 * d + m + j] = 1
    w_key[position, position] = torch.eye(n_tokens)
    w_value[d + m : 2 * d + m, :d] = torch.eye(d)
    return w_query, w_key, w_value, torch.eye(width)
