"""Exercise 8: the outputs that belong to given scores, and what heads of both signs ignore."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    call,
    compare,
    fail,
    passed,
    tensor,
    tolerance_of,
    unchanged,
)
from icl_lessons.grading.sums import draw


def approximate_loss(mu: Tensor, omega: Tensor, d: int, n_context: int, noise: float) -> Tensor:
    """The quadratic form of He et al., written as the double sum over heads that it is."""
    total = 1 + noise - 2 * (mu * omega).sum()
    for m, o in zip(mu, omega, strict=True):
        for k, p in zip(mu, omega, strict=True):
            total = total + m * k * (o * p + (1 + noise) / n_context * torch.exp(d * o * p))
    return total


def lowest(omega: Tensor, d: int, n_context: int, noise: float) -> Tensor:
    """The lowest point of a quadratic form, from its slope and its curvature at 0."""

    def loss(mu):
        return approximate_loss(mu, omega, d, n_context, noise)

    zero = torch.zeros_like(omega)
    slope = torch.autograd.functional.jacobian(loss, zero)
    return -torch.linalg.solve(torch.autograd.functional.hessian(loss, zero), slope)


def softmax_heads(omega: list[float], mu: list[float]):
    """A learner: ``sum_h mu_h sum_i y_i softmax_i(omega_h x_i . x_q)``."""

    def learner(xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
        scores = x_query @ xs.mT
        return sum(m * (o * scores).softmax(-1) @ ys for o, m in zip(omega, mu, strict=True))

    return learner


def _plain(xs, ys, x_query):
    return 0.7 * x_query @ xs.mT @ ys / xs.shape[1]


def _centred(xs, ys, x_query):
    return 0.7 * x_query @ (xs - xs.mean(1, keepdim=True)).mT @ ys / xs.shape[1]


def _least_squares(xs, ys, x_query):
    return x_query @ torch.linalg.pinv(xs) @ ys


LEARNERS = [
    ("two heads with mu = 1.3 and -1.3", softmax_heads([0.3, -0.3], [1.3, -1.3]), True),
    ("two heads with mu = 1.3 and -1.2", softmax_heads([0.3, -0.3], [1.3, -1.2]), False),
    ("one step of descent", _plain, False),
    ("one step of descent on centred inputs", _centred, True),
    ("least squares without an intercept", _least_squares, False),
]


def check_heads(best_outputs: Callable, is_debiased: Callable) -> None:
    """``best_outputs(omega, d, n_context, noise)``, ``is_debiased(learner, xs, ys, x_query)``."""
    omega, d, n, noise = torch.tensor([0.31, -0.27, 0.12]).double(), 5, 40, 0.4
    kept = omega.clone()
    result = call(best_outputs, omega, d, n, noise)
    unchanged(kept, omega, name="omega")
    got = tensor(result, (3,), what="the outputs", axes="[H]")
    products = torch.outer(omega, omega)

    def best(inside, first=products):
        return torch.linalg.solve(first + inside, omega)

    share = (1 + noise) / n
    elementwise = (d * products).exp()
    mistakes = [
        Mistake(
            best(share * torch.linalg.matrix_exp(d * products)),
            "You take the matrix exponential. The exponential in the formula is taken entry by "
            "entry: it is the mean of a product of two heads' weights.",
        ),
        Mistake(best(elementwise), "The factor (1 + s^2) / N is missing."),
        Mistake(best((1 + noise) * elementwise), "The 1 / N is missing."),
        Mistake(best(elementwise / n), "The noise is missing: (1 + s^2) / N."),
        Mistake(best(noise / n * elementwise), "The signal is missing: (1 + s^2) / N."),
        Mistake(
            best((1 + noise**2) / n * elementwise),
            "You square the noise variance. It is s^2 already.",
        ),
        Mistake(best(share * products.exp()), "The d in the exponent is missing."),
        Mistake(
            best(share * elementwise, 0 * products),
            "omega omega^T itself is missing from the matrix.",
        ),
        Mistake(
            torch.diagonal(products + share * elementwise).reciprocal() * omega,
            "You treat each head by itself. The heads' outputs are added, so they share one error.",
        ),
        Mistake(-best(share * elementwise), "The sign is turned: the slope at 0 is -2 omega."),
        Mistake(best(share * elementwise) / 2, "A factor 2 is lost: the slope is -2 omega."),
        Mistake(best(share * elementwise) * 2, "A factor 2 too many: both terms have one."),
    ]
    compare(
        got,
        lowest(omega, d, n, noise),
        what="An output",
        tolerance=100 * tolerance_of(result),
        mistakes=mistakes,
        otherwise="Set the derivative of the loss by mu to zero.",
    )
    _check_verdicts(is_debiased)
    pair = call(best_outputs, torch.tensor([0.33, -0.33]).double(), 5, 40, 0.1)
    passed(
        8,
        "Hidden tests use other heads and learners. For omega = +-0.33, d = 5, N = 40 and s^2 = "
        f"0.1 your outputs are {float(pair[0]):.3f} and {float(pair[1]):.3f}: their sum is "
        f"{abs(float(pair[0] + pair[1])):.0e}.",
    )


def _check_verdicts(answer: Callable) -> None:
    xs, ys, x_query = draw(3, 6, 4, seed=81), draw(3, 6, 1, seed=82), draw(3, 2, 4, seed=83)
    for words, learner, right in LEARNERS:
        kept = [v.clone() for v in (xs, ys, x_query)]
        result = call(answer, learner, xs, ys, x_query)
        for old, now, name in zip(kept, (xs, ys, x_query), ("xs", "ys", "x_query"), strict=True):
            unchanged(old, now, name=name)
        if result is None:
            fail("`is_debiased` returned None. Is the `return` missing?")
        if isinstance(result, (str, tuple, list)) or (
            isinstance(result, Tensor) and result.numel() != 1
        ):
            fail("`is_debiased` returns True or False, one verdict for the learner.")
        if bool(result) == right:
            continue
        moved = (learner(xs, ys + 1, x_query) - learner(xs, ys, x_query)).abs().max()
        if right:
            fail(
                f"For {words} a constant added to all labels moves no prediction by more than "
                f"{moved:.0e}, which is rounding. You say False."
            )
        fail(
            f"For {words} a 1 added to all labels moves a prediction by {moved:.2g}. You say True."
        )
