"""Exercise 3: the weights after each token, and the descent that they are."""

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


def path(w: Tensor, readings: Tensor) -> Tensor:
    """``W_i = W_0 + W_0 (A_i - A_0) A_0^+``, with the pseudo-inverse, ``[batch, n + 1, h, D]``."""
    return torch.stack(
        [
            torch.stack(
                [w + torch.outer(w @ (a - r[0]), torch.linalg.pinv(r[:1])[:, 0]) for a in r]
            )
            for r in readings
        ]
    )


def _in_turn(w: Tensor, readings: Tensor) -> Tensor:
    """Each token's update on top of the changed weights, with the reading before it."""
    out = []
    for r in readings:
        now = [w]
        for before, after in zip(r[:-1], r[1:], strict=True):
            now.append(
                now[-1] + torch.outer(now[-1] @ (after - before), before) / (before @ before)
            )
        out.append(torch.stack(now))
    return torch.stack(out)


def _compounded(w: Tensor, readings: Tensor) -> Tensor:
    """The update of each token computed with ``W_i`` in place of ``W_0``."""
    out = []
    for r in readings:
        now = [w]
        for before, after in zip(r[:-1], r[1:], strict=True):
            now.append(now[-1] + torch.outer(now[-1] @ (after - before), r[0]) / (r[0] @ r[0]))
        out.append(torch.stack(now))
    return torch.stack(out)


def check_token_path(answer: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """``answer(w, readings) -> (weights, step_size, gradients)``."""
    batch, n, h, d = 2, 4, 5, 3
    for scale in (1.0, 0.1):
        w, readings = draw(h, d, seed=31), scale * draw(batch, n + 1, d, seed=32)
        kept = w.clone(), readings.clone()
        result = call(answer, w, readings)
        if result is None:
            fail("`token_path` returned None. Is the `return` missing?")
        if not isinstance(result, (tuple, list)) or len(result) != 3:
            fail("Return three things: the weights, the step size and the gradients.")
        unchanged(kept[0], w, name="w")
        unchanged(kept[1], readings, name="readings")
        _check_weights(result[0], w, readings)
        step = _check_step(result[1], readings)
        _check_gradients(result[2], step, w, readings)
    weights = tensor(result[0], (batch, n + 1, h, d), what="the weights", axes="")
    rank = int(torch.linalg.matrix_rank(weights[0, -1] - w, rtol=1e-5))
    passed(
        3,
        f"The recursion holds, and after {n} tokens W_n - W_0 has rank {rank}. Hidden tests use "
        "other sizes.",
    )


def _check_weights(given, w, readings) -> None:
    batch, more, d = readings.shape
    h = len(w)
    if isinstance(given, Tensor) and tuple(given.shape) == (batch, more - 1, h, d):
        fail("Your path has n matrices. It has n + 1, from W_0, before any token, to W_n.")
    got = tensor(given, (batch, more, h, d), what="the weights", axes="[batch, n + 1, h, D]")
    right = path(w, readings)
    mistakes = [
        Mistake(right - w, "You return the changes W_i - W_0. The weights are asked for."),
        Mistake(
            _in_turn(w, readings),
            "You absorb each token into the weights changed before, with the reading before it on "
            "the right. Here the block has no context left: every W_i meets A_0, and W_i stands "
            "for the first i tokens together.",
        ),
        Mistake(
            _compounded(w, readings),
            "You compute each token's update with W_i. The changed block reproduces what the "
            "ORIGINAL W_0 makes of A_i.",
        ),
        Mistake(
            torch.stack([p.flip(0) for p in right]), "Your path runs backwards: W_0 comes first."
        ),
        Mistake(2 * w - right, "Your path walks away: W_i A_0 should be W_0 A_i."),
    ]
    compare(
        got,
        right,
        what="A matrix of the path",
        tolerance=10 * tolerance_of(given),
        mistakes=mistakes,
        otherwise="For every i, W_i A_0 = W_0 A_i.",
    )


def _check_step(given, readings) -> Tensor:
    batch, more, _ = readings.shape
    if isinstance(given, Tensor) and tuple(given.shape) in ((batch, more - 1), (batch, more)):
        fail(
            "You give every token a step size of its own. The changed block meets A_0 at every "
            "token: h = 1/|A_0|^2 throughout."
        )
    if isinstance(given, Tensor) and given.ndim == 0:
        fail("You return one step size. Each query has its own, [batch].")
    got = tensor(given, (batch,), what="the step size", axes="[batch]")
    square = readings[:, 0].square().sum(-1)
    compare(
        got,
        1 / square,
        what="The step size",
        tolerance=10 * tolerance_of(given),
        mistakes=[
            Mistake(square, "Your step size is upside down."),
            Mistake(1 / square.sqrt(), "The square is missing: h = 1/|A_0|^2."),
            Mistake(
                1 / readings[:, -1].square().sum(-1),
                "Your step size comes from the reading with the whole context. The changed block "
                "meets the reading without any.",
            ),
            Mistake(1 / square.mean().expand_as(square), "Each query has a step size of its own."),
        ],
    )
    return 1 / square


def _check_gradients(given, step, w, readings) -> None:
    batch, more, d = readings.shape
    shape = (batch, more - 1, len(w), d)
    if isinstance(given, Tensor) and tuple(given.shape) == (batch, more, len(w), d):
        fail("You return n + 1 gradients. There is one for each token, n of them.")
    got = tensor(given, shape, what="the gradients", axes="[batch, n, h, D]")
    weights = path(w, readings)
    moved = weights[:, :-1] - weights[:, 1:]
    right = moved / step[:, None, None, None]
    a0 = readings[:, :1]

    def outer(left, side):
        return left[..., :, None] * side[..., None, :]

    back = readings[:, :-1] - readings[:, 1:]
    own = torch.einsum("bnhd,bnd->bnh", weights[:, :-1], back)
    mistakes = [
        Mistake(-right, "The sign is turned: W_(i+1) = W_i MINUS h times the gradient."),
        Mistake(
            moved,
            "Your gradients hold the step size already: h times the gradient is subtracted.",
        ),
        Mistake(
            outer(own, a0),
            "You compute the gradient with W_i. The loss L_i is linear: its gradient is the same "
            "at any W, and it is made with W_0.",
        ),
        Mistake(
            outer(back @ w.mT, readings[:, :-1]),
            "The right vector of your gradient is A_i. Every step changes the direction A_0.",
        ),
        Mistake(
            outer(back @ w.mT, readings[:, 1:]),
            "The right vector of your gradient is A_(i+1). Every step changes the direction A_0.",
        ),
        Mistake(
            outer((a0 - readings[:, 1:]) @ w.mT, a0),
            "Your gradient jumps from A_0 to A_(i+1). A step takes in one token: from A_i to "
            "A_(i+1).",
        ),
        Mistake(
            torch.cat([right[:, -1:], right[:, :-1]], 1), "Your gradients come one token late."
        ),
        Mistake(torch.cat([right[:, 1:], right[:, :1]], 1), "Your gradients come one token early."),
    ]
    tolerance = 10 * tolerance_of(given)
    after = weights[:, :-1] - step[:, None, None, None] * got
    holds = agree(after, weights[:, 1:], tolerance)
    compare(
        got,
        right,
        what="A gradient",
        tolerance=tolerance,
        mistakes=mistakes,
        otherwise="The recursion W_(i+1) = W_i - h G_i holds."
        if holds
        else "Put it into the recursion: W_i - h G_i has to be W_(i+1).",
    )
