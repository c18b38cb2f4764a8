"""Exercise 3: what a next-token learner makes of pairs, and why it gets worse first."""

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
from icl_lessons.grading.mesa_optimizers.sequence_layers import fitted
from icl_lessons.grading.sums import draw


def _predictions(xs: Tensor, ys: Tensor, prior: float, pairs) -> Tensor:
    """Ridge on the pairs of tokens whose first members are ``pairs(k)``, k from 0."""
    batch, queries, d = xs.shape
    prompt = torch.stack([xs, ys], 2).flatten(1, 2)  # x_1, y_1, x_2, ...
    out = torch.zeros_like(ys)
    for b in range(batch):
        for k in range(queries):
            first = torch.tensor(list(pairs(k)), dtype=torch.long)
            known = (
                fitted(prompt[b, first], prompt[b, first + 1], prior)
                if len(first)
                else torch.zeros(d, d).double()
            )
            out[b, k] = known @ xs[b, k]
    return out


def _prompts(batch: int, queries: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    rotation = torch.linalg.qr(draw(batch, d, d, seed=seed)).Q
    xs = draw(batch, queries, d, seed=seed + 1)
    return xs, xs @ rotation.mT


def check_early_ascent(next_token: Callable[..., Tensor], error_curve: Callable) -> None:
    """``next_token(xs, ys, regularization)`` and ``error_curve(predictions, ys)``."""
    batch, queries, d, lam = 2, 4, 3, 4.0
    xs, ys = _prompts(batch, queries, d, seed=21)
    kept = xs.clone(), ys.clone()
    result = call(next_token, xs, ys, lam)
    got = tensor(result, (batch, queries, d), what="the predictions", axes="[batch, K, d]")
    for before, now, name in zip(kept, (xs, ys), ("xs", "ys"), strict=True):
        unchanged(before, now, name=name)

    def other(pairs=lambda k: range(2 * k), prior=1 / lam):
        return _predictions(xs, ys, prior, pairs)

    mistakes = [
        Mistake(
            other(lambda k: range(0, 2 * k, 2)),
            "You fit the proper pairs (x_i, y_i) alone. A next-token learner cannot tell a pair "
            "from a gap: each y_i, followed by x_(i+1), is an example to it as well.",
        ),
        Mistake(
            other(lambda k: range(2 * k + 1)),
            "Your fit at x_k includes the pair (x_k, y_k): it sees the answer that it is asked "
            "for.",
        ),
        Mistake(
            other(lambda k: range(max(2 * k - 1, 0))),
            "Your fit at x_k leaves the pair (y_(k-1), x_k) out. Both tokens have been read by "
            "then, so to the learner it is one more example.",
        ),
        Mistake(
            other(lambda k: range(0, 2 * k + 1, 2)),
            "You fit the proper pairs alone, the answer (x_k, y_k) among them.",
        ),
        Mistake(
            other(lambda k: range(1, 2 * k, 2)),
            "You fit the pairs (y_i, x_(i+1)) alone. The proper ones are in the data too.",
        ),
        Mistake(
            other(lambda k: range(2 * queries - 1)),
            "Every prediction uses the whole prompt. At x_k the learner has read the tokens up to "
            "x_k, no further.",
        ),
        Mistake(other(prior=lam), "Your prior is upside down: its weight is 1 / lambda."),
        Mistake(other(prior=0.0), "The prior is missing: that is plain least squares."),
    ]
    compare(
        got,
        other(),
        what="With d = 3 a prediction",
        tolerance=10 * tolerance_of(result),
        mistakes=mistakes,
        otherwise="Write down the pairs for k = 1 (none) and k = 2 (two of them).",
    )
    _check_curve(error_curve)
    xs, ys = _prompts(48, 14, 10, seed=31)
    curve, peak = call(error_curve, call(next_token, xs, ys, 10.0), ys)
    passed(
        3,
        "Hidden tests use other sizes. On 48 prompts with d = 10 and lambda = 10 your curve "
        f"starts at {float(curve[0]):.2f}, climbs to {float(curve.max()):.2f} at query "
        f"{int(peak)}, and is {float(curve[-1]):.2f} at query 14. How many pairs does the learner "
        "have at its worst?",
    )


def _check_curve(answer: Callable) -> None:
    predictions, ys = draw(5, 4, 3, seed=24), draw(5, 4, 3, seed=25)
    predictions[:, 2] += 2
    result = call(answer, predictions, ys)
    if result is None:
        fail("`error_curve` returned None. Is the `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        fail("`error_curve` should return two things: the curve, [K], and the number of its peak.")
    curve = tensor(result[0], (4,), what="the curve", axes="[K]")
    squares = (predictions - ys).square()
    right = squares.mean((0, 2)) / 2
    mistakes = [
        Mistake(2 * right, "The 1/2 is missing from your curve."),
        Mistake(3 * right, "Your curve adds up over the d entries. It is a mean over them."),
        Mistake(6 * right, "Your curve is the squared length, without the 1/2 and the 1/d."),
        Mistake(5 * right, "Your curve adds up over the batch. It is a mean over it."),
        Mistake(
            (predictions - ys).mean((0, 2)).square() / 2,
            "You average the errors before you square them: positive and negative ones cancel.",
        ),
        Mistake(right.sqrt(), "You take a root. The curve is half the mean SQUARE."),
    ]
    tolerance = 10 * tolerance_of(result[0])
    compare(curve, right, what="The curve", tolerance=tolerance, mistakes=mistakes)
    try:
        peak = torch.as_tensor(float(result[1])).double()
    except (TypeError, ValueError):
        fail("The second thing that `error_curve` returns is a number: the query of the peak.")
    if agree(peak, torch.tensor(2.0).double(), 1e-6):
        fail("Your peak is counted from 0. The first query has the number 1.")
    compare(peak, torch.tensor(3.0).double(), what="The number of the peak", tolerance=1e-6)
