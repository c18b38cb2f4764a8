"""Divides by the eigenvalues of H, which may be zero.

verdict: rejected
found: hidden
says: preconditioner
"""

import torch


def plus_plus_layer(tokens, d, n_context, step_size, gamma):
    xs, ys = tokens[..., :d], tokens[..., d:]
    context = xs[:, :n_context]
    scores = xs @ context.mT
    new_xs = xs - gamma * scores @ context
    new_ys = ys - step_size / n_context * scores @ ys[:, :n_context]
    return torch.cat([new_xs, new_ys], dim=-1)


def effective_preconditioners(xs, gammas):
    h = xs.mT @ xs
    a = torch.eye(xs.shape[-1], dtype=xs.dtype).expand_as(h)
    squares = []
    for gamma in gammas:
        squares.append(a @ a)
        seen = a @ h @ a
        a = (seen - gamma * seen @ seen) @ torch.linalg.inv(a @ h)
    return torch.stack(squares)
