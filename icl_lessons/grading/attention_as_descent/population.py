"""Exercise 4: the preconditioner that is best on average over contexts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    call,
    compare,
    passed,
    tensor,
    tolerance_of,
    unchanged,
)
from icl_lessons.grading.sums import draw


def _second_moment(covariance: Tensor, n: int) -> Tensor:
    """``E[S^2]`` for ``S = (1/n) sum x_i x_i^T`` and Gaussian x, term by term.

    Two different examples give the product of their means; one example met twice gives a fourth
    moment, the sum over the three pairings of four Gaussian factors.
    """
    d = len(covariance)
    once = torch.zeros(d, d, dtype=torch.float64)
    for a in range(d):
        for b in range(d):
            for c in range(d):
                once[a, b] += (
                    covariance[a, c] * covariance[c, b]
                    + covariance[a, b] * covariance[c, c]
                    + covariance[a, c] * covariance[c, b]
                )
    return (once + (n - 1) * covariance @ covariance) / n


def _best(covariance: Tensor, n: int) -> Tensor:
    """The G with ``G E[S^2] = E[S]``: where the derivative of the loss in G is zero."""
    return torch.linalg.solve(_second_moment(covariance, n), covariance, left=False)


def _average(xs, ys, x_query, matrix, n: int) -> Tensor:
    """``x_q^T G (1/n) sum_i x_i y_i^T``, one query at a time."""
    out = torch.zeros(len(xs), x_query.shape[1], ys.shape[2], dtype=torch.float64)
    for b, (x, y) in enumerate(zip(xs, ys, strict=True)):
        slope = sum(torch.outer(x_i, y_i) for x_i, y_i in zip(x, y, strict=True)) / n
        for j, query in enumerate(x_query[b]):
            out[b, j] = query @ matrix @ slope
    return out


def check_optimal_preconditioner(
    preconditioner: Callable[..., Tensor], prediction: Callable[..., Tensor]
) -> None:
    """``preconditioner(covariance, n_train)`` and the prediction made with it."""
    d, eye = 3, torch.eye(3, dtype=torch.float64)
    root = draw(d, d, seed=41)
    covariance = root @ root.mT + 0.2 * eye
    trace = covariance.diagonal().sum()
    for n in (4, 1):
        kept = covariance.clone()
        result = call(preconditioner, covariance, n)
        got = tensor(result, (d, d), what="the preconditioner", axes="[d, d]")
        unchanged(kept, covariance, name="covariance")
        right = _best(covariance, n)

        def inverse(factor, constant):
            gamma = factor * covariance + constant * eye
            return torch.linalg.pinv(gamma)

        mistakes = [
            Mistake(
                inverse(1.0, 0.0),
                "You return the inverse of the covariance. That is the limit n_train -> infinity; "
                "a short context is noisy, and the best preconditioner trusts it less.",
            ),
            Mistake(
                inverse(1 + 1 / n, 0.0),
                "The trace term is missing. Gamma also holds tr(Lambda)/N times the identity: "
                "noise from every direction leaks into every other.",
            ),
            Mistake(
                inverse(1 - 1 / n, trace / n),
                "You have 1 - 1/N where 1 + 1/N is right. 1 - 1/N is the share of pairs of "
                "different examples; an example met twice adds 2/N, from its fourth moment.",
            ),
            Mistake(
                inverse(1.0, trace / n),
                "You have 1 where 1 + 1/N is right: an example met twice has a fourth moment, and "
                "its three pairings give 2 Lambda^2 + tr(Lambda) Lambda.",
            ),
            Mistake(
                inverse(1 + 1 / n, trace),
                "Your trace term is not divided by N.",
            ),
            Mistake(
                inverse(1 + 1 / n, 1 / n),
                "Your second term is the identity over N: the trace of Lambda is missing from it.",
            ),
            Mistake(
                inverse(1 + 1 / n, trace / n / d),
                "You divide the trace by d as well. The term is tr(Lambda)/N.",
            ),
            Mistake(
                (1 + 1 / n) * covariance + trace / n * eye,
                "You return Gamma. The preconditioner is its inverse.",
            ),
            Mistake(
                right / n,
                "Your matrix is N times too small: the average over the context is taken by the "
                "prediction, not by the preconditioner.",
            ),
        ]
        compare(
            got,
            right,
            what=f"With n_train = {n}, the preconditioner",
            tolerance=10 * tolerance_of(result),
            mistakes=mistakes,
            otherwise="For d = 1 and variance s it is 1 / (s (1 + 2/N)).",
        )
    batch, length, q, m, n = 2, 7, 2, 2, 4
    xs, ys, x_query = (
        draw(batch, length, d, seed=42),
        draw(batch, length, m, seed=43),
        draw(batch, q, d, seed=44),
    )
    result = call(prediction, xs, ys, x_query, covariance, n)
    got = tensor(result, (batch, q, m), what="the prediction", axes="[batch, q, m]")
    right, at_test = _best(covariance, n), _best(covariance, length)
    compare(
        got,
        _average(xs, ys, x_query, right, length),
        what="The prediction",
        tolerance=10 * tolerance_of(result),
        mistakes=[
            Mistake(
                _average(xs, ys, x_query, at_test, length),
                "You build the preconditioner from the length of the test context, M. It is part "
                "of the trained weights, which know n_train alone.",
            ),
            Mistake(
                _average(xs, ys, x_query, right, n),
                "You divide the sum over the test context by n_train. The layer averages over the "
                "M examples that it is given.",
            ),
            Mistake(
                _average(xs, ys, x_query, right, 1),
                "You add up the test context. The layer averages over its M examples.",
            ),
            Mistake(
                x_query @ torch.linalg.pinv(xs) @ ys,
                "You return the least-squares prediction of this context. The layer has one matrix "
                "for all contexts, made in training.",
            ),
            Mistake(
                _average(xs, ys, x_query, eye, length),
                "The preconditioner is not in your prediction.",
            ),
            Mistake(
                -_average(xs, ys, x_query, right, length),
                "Your prediction has the wrong sign: from W0 = 0, a step DOWN the loss gives "
                "plus x_q^T G times the average of x_i y_i^T.",
            ),
        ],
        otherwise="It is x_q^T G (1/M) sum_i x_i y_i^T, with M = xs.shape[1].",
    )
    passed(4, "Hidden tests use other sizes, one example, and a covariance without an inverse.")
