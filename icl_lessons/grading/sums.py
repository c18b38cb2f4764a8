"""The theory that the checks ask: sums written out as loops, and the derivative of autograd."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def attention_sum(tokens, w_query, w_key, w_value, projection, may_read, *, score=None):
    """The layer's sums, one pair of tokens at a time; ``score(j, i)`` can be given."""
    out = tokens.clone()
    batch, sequence, width = tokens.shape
    for b in range(batch):
        for j in range(sequence):
            heard = torch.zeros(w_value.shape[0], dtype=tokens.dtype)
            for i in range(sequence):
                if may_read(j, i):
                    e_j, e_i = tokens[b, j], tokens[b, i]
                    s = (w_key @ e_i) @ (w_query @ e_j) if score is None else score(b, j, i)
                    heard = heard + s * (w_value @ e_i)
            out[b, j] = tokens[b, j] + projection @ heard
    return out


def loss(weights: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """``1/(2N) sum_i |W x_i - y_i|^2`` of one context, written as the sum it is."""
    total = torch.zeros((), dtype=torch.float64)
    for x, y in zip(xs, ys, strict=True):
        total = total + (weights @ x - y).square().sum()
    return total / (2 * len(xs))


def descend(xs, ys, step_size, steps, start, *, scale=1.0):
    """GD on each context with the derivative that autograd finds, ``[batch, m, d]``."""
    out = []
    for x, y, w in zip(xs, ys, start, strict=True):
        for _ in range(steps):
            w = w.detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(w, x, y), w)
            w = w - step_size * scale * slope
        out.append(w.detach())
    return torch.stack(out)
