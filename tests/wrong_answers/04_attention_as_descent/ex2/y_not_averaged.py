"""No 1/N in the y update.

verdict: rejected
found: in sight
says: lacks the 1/N
"""

import torch


def plus_plus_layer(tokens, d, n_context, step_size, gamma):
    xs, ys = tokens[..., :d], tokens[..., d:]
    context = xs[:, :n_context]
    scores = xs @ context.mT
    new_xs = xs - gamma * scores @ context
    new_ys = ys - step_size * scores @ ys[:, :n_context]
    return torch.cat([new_xs, new_ys], dim=-1)


def effective_preconditioners(xs, gammas):
    h = xs.mT @ xs
    a = torch.eye(xs.shape[-1], dtype=xs.dtype).expand_as(h)
    squares = []
    for gamma in gammas:
        squares.append(a @ a)
        a = a - gamma * a @ h @ a @ a
    return torch.stack(squares)
