"""The query's slot holds the prediction, not minus it.

verdict: rejected
found: in sight
says: MINUS the prediction
"""

import torch


def write_tokens(xs, ys, x_query, initial_weights):
    slot = x_query @ initial_weights.mT
    return torch.cat([torch.cat([xs, ys], -1), torch.cat([x_query, slot], -1)], 1)


def construction(d, m, n_context, step_size, initial_weights):
    w_query = torch.diag(torch.tensor([1.0] * d + [0.0] * m))
    w_value = torch.zeros(d + m, d + m)
    w_value[d:, :d] = initial_weights
    w_value[d:, d:] = -torch.eye(m)
    projection = step_size / n_context * torch.eye(d + m)
    return w_query, w_query, w_value, projection
