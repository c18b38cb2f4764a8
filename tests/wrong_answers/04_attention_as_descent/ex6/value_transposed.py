"""W_V reads the k-slot and writes the x-slot.

verdict: rejected
found: in sight
says: changes nothing
"""

import torch


def copy_layer(d, m, n_tokens):
    width = 2 * d + m + n_tokens
    position = slice(2 * d + m, width)
    w_query, w_key, w_value = (torch.zeros(width, width) for _ in range(3))
    w_query[position, position] = torch.diag(torch.ones(n_tokens - 1), 1)
    w_key[position, position] = torch.eye(n_tokens)
    w_value[:d, d + m : 2 * d + m] = torch.eye(d)
    return w_query, w_key, w_value, torch.eye(width)
