"""The query's slot starts at 0.

verdict: rejected
found: in sight
says: slot of your query token is 0
"""

import torch


def write_tokens(xs, ys, x_query, initial_weights):
    slot = torch.zeros(*x_query.shape[:2], ys.shape[2])
    return torch.cat([torch.cat([xs, ys], -1), torch.cat([x_query, slot], -1)], 1)


def construction(d, m, n_context, step_size, initial_weights):
    w_query = torch.diag(torch.tensor([1.0] * d + [0.0] * m))
    w_value = torch.zeros(d + m, d + m)
    w_value[d:, :d] = initial_weights
    w_value[d:, d:] = -torch.eye(m)
    projection = step_size / n_context * torch.eye(d + m)
    return w_query, w_query, w_value, projection
