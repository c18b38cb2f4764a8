"""The value is the whole token.

verdict: rejected
found: in sight
says: whole token before it
"""

import torch


def copy_layer(d, m, n_tokens):
    width = 2 * d + m + n_tokens
    position = slice(2 * d + m, width)
    w_query, w_key, w_value = (torch.zeros(width, width) for _ in range(3))
    w_query[position, position] = torch.diag(torch.ones(n_tokens - 1), 1)
    w_key[position, position] = torch.eye(n_tokens)
    w_value = torch.eye(width)
    return w_query, w_key, w_value, torch.eye(width)
