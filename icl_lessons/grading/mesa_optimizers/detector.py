"""Exercise 5: which loss does an update descend?"""

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

THRESHOLD = 0.99


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True)


def library() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Minus the derivative of each loss by the prediction, ``(p, y) -> [batch, n, m]``."""

    def cosine(p: Tensor, y: Tensor) -> Tensor:
        along = (_unit(p) * _unit(y)).sum(-1, keepdim=True)
        return (_unit(y) - along * _unit(p)) / p.norm(dim=-1, keepdim=True)

    return {
        "squared": lambda p, y: y - p,
        "ascent": lambda p, y: p - y,
        "huber": lambda p, y: (y - p).clamp(-0.5, 0.5),
        "absolute": lambda p, y: (y - p).sign(),
        "cosine": cosine,
    }


def _rotated(p: Tensor, y: Tensor) -> Tensor:
    """The residual turned by a right angle in its first two entries: it descends nothing."""
    r = y - p
    return torch.cat([-r[..., 1:2], r[..., :1], r[..., 2:]], -1)


def _updates(values: Tensor, xs: Tensor, rate: float) -> Tensor:
    """``rate sum_i v_i (x_i . x_j)`` for every token j, one pair at a time."""
    out = torch.zeros_like(values)
    for b in range(len(xs)):
        for j in range(xs.shape[1]):
            for i in range(xs.shape[1]):
                out[b, j] += rate * values[b, i] * (xs[b, i] @ xs[b, j])
    return out


def _seen(values: Tensor, xs: Tensor) -> Tensor:
    """The part of the values that an update can show: combinations of the columns of X."""
    return xs @ (torch.linalg.pinv(xs) @ values)


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def check_detect_objective(demix: Callable[..., Tensor], detect: Callable) -> None:
    """``demix(delta_p, xs)`` and ``detect(delta_p, xs, ys, predictions, values)``."""
    losses = library()
    batch, m, rate = 4, 2, 0.07
    for n, d in ((3, 5), (6, 4)):
        words = f"With N = {n} and d = {d}"
        xs, ys = draw(batch, n, d, seed=51), draw(batch, n, m, seed=52)
        predictions = ys + 0.9 * draw(batch, n, m, seed=53)
        for name, field in {**losses, None: _rotated}.items():
            values = field(predictions, ys)
            delta_p = _updates(values, xs, rate)
            kept = [v.clone() for v in (delta_p, xs, ys, predictions)]
            result = call(demix, delta_p, xs)
            got = tensor(result, (batch, n, m), what="the de-mixed values", axes="[batch, N, m]")
            _check_values(got, delta_p, rate * _seen(values, xs), xs, words, tolerance_of(result))
            found = call(detect, delta_p, xs, ys, predictions, dict(losses))
            for before, now, what in zip(
                kept,
                (delta_p, xs, ys, predictions),
                ("delta_p", "xs", "ys", "predictions"),
                strict=True,
            ):
                unchanged(before, now, name=what)
            fields = {k: v(predictions, ys) for k, v in losses.items()}
            _check_verdict(found, name, values, fields, delta_p, xs, words)
    passed(5, "Hidden tests use other sizes, other losses, and updates that descend none of them.")


def _check_values(got, delta_p, right, xs, words, tolerance) -> None:
    gram = xs @ xs.mT
    mistakes = [
        Mistake(
            delta_p,
            "You return the update itself. Its rows are mixtures: token j hears v_i times "
            "x_i . x_j from every i.",
        ),
        Mistake(
            gram @ delta_p,
            "You multiply by the matrix of the x_i . x_j once more. De-mixing undoes it.",
        ),
        Mistake(
            delta_p / gram.diagonal(dim1=-2, dim2=-1)[..., None],
            "You divide by |x_j|^2 alone. That would be right if no two inputs overlapped.",
        ),
    ]
    if not agree(got, right, 1e-3) and got.abs().max() > 1e3 * right.abs().max():
        fail(
            f"{words} your values are enormous. With N > d the matrix of the x_i . x_j has no "
            "inverse, and what an update can show is a part of the values: take the smallest "
            "values that explain it (a pseudo-inverse)."
        )
    compare(
        got,
        right,
        what=f"{words} a de-mixed value",
        tolerance=max(1e-6, tolerance),
        mistakes=mistakes,
        otherwise="Put your values back into the sum over i: does the update come out, and are "
        "they the smallest that do it?",
    )


def _check_verdict(found, name, values, fields, delta_p, xs, words) -> None:
    if found is None:
        fail("`detect_objective` returned None. Is the `return` missing?")
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not isinstance(found[1], dict):
        fail("`detect_objective` should return two things: a name or None, and a dict of scores.")
    if set(found[1]) != set(fields):
        fail("Your scores should have the names of the losses that were handed in, all of them.")
    try:
        scores = torch.tensor([float(found[1][k]) for k in fields]).double()
    except (TypeError, ValueError):
        fail("A score is a number: the cosine between two sets of values.")
    seen = {k: _seen(v, xs) for k, v in fields.items()}
    own = _seen(values, xs)

    def every(score):
        return torch.stack([score(k) for k in fields]).double()

    flat = {k: v.flatten(0, 1) for k, v in seen.items()}
    rows = torch.cosine_similarity
    right = every(lambda k: _similarity(own, seen[k]))
    mistakes = [
        Mistake(
            every(lambda k: _similarity(delta_p, fields[k])),
            "You compare the update with the candidates. Compare the de-mixed values: in the "
            "update every token has heard all others, and a wrong loss can win.",
        ),
        Mistake(
            every(lambda k: _similarity(delta_p, seen[k])),
            "You compare the update with the candidates. Compare the de-mixed values: in the "
            "update every token has heard all others, and a wrong loss can win.",
        ),
        Mistake(
            every(lambda k: _similarity(own, fields[k])),
            f"{words} you compare a part with a whole. An update shows only the part of the values "
            "that is made of the columns of X; keep the same part of each candidate.",
        ),
        Mistake(
            right.abs(),
            "You drop the sign of the cosine. A step UP the squared loss has the cosine -1.",
        ),
        Mistake(
            every(lambda k: rows(own.flatten(0, 1), flat[k], dim=-1).mean()),
            "You average cosines of single examples. Join all numbers of the batch into one "
            "vector: then small values, which are noise, count little.",
        ),
        Mistake(
            every(lambda k: rows(own.flatten(1), seen[k].flatten(1), dim=-1).mean()),
            "You average the cosines of the contexts. Join all numbers of the batch into one "
            "vector.",
        ),
        Mistake(
            every(lambda k: (own * seen[k]).sum()),
            "You do not divide by the lengths. A score must not depend on the step size.",
        ),
    ]
    compare(
        scores,
        right,
        what=f"{words} and values of the {name or 'rotated'} kind, a score",
        tolerance=1e-5,
        mistakes=mistakes,
        otherwise=f"The scores are in the order {', '.join(fields)}.",
    )
    if found[0] != name:
        if name is None:
            fail(
                "An update that descends no loss of the library got the name "
                f"{found[0]!r}: its best score is {float(right.max()):.2f}. Below {THRESHOLD} the "
                "answer is None."
            )
        fail(f"{words} the update descends {name!r}, by your own scores; you return {found[0]!r}.")
