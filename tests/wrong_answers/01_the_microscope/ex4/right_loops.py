"""Filled entry by entry, in single precision.

verdict: accepted
"""

import torch


def write_tokens(xs, ys, x_query, initial_weights):
    rows = []
    for x, y, queries, w in zip(xs, ys, x_query, initial_weights, strict=True):
        row = [torch.cat([a, b]) for a, b in zip(x, y, strict=True)]
        row += [torch.cat([a, -w @ a]) for a in queries]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def construction(d, m, n_context, step_size, initial_weights):
    w_query, w_key, w_value, p = (torch.zeros(d + m, d + m, dtype=torch.float32) for _ in range(4))
    for a in range(d):
        w_query[a, a] = w_key[a, a] = 1
    for a in range(m):
        w_value[d + a, d + a] = -1
        p[d + a, d + a] = step_size / n_context
        for b in range(d):
            w_value[d + a, b] = initial_weights[a, b]
    return w_query, w_key, w_value, p
