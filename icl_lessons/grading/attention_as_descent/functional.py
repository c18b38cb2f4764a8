"""Exercises 7 and 8: descent on a function, and descent through a softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    CheckFailed,
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


def _exponential(a: Tensor, b: Tensor) -> Tensor:
    return torch.exp(a @ b.mT / 2)


def _expansion(kernel, xs, ys, x_query, rates) -> Tensor:
    """``f = sum_i k(x_i, .) c_i``, with each c_i moved by r (y_i - f(x_i)); read at the queries."""
    coefficients = torch.zeros_like(ys)
    for rate in rates:
        fitted = kernel(xs, xs).mT @ coefficients
        coefficients = coefficients + rate * (ys - fitted)
    return kernel(x_query, xs) @ coefficients


def _by_labels(kernel, xs, ys, x_query, rates, *, late="none", reads="context", scale=None):
    """The layer's sums over labels, with things to get wrong; predictions at the queries.

    ``late`` says which tokens read labels that this layer has already moved.
    """
    n, x_all = xs.shape[1], torch.cat([xs, x_query], 1)
    scores = kernel(x_all, x_all)
    if scale is not None:
        scores = scale(scores, n)
    labels = torch.cat([ys, torch.zeros_like(x_query[..., :1]).expand(-1, -1, ys.shape[2])], 1)
    for rate in rates:
        old, labels = labels, labels.clone()
        for j in range(labels.shape[1]):
            at_once = late != "all" and late != ("context" if j < n else "queries")
            source = (old if at_once else labels).clone()
            for i in range(labels.shape[1]):
                if i < n or reads == "all" or reads == "itself" and i == j:
                    labels[:, j] = labels[:, j] - rate * scores[:, j, i, None] * source[:, i]
        if reads == "frozen":
            labels[:, :n] = ys
    return -labels[:, n:]


def check_functional_descent(answer: Callable[..., Tensor]) -> None:
    """``answer(kernel, xs, ys, x_query, rates) -> predictions``."""
    batch, n, q, d, m = 2, 4, 2, 3, 2
    xs, ys = 0.7 * draw(batch, n, d, seed=71), draw(batch, n, m, seed=72)
    x_query = 0.7 * draw(batch, q, d, seed=73)
    for rates in ([0.12], [0.12, 0.2, 0.05]):
        kept = [x.clone() for x in (xs, ys, x_query)]
        result = call(answer, _exponential, xs, ys, x_query, rates)
        got = tensor(result, (batch, q, m), what="the prediction", axes="[batch, q, m]")
        for before, now, name in zip(kept, (xs, ys, x_query), ("xs", "ys", "x_query"), strict=True):
            unchanged(before, now, name=name)

        def by_labels(rates=rates, **changed):
            return _by_labels(_exponential, xs, ys, x_query, rates, **changed)

        right = _expansion(_exponential, xs, ys, x_query, rates)
        mistakes = [
            Mistake(
                -right,
                "The sign is turned: the prediction is MINUS the query's label slot.",
            ),
            Mistake(
                by_labels(reads="frozen"),
                "The labels of your context stay as they were. Each layer takes from a label what "
                "the function has learned of it, and the next layer fits what is left.",
            ),
            *(
                Mistake(
                    by_labels(late=late),
                    "You update the labels one after another, so that a later label reads an "
                    "earlier one that has already moved. All labels of a layer read the labels "
                    "that came in.",
                )
                for late in ("all", "context")
            ),
            Mistake(
                by_labels(late="queries"),
                "Your queries read the labels of the context after this layer has moved them. All "
                "tokens of a layer read the labels that came in: update the slots first.",
            ),
            Mistake(
                by_labels(reads="all"),
                "Your sum reads the queries too. Their slots hold predictions, not residuals: only "
                "the context is read. With one layer this does not show, because they start at 0.",
            ),
            Mistake(
                by_labels(reads="itself"),
                "Each query reads itself. Its slot holds a prediction, not a residual: only the "
                "context is read.",
            ),
            Mistake(
                by_labels(rates=rates[:1] * len(rates)),
                "Every layer uses the first rate. Each layer has a rate of its own.",
            ),
            Mistake(
                by_labels(rates=rates[:1]),
                f"You made one layer where {len(rates)} rates were given.",
            ),
            Mistake(
                by_labels(rates=[r / n for r in rates]),
                "Your sum is divided by N. Here the rate stands alone in front of the sum.",
            ),
            Mistake(
                by_labels(scale=lambda s, n: s / s[..., :n].sum(-1, keepdim=True)),
                "Your kernel values are normalised over the context, as a softmax does. That is "
                "another algorithm: a layer of functional descent uses the kernel as it is.",
            ),
            Mistake(
                _by_labels(lambda a, b: a @ b.mT, xs, ys, x_query, rates),
                "You use the inner product of the inputs. Call `kernel` instead.",
            ),
        ]
        compare(
            got,
            right,
            what=f"With {len(rates)} layer(s), the prediction",
            tolerance=10 * tolerance_of(result),
            mistakes=mistakes,
            otherwise="Write the labels after one layer as a matrix product: (I - r K) Y.",
        )
    passed(7, "Hidden tests use other kernels and sizes, one example, and no layer at all.")


def _softmax_loss(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    scores = a @ x
    f = torch.exp(scores) / torch.exp(scores).sum()
    return (f - b).square().sum() / 2


def check_softmax_regression_gradient(answer: Callable[..., Tensor]) -> None:
    """``answer(a, b, x) -> gradient [d]``, against autograd."""
    n, d = 5, 3
    a, b, x = draw(n, d, seed=81), draw(n, seed=82), draw(d, seed=83)
    kept = [t.clone() for t in (a, b, x)]
    try:
        with torch.no_grad():
            result = call(answer, a, b, x)
    except CheckFailed as failed:
        if "does not require grad" in str(failed):
            fail("Here the check runs without autograd: write the formula of the gradient.")
        raise
    if isinstance(result, Tensor) and tuple(result.shape) == (n,):
        fail(
            f"You return {n} numbers, one for each row of A, and x has {d} entries. The derivative "
            "with respect to the scores A x is multiplied by A^T to become the one with respect "
            "to x."
        )
    got = tensor(result, (d,), what="the gradient", axes="[d]")
    for before, now, name in zip(kept, (a, b, x), ("a", "b", "x"), strict=True):
        unchanged(before, now, name=name)
    point = x.clone().requires_grad_()
    (right,) = torch.autograd.grad(_softmax_loss(a, b, point), point)
    f = torch.exp(a @ x) / torch.exp(a @ x).sum()
    error = f - b
    mistakes = [
        Mistake(
            a.mT @ (f * error),
            "You have diag(f) where diag(f) - f f^T is needed. Raising one score lowers every "
            "other entry of f, because they share one sum: that is the f f^T.",
        ),
        Mistake(
            a.mT @ (f * (f @ error)),
            "You have f f^T without diag(f).",
        ),
        Mistake(
            a.mT @ (f * error + f * (f @ error)),
            "The sign of f f^T is turned: the Jacobian of a softmax is diag(f) - f f^T.",
        ),
        Mistake(
            a.mT @ error,
            "You return A^T (f - b), the gradient of the cross-entropy. Here the loss is a square, "
            "and the Jacobian of the softmax, diag(f) - f f^T, stays.",
        ),
        Mistake(-right, "The sign is turned: the residual is f - b."),
        Mistake(2 * right, "Your gradient is twice too long: the loss has 1/2 in front."),
        Mistake(
            a.mT @ (a @ x - b),
            "There is no softmax in your gradient: that is the one of linear regression.",
        ),
    ]
    compare(
        got,
        right,
        what="The gradient",
        tolerance=10 * tolerance_of(result),
        mistakes=mistakes,
        otherwise="Chain rule: from x to the scores A x, from the scores to f, from f to the loss.",
    )
    passed(8, "Hidden tests use other sizes, one row, and scores in the thousands.")
