"""Exercises 1 and 5: the change of a matrix that stands for a context, for one query or several."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    FLOAT32_TOLERANCE,
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


def least_change(w: Tensor, alone: Tensor, added: Tensor) -> Tensor:
    """The least-norm ``Delta`` with ``Delta a_j = W d_j`` for all rows ``j``, by pseudo-inverse."""
    return (torch.linalg.pinv(alone) @ added @ w.mT).mT


def _updates(w: Tensor, left: Tensor, right: Tensor, square: Tensor) -> Tensor:
    """``W left right^T / square``, one query at a time."""
    return torch.stack(
        [torch.outer(w @ d, a) / s for d, a, s in zip(left, right, square, strict=True)]
    )


def check_implicit_update(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """``answer(w, with_context, without) -> [batch, h, D]``."""
    batch, h, d = 3, 5, 4
    w = draw(h, d, seed=1)
    for scale in (1.0, 1e-3, 1e3):
        u, v = scale * draw(batch, d, seed=2), scale * draw(batch, d, seed=3)
        kept = [t.clone() for t in (w, u, v)]
        result = call(answer, w, u, v)
        for before, now, name in zip(
            kept, (w, u, v), ("w", "with_context", "without"), strict=True
        ):
            unchanged(before, now, name=name)
        _refuse_shapes(result, (batch, h, d))
        got = tensor(result, (batch, h, d), what="the update", axes="[batch, h, D]")
        right = torch.stack(
            [least_change(w, a[None], (b - a)[None]) for a, b in zip(v, u, strict=True)]
        )
        compare(
            got,
            right,
            what=f"With readings of a size of about {scale:g} the update",
            tolerance=tolerance_of(result),
            mistakes=_mistakes(w, u, v),
            otherwise="Apply W + Delta to `without`: it has to give W times `with_context`.",
        )
    other = draw(d, seed=4) * scale
    off = (w + got[0]) @ v[1] - w @ u[1]
    nothing = w @ (v[1] - u[1])
    passed(
        1,
        "Hidden tests use other sizes. Your update of query 0, applied to query 1, misses by "
        f"{off.norm() / scale:.1f}; no update at all misses by {nothing.norm() / scale:.1f}. On a "
        f"random direction it acts as well: it moves W a by {(got[0] @ other).norm() / scale:.1f}.",
    )


def _refuse_shapes(result, shape) -> None:
    batch, h, d = shape
    if isinstance(result, Tensor) and tuple(result.shape) == (batch, d, d):
        fail(
            f"Your update has the shape [batch, D, D] = {[batch, d, d]}. It is added to W, so it "
            "is [batch, h, D]: the change of the reading still has to go through W."
        )
    if isinstance(result, Tensor) and tuple(result.shape) == (h, d):
        fail("You return one matrix. Each query has an update of its own: [batch, h, D].")


def _mistakes(w: Tensor, u: Tensor, v: Tensor) -> list[Mistake]:
    d, uu, vv = u - v, u.square().sum(-1), v.square().sum(-1)
    length = vv.sqrt()
    return [
        Mistake(
            _updates(w, d, u, uu),
            "You divide by |A(C, x)|^2 and use A(C, x) on the right. The changed block never sees "
            "the removed tokens: what its matrix meets is the reading WITHOUT them.",
        ),
        Mistake(
            _updates(w, d, v, uu),
            "The denominator comes from the reading with the context. (W + Delta) a = W a + W d "
            "needs a^T a = |a|^2 of the reading without it.",
        ),
        Mistake(
            _updates(w, d, u, vv),
            "The vector on the right is the reading with the context. The changed matrix meets the "
            "reading WITHOUT it.",
        ),
        Mistake(-_updates(w, d, v, vv), "The sign is turned: d is WITH minus WITHOUT."),
        Mistake(
            _updates(w, u, v, vv),
            "You write the whole reading into the update. W a is there already; Delta adds the "
            "difference alone.",
        ),
        Mistake(
            _updates(w, d, v, length),
            "You divide by |a|, not by its square: a^T a is |a|^2. At other scales that shows.",
        ),
        Mistake(
            _updates(w, d, v, torch.ones_like(vv)),
            "You do not divide. (W d) a^T applied to a is W d times |a|^2.",
        ),
        Mistake(
            _updates(w, d, v, vv.sum().expand_as(vv)),
            "The square in your denominator is summed over the batch. Each query has its own.",
        ),
        Mistake(
            _updates(w, d, v, vv / v.shape[-1]),
            "Your denominator is a mean of squares. |a|^2 is their sum.",
        ),
        Mistake(
            w + _updates(w, d, v, vv),
            "You return W + Delta. The change alone is asked for.",
        ),
    ]


# --- exercise 5 -----------------------------------------------------------------------------------


def _cases():
    """``(words, W, rows a_j, rows d_j, whether a change exists)``."""
    h, d = 3, 4
    w = draw(h, d, seed=51)
    alone, added = draw(d + 1, d, seed=52), draw(d + 1, d, seed=53)
    yield "For one query", w, alone[:1], added[:1], True
    yield "For two queries", w, alone[:2], added[:2], True
    yield f"For {d} queries and D = {d}", w, alone[:d], added[:d], True
    yield f"For {d + 1} queries and D = {d}", w, alone, added, False
    twice = torch.tensor([0, 1, 0])
    yield "With the first query repeated", w, alone[twice], added[twice], True
    more = torch.tensor([0, 1, 0, 1, 1])
    yield f"With two queries, {len(more)} rows in all,", w, alone[more], added[more], True
    yield "For two queries of the same reading a and different d", w, alone[twice], added[:3], False


def check_joint_update(answer: Callable[[Tensor, Tensor, Tensor], Tensor | None]) -> None:
    """``answer(w, alone, added) -> [h, D]``, or None where there is no such change."""
    for number, (words, w, alone, added, exists) in enumerate(_cases()):
        kept = [t.clone() for t in (w, alone, added)]
        result = call(answer, w, alone, added)
        for before, now, name in zip(kept, (w, alone, added), ("w", "alone", "added"), strict=True):
            unchanged(before, now, name=name)
        h, d = w.shape
        if not exists:
            if result is not None and not isinstance(result, Tensor):
                fail(f"{words} no change of W serves them all: return None itself, not {result!r}.")
            if result is not None:
                got = tensor(result, (h, d), what="the change", axes="[h, D]")
                miss = (alone @ got.mT - added @ w.mT).abs().max()
                fail(
                    f"{words} no change of W serves them all, and yours misses by {miss:.2g}. "
                    "Return None."
                )
            continue
        if result is None and number:
            fail(f"{words} there is a change that serves them all, and you return None.")
        if isinstance(result, Tensor) and tuple(result.shape) == (d, d):
            fail(
                f"Your change has the shape [D, D] = {[d, d]}. It is added to W, [h, D]: the "
                "differences d_j still have to go through W."
            )
        got = tensor(result, (h, d), what="the change", axes="[h, D]")
        _compare_joint(got, words, w, alone, added, 10 * tolerance_of(result))
    ranks = [int(torch.linalg.matrix_rank(least_change(w, alone[:k], added[:k]))) for k in (1, 2)]
    passed(
        5,
        "Hidden tests use other sizes, and readings that depend on each other. For one query and "
        f"for two the smallest change has rank {ranks[0]} and {ranks[1]}.",
    )


def _compare_joint(got, words, w, alone, added, tolerance) -> None:
    right = least_change(w, alone, added)
    ones = _updates(w, added, alone, alone.square().sum(-1))
    turn = w.clone()
    for a, d in zip(alone, added, strict=True):
        turn = turn + torch.outer(w @ (a + d) - turn @ a, a) / (a @ a)
    mistakes = [
        Mistake(
            ones.sum(0),
            f"{words} you add up the updates of the single queries. Each of them also acts on the "
            "other readings, unless these are orthogonal.",
        ),
        Mistake(
            ones.mean(0),
            f"{words} you average the updates of the single queries. That serves none of them.",
        ),
        Mistake(ones[-1], f"{words} only the last one is served."),
        Mistake(ones[0], f"{words} only the first one is served."),
        Mistake(
            turn - w,
            f"{words} you correct W for one after the other: the later corrections undo part of "
            "the earlier ones. Solve for all at once.",
        ),
        Mistake(w + right, "You return W + Delta. The change alone is asked for."),
        Mistake(
            least_change(w, alone, alone + added),
            "You ask for Delta a_j = W (a_j + d_j). W a_j is there already: Delta adds W d_j.",
        ),
        Mistake(-right, "The sign is turned."),
    ]
    if not agree(got, right, tolerance) and agree(alone @ got.mT, added @ w.mT, tolerance):
        fail(
            f"{words} your change serves them all, and it is not the smallest: its norm is "
            f"{got.norm():.3g}, and {right.norm():.3g} is enough."
        )
    for ridge in (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0):
        inside = alone @ alone.mT + ridge * torch.eye(len(alone)).double()
        shrunk = (alone.mT @ torch.linalg.solve(inside, added @ w.mT)).mT
        sentence = "A ridge shrinks your change: it serves the queries only nearly. Nothing is to "
        mistakes.append(Mistake(shrunk, sentence + "be added to the matrix that is inverted."))
        if not agree(got, right, tolerance) and agree(got, shrunk, FLOAT32_TOLERANCE * ridge):
            fail(mistakes[-1].sentence)
    compare(
        got,
        right,
        what=f"{words} the change",
        tolerance=tolerance,
        mistakes=mistakes,
        otherwise="The equations Delta a_j = W d_j are linear in Delta. Stack them.",
    )
