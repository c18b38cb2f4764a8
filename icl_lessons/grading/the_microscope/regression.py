"""Exercises 2 and 3: the hat matrix and gradient descent."""

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
from icl_lessons.grading.sums import descend, draw


def _context_of_rank(batch: int, n: int, d: int, rank: int, seed: int) -> Tensor:
    """Inputs ``[batch, n, d]`` whose matrix has the given rank, well conditioned."""
    if rank == 0:
        return torch.zeros(batch, n, d, dtype=torch.float64)
    left = torch.linalg.qr(draw(batch, n, rank, seed=seed)).Q
    right = torch.linalg.qr(draw(batch, d, rank, seed=seed + 1)).Q
    return left @ torch.diag(torch.linspace(1, 2, rank, dtype=torch.float64)) @ right.mT


def check_hat_matrix(answer: Callable[[Tensor], Tensor]) -> None:
    """``answer(xs) -> H``, by the four properties that only the right matrix has."""
    cases = [
        ("more examples than inputs", 6, 3, 3),
        ("fewer examples than inputs", 2, 4, 2),
        ("two inputs that are combinations of the others", 6, 4, 2),
    ]
    for seed, (words, n, d, rank) in enumerate(cases):
        xs = _context_of_rank(2, n, d, rank, seed=10 * seed)
        kept = xs.clone()
        result = call(answer, xs)
        got = tensor(result, (2, n, n), what="the hat matrix", axes="[batch, n, n]")
        unchanged(kept, xs, name="xs")
        tolerance = 10 * tolerance_of(result)
        where = f"On a context with {words} (n = {n}, d = {d}, rank {rank}):"
        trace = got.diagonal(dim1=-2, dim2=-1).sum(-1)
        if not agree(got @ xs, xs, tolerance):
            hint = ""
            if agree(got, xs @ xs.mT, tolerance):
                hint = " You return X X^T, which has no inverse in it yet."
            elif rank < d:
                hint = (
                    " X^T X has no inverse here, and rounding hides it: the inverse that comes out "
                    "is noise. Use the pseudo-inverse."
                )
            elif agree(got, got @ got, 0.2) or float(trace[0]) < rank:
                hint = (
                    " The trace is below the rank, as with a ridge penalty, however small: H needs "
                    "none."
                )
            fail(f"{where} H X should be X, because inputs that are fitted exactly stay.{hint}")
        if not agree(got, got.mT, tolerance):
            fail(f"{where} H is not symmetric, so it projects, but not at right angles.")
        if not agree(got @ got, got, tolerance):
            fail(f"{where} H H should be H: fitting a fit changes nothing.")
        if not agree(trace, torch.full_like(trace, rank), tolerance):
            hint = ""
            if agree(trace, torch.full_like(trace, n), tolerance):
                hint = " Yours is the identity, which fits every y exactly."
            elif rank < min(n, d):
                hint = (
                    " With a QR or SVD, drop the directions whose singular value is zero up to "
                    "rounding."
                )
            fail(
                f"{where} the trace of H should be the rank of X, {rank}; yours is "
                f"{trace[0].item():.4g}.{hint}"
            )
    passed(2, "Hidden tests use one example, repeated columns, tiny and huge inputs, and zeros.")


def check_gradient_descent(answer: Callable[..., Tensor]) -> None:
    """``answer(xs, ys, step_size, steps, initial_weights) -> W``, against autograd."""
    batch, n, d, m, eta = 3, 5, 4, 2, 0.3
    xs, ys = draw(batch, n, d, seed=20), draw(batch, n, m, seed=21)
    start, zeros = draw(batch, m, d, seed=22), torch.zeros(batch, m, d, dtype=torch.float64)
    for steps in (1, 3):
        kept = [t.clone() for t in (xs, ys, start)]
        result = call(answer, xs, ys, eta, steps, start)
        got = tensor(result, (batch, m, d), what="W", axes="[batch, m, d]")
        for before, after, name in zip(
            kept, (xs, ys, start), ("xs", "ys", "initial_weights"), strict=True
        ):
            unchanged(before, after, name=name)
        right = descend(xs, ys, eta, steps, start)
        shared = descend(xs.reshape(1, -1, d), ys.reshape(1, -1, m), eta, 1, zeros[:1]).expand(
            batch, m, d
        )
        mistakes = [
            Mistake(
                descend(xs, ys, eta, steps, start, scale=n),
                f"Your step is N = {n} times too long: did the gradient average over the context? "
                "L has 1/(2N) in front of its sum.",
            ),
            Mistake(
                descend(xs, ys, eta, steps, start, scale=2.0),
                "Your step is twice too long: L has 1/(2N) in front, so the 2 of the square "
                "cancels.",
            ),
            Mistake(
                descend(xs, ys, eta, steps, start, scale=-1.0),
                "You climb: the loss goes up. A step is W minus eta times the gradient.",
            ),
            Mistake(
                descend(xs, ys, eta, steps, start, scale=1 / m),
                f"Your step is m = {m} times too short: the average runs over the examples, not "
                "over the outputs.",
            ),
            Mistake(
                descend(xs, ys, eta, steps, start, scale=1 / batch),
                f"Your step is {batch} times too short, the number of contexts in the batch. Each "
                "context has a loss of its own; do not average over them.",
            ),
            Mistake(
                descend(xs, ys, eta, steps, zeros),
                "Your descent starts at 0. It should start at `initial_weights`.",
            ),
            Mistake(
                descend(xs, ys, eta, 1, start) if steps > 1 else right,
                f"You made one step where {steps} were asked for, or you took the gradient at W0 "
                "each time and kept only the last step.",
            ),
            Mistake(
                start + steps * (descend(xs, ys, eta, 1, start) - start),
                "Every one of your steps uses the gradient at W0. Take it again at each new W.",
            ),
            Mistake(
                right - start,
                "You return the change of W. Return W itself.",
            ),
            Mistake(
                shared,
                "All your contexts share one W. Each context of the batch is a problem of its own.",
            ),
        ]
        compare(
            got,
            right,
            what=f"W after {steps} step{'s' if steps > 1 else ''}",
            tolerance=tolerance_of(result),
            mistakes=mistakes,
            otherwise="The derivative of L with respect to W is (1/N) sum (W x_i - y_i) x_i^T.",
        )
    result = call(answer, xs, ys, eta, 2, None)
    got = tensor(result, (batch, m, d), what="W from initial_weights=None", axes="[batch, m, d]")
    compare(
        got,
        descend(xs, ys, eta, 2, zeros),
        what="W from initial_weights=None (a start at zero)",
        tolerance=tolerance_of(result),
    )
    passed(3, "Hidden tests use other sizes, zero steps, and contexts that W0 fits already.")
