"""Exercises 4 and 5: Proposition 1, and the version that needs repair."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

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
)
from icl_lessons.grading.sums import attention_sum, descend, draw


def _tokens_of(xs, ys, x_query, start):
    """Rows ``(x_j, y_j)``, then ``(x_q, -W0 x_q)``, built entry by entry."""
    rows = []
    for b in range(len(xs)):
        row = [torch.cat([x, y]) for x, y in zip(xs[b], ys[b], strict=True)]
        row += [torch.cat([x, -(start[b] @ x)]) for x in x_query[b]]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def check_write_tokens(answer: Callable[..., Tensor]) -> None:
    """``answer(xs, ys, x_query, initial_weights) -> tokens``."""
    xs, ys, x_query = draw(2, 4, 3, seed=30), draw(2, 4, 2, seed=31), draw(2, 2, 3, seed=32)
    start = draw(2, 2, 3, seed=33)
    result = call(answer, xs, ys, x_query, start)
    got = tensor(result, (2, 6, 5), what="the tokens", axes="[batch, n + q, d + m]")
    right = _tokens_of(xs, ys, x_query, start)
    compare(
        got,
        right,
        what="The tokens",
        tolerance=tolerance_of(result),
        mistakes=[
            Mistake(
                _tokens_of(xs, ys, x_query, 0 * start),
                "The y-slot of your query token is 0. That is right for W0 = 0 only: the slot "
                "holds minus the prediction, and the first prediction is W0 x_q.",
            ),
            Mistake(
                _tokens_of(xs, ys, x_query, -start),
                "The y-slot of your query token has the wrong sign: it holds MINUS the prediction.",
            ),
            Mistake(
                right.roll(2, dims=1),
                "Your query tokens come first. The context comes first, then the queries.",
            ),
            Mistake(
                torch.cat([right[..., 3:], right[..., :3]], -1),
                "Your tokens have y before x: a token is (x, y).",
            ),
        ],
    )


def _layer(tokens, w_query, w_key, w_value, projection, n_keys):
    return attention_sum(tokens, w_query, w_key, w_value, projection, lambda j, i: i < n_keys)


def _proposition(d, m, scale, start, *, sign=-1.0, flip=False):
    """``(W_Q, W_K, W_V, P)`` with things to get wrong: the factor, the sign, where W0 stands."""
    select = torch.diag(torch.tensor([1.0] * d + [0.0] * m, dtype=torch.float64))
    value = torch.zeros(d + m, d + m, dtype=torch.float64)
    for a in range(m):
        value[d + a, d + a] = sign
        for b in range(d):
            if flip:
                value[b, d + a] = start[a, b]
            else:
                value[d + a, b] = start[a, b]
    return select, select, value, scale * torch.eye(d + m, dtype=torch.float64)


def check_construction(answer: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
    """``answer(d, m, n_context, step_size, initial_weights) -> (W_Q, W_K, W_V, P)``.

    Judged by what the layer does, so that any matrices with the same products pass.
    """
    d, m, n, eta = 3, 2, 4, 0.4
    width = d + m
    xs, ys, x_query = draw(1, n, d, seed=40), draw(1, n, m, seed=41), draw(1, 1, d, seed=42)
    for words, start in (("W0 != 0", draw(m, d, seed=43)), ("W0 = 0", torch.zeros(m, d).double())):
        result = call(answer, d, m, n, eta, start)
        if result is None:
            fail("`construction` returned None. Is the `return` missing?")
        if not isinstance(result, (tuple, list)) or len(result) != 4:
            fail("Return the four matrices as a tuple, in the order (W_Q, W_K, W_V, P).")
        names = ("W_Q", "W_K", "W_V", "P")
        weights = [
            tensor(w, (width, width), what=name, axes="[d + m, d + m]")
            for w, name in zip(result, names, strict=True)
        ]
        tolerance = max(tolerance_of(w) for w in result)
        tokens = right = _tokens_of(xs, ys, x_query, start[None])
        fitted = start[None]
        for k in (1, 2, 3):
            before, tokens = tokens, _layer(tokens, *weights, n)
            fitted = descend(xs, ys, eta, 1, fitted)
            change = (fitted - start).mT
            right = torch.cat(
                [
                    torch.cat([xs, ys - xs @ change], -1),
                    torch.cat([x_query, -(x_query @ fitted.mT)], -1),
                ],
                1,
            )
            mistakes = [
                Mistake(_layer(before, *_proposition(d, m, scale, w0, **other), n), sentence)
                for scale, w0, other, sentence in (
                    (
                        eta / n,
                        0 * start,
                        {},
                        "W0 is missing from W_V. The value of token i should be the error of the "
                        "model at hand, W0 x_i - y_i; yours is -y_i.",
                    ),
                    (
                        eta,
                        start,
                        {},
                        f"Your step is N = {n} times too long: P carries eta / N.",
                    ),
                    (
                        eta / (n + 1),
                        start,
                        {},
                        "You divide by N + 1. N counts the examples of the context; the query is "
                        "not one of them.",
                    ),
                    (
                        -eta / n,
                        start,
                        {},
                        "Your update has the wrong sign: the targets move away from what the new "
                        "model would leave over.",
                    ),
                    (
                        eta / n,
                        start,
                        {"sign": 1.0},
                        "The block of W_V that acts on y should be MINUS the identity: a value is "
                        "W0 x_i - y_i.",
                    ),
                    (
                        eta / n,
                        start,
                        {"flip": True},
                        "Your W_V is transposed: W0 stands in the lower left block, so that x is "
                        "read and y is written.",
                    ),
                )
            ]
            if not agree(tokens[..., :d], right[..., :d], tolerance):
                for mistake in mistakes:
                    if agree(tokens, mistake.value, tolerance):
                        fail(mistake.sentence)
                fail(
                    f"With {words} your layer changes the x part of the tokens. It should only "
                    "write to y: look at the upper rows of W_V."
                )
            compare(
                tokens,
                right,
                what=f"With {words}, after layer {k}, a token",
                tolerance=tolerance,
                mistakes=mistakes,
                otherwise="Multiply your matrices by hand for d = m = 1.",
            )
    passed(4, "Hidden tests use other sizes, fewer examples than inputs, and up to five layers.")


_REPAIRS = {
    "value": "the value of token i is -y_i, so the model at hand (W0) is not in it",
    "slot": "the query token starts with 0 where minus the first prediction should stand",
    "key": "the query is among the tokens that are read",
    "step": "nothing multiplies the sum, so the step is N / eta times too long",
    "read-out": "the prediction is read off with the wrong sign",
}


def _article(xs, ys, x_query, eta, start, broken: frozenset[str]) -> Tensor:
    """The layer's prediction at one query when the parts named in ``broken`` are left as found."""
    slot = torch.zeros(len(start)).double() if "slot" in broken else -(start @ x_query)
    pairs = list(zip(xs, ys, strict=True)) + ([(x_query, slot)] if "key" in broken else [])
    moved = torch.zeros_like(slot)
    for x, y in pairs:
        value = -y if "value" in broken else start @ x - y
        moved = moved + value * (x @ x_query)
    end = slot + moved * (1.0 if "step" in broken else eta / len(xs))
    return end if "read-out" in broken else -end


def check_repaired_step(answer: Callable[..., Tensor]) -> None:
    """``answer(xs, ys, x_query, step_size, initial_weights) -> prediction [m]``, one context."""
    n, d, m, eta = 4, 3, 2, 0.5
    xs, ys, x_query = draw(n, d, seed=50), draw(n, m, seed=51), draw(d, seed=52)
    for words, start in (("W0 = 0", torch.zeros(m, d).double()), ("W0 != 0", draw(m, d, seed=53))):
        result = call(answer, xs, ys, x_query, eta, start)
        got = tensor(result, (m,), what="the prediction", axes="[m]")
        right = descend(xs[None], ys[None], eta, 1, start[None])[0] @ x_query
        if agree(got, right, tolerance_of(result)):
            continue
        for size in range(1, len(_REPAIRS) + 1):
            for broken in map(frozenset, combinations(_REPAIRS, size)):
                if agree(got, _article(xs, ys, x_query, eta, start, broken), tolerance_of(result)):
                    left = "; ".join(_REPAIRS[part] for part in _REPAIRS if part in broken)
                    fail(f"With {words}, this is left to repair: {left}.")
        compare(
            got,
            right,
            what=f"With {words}, the prediction",
            tolerance=tolerance_of(result),
            otherwise="It should equal (W0 + Delta W) x_q, with Delta W one step of exercise 3.",
        )
    passed(5, "Hidden tests use other sizes, one example, and a step size of zero.")
