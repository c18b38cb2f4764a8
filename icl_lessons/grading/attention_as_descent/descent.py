"""Exercises 1 and 3: a step of descent on tokens, plain and preconditioned."""

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
from icl_lessons.grading.sums import descend, draw, loss

AXES = "[batch, n + q, d + m]"


def _update(tokens, keys, rate, start, *, score=None, in_turn=False, rows=None, whole=False):
    """The y-slots after one layer, one pair of tokens at a time; x-slots stay as they are.

    ``score(x_i, x_j)`` can be given; with ``in_turn`` a token is written before the next is read;
    only the last ``rows`` tokens are written where ``rows`` is given; with ``whole`` a score sees
    whole tokens.
    """
    d, out = start.shape[-1], tokens.clone()
    score = score or (lambda x_i, x_j: x_i @ x_j)
    for b, w in enumerate(start):
        for j in range(len(out[b]) - (rows or len(out[b])), len(out[b])):
            moved = torch.zeros(len(w), dtype=tokens.dtype)
            for i in range(keys):
                e_i = (out if in_turn else tokens)[b, i].clone()
                seen = slice(None) if whole else slice(d)
                moved = moved + (w @ e_i[:d] - e_i[d:]) * score(e_i[seen], tokens[b, j, seen])
            out[b, j, d:] = tokens[b, j, d:] + rate * moved
    return out


def _only_y_changed(got: Tensor, before: Tensor, d: int, tolerance: float) -> None:
    if agree(got[..., :d], before[..., :d], tolerance):
        return
    if agree(got[..., :d], 0 * before[..., :d], tolerance):
        fail(
            "The x part of your tokens is 0. Do you return the update alone? The layer adds it to "
            "the token it came in with."
        )
    fail("Your layer changes the x part of the tokens. It should only write to the y part.")


def check_descend_tokens(answer: Callable[..., Tensor]) -> None:
    """``answer(tokens, n_context, step_size, initial_weights) -> tokens after one layer``."""
    batch, n, q, d, m = 2, 4, 2, 3, 2
    xs, ys, x_query = (
        draw(batch, n, d, seed=1),
        draw(batch, n, m, seed=2),
        draw(batch, q, d, seed=3),
    )
    zero = torch.zeros(batch, m, d, dtype=torch.float64)
    for words, start in (("W0 != 0", draw(batch, m, d, seed=4)), ("W0 = 0", zero)):
        tokens = torch.cat(
            [torch.cat([xs, ys], -1), torch.cat([x_query, -(x_query @ start.mT)], -1)], 1
        )
        fitted = start
        for k, eta in enumerate((0.4, 0.3, 0.2), start=1):
            before, kept = tokens, tokens.clone()
            tokens = call(answer, before, n, eta, start)
            got = tensor(tokens, (batch, n + q, d + m), what="the tokens", axes=AXES)
            unchanged(kept, before, name="tokens")
            tolerance, before = 10 * tolerance_of(tokens), before.double()
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
                Mistake(
                    _update(before, n, eta / n, zero),
                    "W0 is missing from your values. A token's y-slot has lost (W_k - W0) x_i by "
                    "now, so the error of the model at hand is W0 x_i minus that slot.",
                ),
                Mistake(
                    _update(before, n, eta / n, -start),
                    "W0 has the wrong sign in your values: the value of token i is W0 x_i - y_i.",
                ),
                Mistake(
                    _update(before, n, eta, start),
                    f"Your step is N = {n} times too long: the loss averages over the context, so "
                    "the sum carries eta / N.",
                ),
                Mistake(
                    _update(before, n, eta / (n + q), start),
                    "You divide by the number of all tokens. N counts the examples of the "
                    "context; the queries are not among them.",
                ),
                Mistake(
                    _update(before, n, eta / (n + 1), start),
                    "You divide by N + 1. N counts the examples of the context; the query is not "
                    "one of them.",
                ),
                Mistake(
                    _update(before, n, -eta / n, start),
                    "Your tokens climb: the sign of the update is turned. Each y-slot should keep "
                    "what the new model leaves over.",
                ),
                Mistake(
                    _update(before, n + q, eta / n, start),
                    "Your sum reads the queries too. A query's slot holds minus a prediction, so "
                    "its value, 2 W0 x_q before the first layer, is no error of any example.",
                ),
                Mistake(
                    _update(before, n, eta / n, start, in_turn=True),
                    "You write a token before you have read it for the others. All tokens of a "
                    "layer read the tokens that came in.",
                ),
                Mistake(
                    _update(before, n, eta / n, start, whole=True),
                    "Your scores compare whole tokens. A score is x_i . x_j: leave the y-slots out "
                    "of it.",
                ),
                Mistake(
                    _update(before, n, eta / n, start, rows=q),
                    "Only your queries move. The context has to move too: its y-slots are where "
                    "the next layer finds the errors.",
                ),
            ]
            _only_y_changed(got, before, d, tolerance)
            compare(
                got,
                right,
                what=f"With {words}, after layer {k}, a token",
                tolerance=tolerance,
                mistakes=mistakes,
                otherwise="Write the sum for d = m = 1 and two examples on paper.",
            )
    passed(1, "Hidden tests use other sizes, fewer examples than inputs, and up to five layers.")


def _preconditioned(xs, ys, preconditioners):
    """``W - grad L(W) A`` for each A in turn, with the gradient that autograd finds."""
    w = torch.zeros(ys.shape[1], xs.shape[1], dtype=torch.float64)
    for a in preconditioners:
        w = w.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(w, xs, ys), w)
        w = (w - slope @ a).detach()
    return w


def check_preconditioned_layer(answer: Callable[..., Tensor]) -> None:
    """``answer(tokens, preconditioner, n_context) -> tokens after one layer``."""
    batch, n, q, d, m = 2, 5, 2, 3, 2
    xs, ys, x_query = (
        draw(batch, n, d, seed=5),
        draw(batch, n, m, seed=6),
        draw(batch, q, d, seed=7),
    )
    zero = torch.zeros(batch, m, d, dtype=torch.float64)
    several = [0.4 * draw(d, d, seed=8 + layer) for layer in range(3)]
    tokens = torch.cat([torch.cat([xs, ys], -1), torch.cat([x_query, x_query @ zero.mT], -1)], 1)
    for k, a in enumerate(several, start=1):
        before, kept = tokens, tokens.clone()
        tokens = call(answer, before, a, n)
        got = tensor(tokens, (batch, n + q, d + m), what="the tokens", axes=AXES)
        unchanged(kept, before, name="tokens")
        tolerance, before = 10 * tolerance_of(tokens), before.double()
        fitted = torch.stack(
            [_preconditioned(x, y, several[:k]) for x, y in zip(xs, ys, strict=True)]
        )
        right = torch.cat(
            [
                torch.cat([xs, ys - xs @ fitted.mT], -1),
                torch.cat([x_query, -(x_query @ fitted.mT)], -1),
            ],
            1,
        )

        def by_sums(keys=n, rate=1 / n, matrix=a, rows=None, in_turn=False, before=before):
            return _update(
                before,
                keys,
                rate,
                zero,
                score=lambda x_i, x_j: x_i @ matrix @ x_j,
                rows=rows,
                in_turn=in_turn,
            )

        mistakes = [
            Mistake(
                by_sums(matrix=a.mT),
                "Your preconditioner acts transposed. The score is x_i^T A x_j with the token that "
                "is read, i, on the left: the gradient is multiplied by A from the right. "
                "Symmetric matrices would have hidden this.",
            ),
            Mistake(
                by_sums(matrix=(a + a.mT) / 2),
                "You use the symmetric part of A. A need not be symmetric: keep the order "
                "x_i^T A x_j.",
            ),
            Mistake(
                by_sums(matrix=torch.eye(d).double()),
                "The preconditioner is not in your scores: they are x_i^T A x_j.",
            ),
            Mistake(
                by_sums(rate=-1 / n),
                "Your tokens climb: a step up the loss. Q holds MINUS A, so that the y-slots "
                "shrink.",
            ),
            Mistake(
                by_sums(rate=1.0),
                f"Your step is n = {n} times too long: the layer has 1/n in front of its sum.",
            ),
            Mistake(
                by_sums(rate=1 / (n + q)),
                "You divide by the number of all tokens; n counts the examples of the context.",
            ),
            Mistake(
                by_sums(rate=1 / (n + 1)),
                "You divide by n + 1; n counts the examples of the context alone.",
            ),
            Mistake(
                by_sums(keys=n + q),
                "The mask is missing: your sum reads the queries. In the first layer their y-slot "
                "is 0, so they add nothing; from the second layer on they do.",
            ),
            Mistake(
                by_sums(rows=q),
                "Only your queries move. The y-slots of the context have to move too: the next "
                "layer reads its errors there.",
            ),
            Mistake(
                by_sums(in_turn=True),
                "You write a token before you have read it for the others. All tokens of a layer "
                "read the tokens that came in.",
            ),
        ]
        _only_y_changed(got, before, d, tolerance)
        compare(
            got,
            right,
            what=f"After layer {k}, a token",
            tolerance=tolerance,
            mistakes=mistakes,
            otherwise="Check it against W - grad L(W) A for d = m = 1, then for d = 2.",
        )
    passed(3, "Hidden tests use other sizes, a singular A, and fewer examples than inputs.")
