"""Nothing is repaired.

verdict: rejected
found: in sight
says: nothing multiplies the sum
"""

import torch


def repaired_step(xs, ys, x_query, step_size, initial_weights):
    n, d = xs.shape
    m = ys.shape[1]
    look_at_x = torch.block_diag(torch.eye(d), torch.zeros(m, m))
    w_value = torch.block_diag(torch.zeros(d, d), -torch.eye(m))
    # W0 is not in the value
    tokens = [torch.cat([x, y]) for x, y in zip(xs, ys, strict=True)]
    tokens.append(torch.cat([x_query, torch.zeros(m)]))
    query = look_at_x @ tokens[-1]
    heard = torch.zeros(d + m)
    for token in tokens:
        heard = heard + (look_at_x @ token) @ query * (w_value @ token)
    moved = tokens[-1] + heard
    return moved[d:]
