"""The prediction is still the slot itself.

verdict: rejected
found: in sight
says: read off with the wrong sign
"""

import torch


def repaired_step(xs, ys, x_query, step_size, initial_weights):
    n, d = xs.shape
    m = ys.shape[1]
    look_at_x = torch.block_diag(torch.eye(d), torch.zeros(m, m))
    w_value = torch.block_diag(torch.zeros(d, d), -torch.eye(m))
    w_value[d:, :d] = initial_weights
    tokens = [torch.cat([x, y]) for x, y in zip(xs, ys, strict=True)]
    tokens.append(torch.cat([x_query, -initial_weights @ x_query]))
    query = look_at_x @ tokens[-1]
    heard = torch.zeros(d + m)
    for token in tokens[:-1]:
        heard = heard + (look_at_x @ token) @ query * (w_value @ token)
    moved = tokens[-1] + heard * step_size / n
    return moved[d:]
