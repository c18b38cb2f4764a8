"""Exercise 4: the objective that a learner's sensitivity to labels gives away."""

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

TOLERANCE = 1e-5
"""Wide enough for derivatives taken by differences."""


def _slopes_and_features(weights: Tensor, xs: Tensor, x_query: Tensor) -> tuple[Tensor, Tensor]:
    """One row for each label and query: ``weights[b, q, i]`` and ``x_i x_q^T / N`` in a line."""
    n = xs.shape[1]
    features = [
        torch.outer(xs[b, i], x_query[b, q]).flatten() / n
        for b in range(len(xs))
        for q in range(x_query.shape[1])
        for i in range(n)
    ]
    return weights.flatten(), torch.stack(features)


def _fit(slopes: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    d = round(features.shape[-1] ** 0.5)
    flat = torch.linalg.pinv(features) @ slopes
    left = (slopes - features @ flat).square().sum()
    total = slopes.square().sum()
    share = 1 - left / total if total > 0 else torch.zeros(())
    return flat.view(d, d), share.double()


def _learners(gamma: Tensor, direct: Tensor):
    """(words, learner, its derivatives by the labels), the latter written out."""

    def step(xs, ys, x_query):
        return torch.einsum("bnm,bnd,de,bqe->bqm", ys, xs, gamma, x_query) / xs.shape[1]

    def step_weights(xs, ys, x_query):
        return torch.einsum("bnd,de,bqe->bqn", xs, gamma, x_query) / xs.shape[1]

    def cubed(xs, ys, x_query):
        return step(xs, ys + ys**3 / 3, x_query)

    def none(xs, ys, x_query):
        return xs.new_zeros(len(xs), x_query.shape[1], xs.shape[1])

    return [
        ("one step of descent", step, step_weights),
        (
            "one step, and a path of its own from the query",
            lambda xs, ys, x_query: step(xs, ys, x_query) + (x_query @ direct)[..., None],
            step_weights,
        ),
        (
            "a learner that trusts large labels more",
            cubed,
            lambda xs, ys, x_query: step_weights(xs, ys, x_query) * (1 + ys.square().mT),
        ),
        (
            "a learner that ignores its labels",
            lambda xs, ys, x_query: (x_query @ direct)[..., None] + 0 * ys.sum(1, keepdim=True),
            none,
        ),
    ]


def _from_the_query(learner, xs, ys, x_query) -> Tensor:
    """What the derivative by the query gives: regressed on ``1/N sum y_i x_i``."""
    x_query = x_query.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(learner(xs, ys, x_query).sum(), x_query)
    beta = (ys * xs).mean(1, keepdim=True).expand_as(slopes)
    return torch.linalg.pinv(beta.flatten(0, 1)) @ slopes.flatten(0, 1)


def check_implied_preconditioner(answer: Callable[..., tuple[Tensor, float]]) -> None:
    """``answer(learner, xs, ys, x_query) -> (gamma [d, d], r_squared)``."""
    batch, n, q, d = 4, 5, 2, 3
    xs, ys = draw(batch, n, d, seed=41) + 0.5, draw(batch, n, 1, seed=42)
    x_query = draw(batch, q, d, seed=43) - 0.5
    gamma, direct = draw(d, d, seed=44), draw(d, seed=45)
    for words, learner, derivative in _learners(gamma, direct):
        kept = [v.clone() for v in (xs, ys, x_query)]
        result = call(answer, learner, xs, ys, x_query)
        if result is None:
            fail("`implied_preconditioner` returned None. Is the `return` missing?")
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            fail("Return two things: the matrix, [d, d], and the share that it explains.")
        got = tensor(result[0], (d, d), what="the preconditioner", axes="[d, d]")
        for before, now, name in zip(kept, (xs, ys, x_query), ("xs", "ys", "x_query"), strict=True):
            unchanged(before, now, name=name)
        slopes, features = _slopes_and_features(derivative(xs, ys, x_query), xs, x_query)
        right, share = _fit(slopes, features)
        tolerance = max(TOLERANCE, tolerance_of(result[0]))
        each = torch.stack([_fit(s, f)[0] for s, f in _by_prompt(slopes, features, batch)])
        finite = _finite_step(learner, xs, ys, x_query)
        mistakes = [
            Mistake(
                right / n,
                f"Your matrix is N = {n} times too small: the 1/N belongs to the features, "
                "x_i x_q^T / N, and not to the matrix.",
            ),
            Mistake(right * n, f"Your matrix is N = {n} times too large: you divide by N twice."),
            Mistake(
                right.mT,
                "Your matrix is transposed. In x_i^T Gamma x_q the rows of Gamma belong to the "
                "example, the columns to the query.",
            ),
            Mistake(
                (right + right.mT) / 2,
                "You return a symmetric matrix. A learner's Gamma need not be one.",
            ),
            Mistake(
                _from_the_query(learner, xs, ys, x_query),
                "You differentiate by the query. A learner may use its query without having "
                "learnt anything from its context; the labels are what tells a fit from a habit.",
            ),
            Mistake(
                each.mean(0),
                "You fit each prompt by itself and average. Fit one matrix to all of them: a "
                "learner has one, and a single prompt may not determine it.",
            ),
            Mistake(
                _fit(*_slopes_and_features(finite, xs, x_query))[0],
                "You change a label by a whole unit and divide. That is the derivative only for "
                "learners that are linear in the labels: take a small change, or autograd.",
            ),
        ]
        compare(
            got,
            right,
            what=f"For {words} the preconditioner",
            tolerance=tolerance,
            mistakes=mistakes,
            otherwise="One row of the regression is one label of one prompt and one query.",
        )
        _check_share(result[1], words, slopes, features, share)
    passed(4, "Hidden tests use other sizes, and learners that take two steps.")


def _by_prompt(slopes, features, batch):
    return zip(slopes.chunk(batch), features.chunk(batch), strict=True)


def _finite_step(learner, xs, ys, x_query) -> Tensor:
    """The change of the outputs for a change of one label by 1, ``[batch, q, n]``."""
    base, out = learner(xs, ys, x_query), []
    for i in range(xs.shape[1]):
        moved = ys.clone()
        moved[:, i] += 1
        out.append((learner(xs, moved, x_query) - base)[..., 0])
    return torch.stack(out, -1)


def _check_share(value, words, slopes, features, right) -> None:
    try:
        got = torch.as_tensor(float(value)).double()
    except (TypeError, ValueError):
        fail("The second thing that you return should be a number, the share R^2.")
    if not bool(torch.isfinite(got)):
        fail(
            f"For {words} your R^2 is {float(got)}. Where no output moves with any label the "
            "share is 0 by definition: there is no inner learner."
        )
    residual = slopes - features @ _fit(slopes, features)[0].flatten()
    spread = (slopes - slopes.mean()).square().sum()
    mistakes = [
        Mistake(
            1 - residual.square().sum() / spread if spread > 0 else right,
            "You subtract the mean from the derivatives in R^2. The fit has no intercept, and a "
            "share of the plain sum of squares is asked for.",
        ),
        Mistake(1 - right, "You return the share that is left over. R^2 is 1 minus that."),
        Mistake(right.clamp_min(0).sqrt(), "You return R. The share is its square."),
    ]
    compare(got, right, what=f"For {words} R^2", tolerance=TOLERANCE, mistakes=mistakes)
