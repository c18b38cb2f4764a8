"""The queries keep their x.

verdict: rejected
found: in sight
says: x of your queries does not move
"""

import torch


def plus_plus_layer(tokens, d, n_context, step_size, gamma):
    xs, ys = tokens[..., :d], tokens[..., d:]
    context = xs[:, :n_context]
    scores = xs @ context.mT
    moved = context - gamma * context @ context.mT @ context
    new_xs = torch.cat([moved, xs[:, n_context:]], dim=1)
    new_ys = ys - step_size / n_context * scores @ ys[:, :n_context]
    return torch.cat([new_xs, new_ys], dim=-1)


def effective_preconditioners(xs, gammas):
    h = xs.mT @ xs
    a = torch.eye(xs.shape[-1], dtype=xs.dtype).expand_as(h)
    squares = []
    for gamma in gammas:
        squares.append(a @ a)
        a = a - gamma * a @ h @ a @ a
    return torch.stack(squares)
