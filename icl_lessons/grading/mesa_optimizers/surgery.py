"""Exercise 6: edit a layer's matrices, and it descends another loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    agree,
    call,
    compare,
    fail,
    passed,
    tensor,
    tolerance_of,
    unchanged,
)
from icl_lessons.grading.sums import draw

NAMES = ("A", "V", "B")


def found_layer(d: int, m: int, eta: float, *, metric: Tensor | None = None, ridge: float = 0.0):
    """``(A, V, B)`` of a layer that takes a step of descent; ``ridge`` is in it already."""
    width = d + 2 * m
    y, p = slice(d, d + m), slice(d + m, width)
    keep, value, score = (torch.zeros(width, width).double() for _ in range(3))
    keep += torch.eye(width)
    keep[p, p] -= eta * ridge * torch.eye(m)
    value[p, y] += eta * torch.eye(m)
    value[p, p] -= eta * torch.eye(m)
    score[:d, :d] += torch.eye(d) if metric is None else metric
    return keep, value, score


def run(layer, tokens: Tensor, n_context: int) -> Tensor:
    """``e_j <- A e_j + 1/N sum_i V e_i (e_i^T B e_j)``, one pair of tokens at a time."""
    keep, value, score = layer
    out = torch.zeros_like(tokens)
    for b in range(len(tokens)):
        for j, e_j in enumerate(tokens[b]):
            heard = torch.zeros_like(e_j)
            for e_i in tokens[b, :n_context]:
                heard = heard + value @ e_i * (e_i @ score @ e_j)
            out[b, j] = keep @ e_j + heard / n_context
    return out


def _stepped(weights, xs, ys, eta: float, ridge: float, gamma: Tensor) -> Tensor:
    """``W - eta grad(L + ridge/2 |W|^2) Gamma`` with the gradient that autograd finds."""
    out = []
    for w, x, y in zip(weights, xs, ys, strict=True):
        w = w.clone().requires_grad_()
        loss = (x @ w.mT - y).square().sum() / (2 * len(x)) + ridge / 2 * w.square().sum()
        (slope,) = torch.autograd.grad(loss, w)
        out.append((w - eta * slope @ gamma).detach())
    return torch.stack(out)


def _layer(result, width: int, name: str):
    if result is None:
        fail(f"`{name}` returned None. Is the `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 3:
        fail(f"`{name}` should return the three matrices as a tuple, in the order (A, V, B).")
    matrices = [
        tensor(w, (width, width), what=what, axes="[D, D] with D = d + 2 m")
        for w, what in zip(result, NAMES, strict=True)
    ]
    return matrices, 10 * max(tolerance_of(w) for w in result)


def _tokens(xs, ys, weights) -> Tensor:
    """``(x_i, y_i, W x_i)``, and for the last token, a query, ``(x_q, 0, W x_q)``."""
    ys = ys.clone()
    ys[:, -1] = 0
    return torch.cat([xs, ys, xs @ weights.mT], -1)


def check_surgery(add_ridge: Callable, forget: Callable) -> None:
    """``add_ridge(layer, d, m, penalty)`` and ``forget_feature(layer, feature)``."""
    batch, n, d, m, eta = 2, 4, 3, 2, 0.3
    width = d + 2 * m
    xs, ys = draw(batch, n + 1, d, seed=61), draw(batch, n + 1, m, seed=62)
    weights = draw(batch, m, d, seed=63)
    tokens = _tokens(xs, ys, weights)
    context = xs[:, :n], ys[:, :n]
    one = torch.eye(d).double()
    for before, penalty in ((0.0, 0.8), (0.5, 0.7)):
        layer = found_layer(d, m, eta, ridge=before)
        kept = [w.clone() for w in layer]
        result, tolerance = _layer(call(add_ridge, layer, d, m, penalty), width, "add_ridge")
        for old, now, name in zip(kept, layer, NAMES, strict=True):
            unchanged(old, now, name=name)
        words = "After `add_ridge`" + (" on a layer that has a ridge already" if before else "")
        _check_layer(
            run(result, tokens, n),
            tokens,
            _stepped(weights, *context, eta, before + penalty, one),
            words,
            tolerance,
            d,
            _ridge_mistakes(tokens, context, weights, eta, before, penalty, n),
        )
    _check_forgetting(forget, eta, tolerance)
    passed(6, "Hidden tests use other sizes, several layers in a row, and other features.")


def _check_layer(got, tokens, stepped, words, tolerance, d, mistakes) -> None:
    m = stepped.shape[-2]
    if not agree(got[..., : d + m], tokens[..., : d + m], tolerance):
        fail(
            f"{words} the layer changes the x part or the y part of its tokens. Only the "
            "predictions move: rows d + m and beyond of A and V."
        )
    right = tokens[..., :d] @ stepped.mT
    compare(
        got[..., d + m :],
        right,
        what=f"{words}, a prediction",
        tolerance=tolerance,
        mistakes=[Mistake(tokens[..., :d] @ w.mT if w.ndim == 3 else w, s) for w, s in mistakes],
        otherwise="Write W - eta grad, times x_j, and ask which term each matrix gives.",
    )


def _ridge_mistakes(tokens, context, weights, eta, before, penalty, n):
    one = torch.eye(weights.shape[-1]).double()

    def step(ridge):
        return _stepped(weights, *context, eta, ridge, one)

    return [
        (step(before), "The penalty changes nothing. Which matrix acts on a token by itself?"),
        (
            (1 - eta * penalty) * step(before),
            "You shrink AFTER the step: (1 - eta lambda)(W - eta grad L). The step on L + lambda/2 "
            "|W|^2 shrinks the old W alone; the two differ by eta^2 lambda grad L."
            if not before
            else "You multiply where you should subtract. Penalties add up: A loses eta lambda "
            "once more, whatever stood there.",
        ),
        (
            (1 - eta * penalty) * weights * (1 - eta * before)
            + (step(before) - (1 - eta * before) * weights),
            "You multiply what stands in A. Penalties add up: A loses eta lambda once more, "
            "whatever stood there.",
        ),
        (
            step(penalty),
            "You put a new number into A and lose the ridge that was there. Subtract from what "
            "stands there.",
        ),
        (step(before - penalty), "The sign is turned: your layer makes the weights grow."),
        (
            step(before + penalty / n),
            "Your penalty is divided by N. The mean over the context is in L alone; lambda/2 |W|^2 "
            "has no 1/N.",
        ),
        (
            step(before + penalty * n),
            "Your penalty is N times too strong: lambda/2 |W|^2 has no N in it.",
        ),
        (
            step(before + penalty / eta),
            "You shrink by lambda, not by eta lambda. The step size stands in the layer: read it "
            "off V.",
        ),
        (step(before + 2 * penalty), "The gradient of lambda/2 |W|^2 is lambda W: no factor 2."),
        (
            step(before + penalty / 2),
            "The gradient of lambda/2 |W|^2 is lambda W: the half cancels.",
        ),
    ]


def _check_forgetting(forget, eta: float, tolerance: float) -> None:
    batch, n, d, m, feature = 2, 5, 3, 1, 1
    xs, ys = draw(batch, n + 1, d, seed=64), draw(batch, n + 1, m, seed=65)
    weights = draw(batch, m, d, seed=66)
    tokens = _tokens(xs, ys, weights)
    context = xs[:, :n], ys[:, :n]
    half = draw(d, d, seed=67)
    metric = half @ half.mT / d + torch.eye(d).double()
    layer = found_layer(d, m, eta, metric=metric)
    kept = [w.clone() for w in layer]
    result, tolerance = _layer(call(forget, layer, feature), d + 2 * m, "forget_feature")
    for old, now, name in zip(kept, layer, NAMES, strict=True):
        unchanged(old, now, name=name)
    keys, queries, both = metric.clone(), metric.clone(), metric.clone()
    keys[feature], queries[:, feature] = 0, 0
    both[feature], both[:, feature] = 0, 0
    diagonal, wrong = metric.clone(), metric.clone()
    diagonal[feature, feature] = 0
    wrong[feature - 1], wrong[:, feature - 1] = 0, 0

    def step(gamma):
        return _stepped(weights, *context, eta, 0.0, gamma)

    _check_layer(
        run(result, tokens, n),
        tokens,
        step(both),
        "After `forget_feature`",
        tolerance,
        d,
        [
            (step(metric), "Your layer still knows the feature. Where do scores read the inputs?"),
            (
                step(keys),
                "You zero the row alone. The examples no longer say anything about the feature, "
                "but the update still moves its weight, through the column of B.",
            ),
            (
                step(queries),
                "You zero the column alone. The weight of the feature no longer moves, but the "
                "examples are still compared by it, through the row of B.",
            ),
            (
                step(diagonal),
                "You zero one entry. The feature has a whole row and a whole column of B.",
            ),
            (step(wrong), "You forget another feature. Features are counted from 0."),
        ],
    )
