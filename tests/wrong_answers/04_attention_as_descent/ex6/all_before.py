"""Every earlier token is heard.

verdict: rejected
found: in sight
says: all the tokens before it
"""

import torch


def copy_layer(d, m, n_tokens):
    width = 2 * d + m + n_tokens
    position = slice(2 * d + m, width)
    w_query, w_key, w_value = (torch.zeros(width, width) for _ in range(3))
    w_query[position, position] = torch.ones(n_tokens, n_tokens).triu(1)
    w_key[position, position] = torch.eye(n_tokens)
    w_value[d + m : 2 * d + m, :d] = torch.eye(d)
    return w_query, w_key, w_value, torch.eye(width)
