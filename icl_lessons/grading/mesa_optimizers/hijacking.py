"""Exercise 7: the lie that a learner believes, under a budget."""

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


def one_step(eta: float):
    """A learner: one step of descent from 0, ``eta/N sum_i y_i x_i . x_q``."""
    return lambda xs, ys, x_query: eta * x_query @ (xs.mT @ ys) / xs.shape[1]


def ridge(penalty: float):
    """A learner: ``x_q^T (X^T X + penalty I)^(-1) X^T y``."""

    def learner(xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
        gram = xs.mT @ xs + penalty * torch.eye(xs.shape[-1], dtype=xs.dtype)
        return x_query @ torch.linalg.solve(gram, xs.mT @ ys)

    return learner


def _influence(kind: str, number: float, xs: Tensor, x_query: Tensor) -> Tensor:
    """The weight of each label in the prediction, ``[batch, n]``, in closed form."""
    if kind == "one step":
        return number / xs.shape[1] * (xs @ x_query.mT)[..., 0]
    values, vectors = torch.linalg.eigh(xs.mT @ xs)
    inside = (x_query @ vectors)[:, 0] / (values + number)
    return (xs @ vectors @ inside[..., None])[..., 0]


def check_hijack(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """``answer(learner, xs, ys, x_query, x_added, target, budget) -> (labels, reached)``."""
    batch, n, d = 4, 5, 3
    xs, ys = draw(batch, n, d, seed=71), draw(batch, n, 1, seed=72)
    x_query, x_added = draw(batch, 1, d, seed=73), draw(batch, 1, d, seed=74)
    x_query[1], x_added[1] = torch.eye(d)[:1], torch.eye(d)[1:2]  # of no use to one step
    target = torch.tensor([2.0, 1.0, -3.0, 0.4]).double()
    for kind, number, learner in (
        ("one step", 0.7, one_step(0.7)),
        ("ridge", 0.5, ridge(0.5)),
    ):
        for budget in (1e6, 1.5):
            words = f"For {kind} with a budget of {budget:g}"
            given = (xs, ys, x_query, x_added, target)
            kept = [v.clone() for v in given]
            result = call(answer, learner, *given, budget)
            if result is None:
                fail("`hijack` returned None. Is the `return` missing?")
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                fail("Return two things: the labels, [batch], and what they reach, [batch].")
            for before, now, name in zip(
                kept, given, ("xs", "ys", "x_query", "x_added", "target"), strict=True
            ):
                unchanged(before, now, name=name)
            labels = tensor(result[0], (batch,), what="the labels", axes="[batch]")
            reached = tensor(result[1], (batch,), what="what is reached", axes="[batch]")
            longer = torch.cat([xs, x_added], 1)
            weights = _influence(kind, number, longer, x_query)
            clean = _influence(kind, number, xs, x_query)
            without = (weights[:, :-1] * ys[..., 0]).sum(-1)
            pull = weights[:, -1]
            usable = pull.abs() > 1e-9
            before = (clean * ys[..., 0]).sum(-1)
            _check_labels(
                labels, words, target, without, before, pull, usable, budget, n, result[0]
            )
            right = without + pull * _wanted(target - without, pull, usable).clamp(-budget, budget)
            mistakes = [
                Mistake(target, f"{words} you return the target. Return what the label reaches."),
                Mistake(
                    before,
                    "You return the prediction before the attack. Return the one after it.",
                ),
            ]
            compare(
                reached,
                right,
                what=f"{words} what is reached",
                tolerance=10 * tolerance_of(result[1]),
                mistakes=mistakes,
                otherwise="Put the label in, and ask the learner.",
            )
    passed(7, "Hidden tests use other sizes, other learners, and inputs that pull at nothing.")


def _wanted(gap: Tensor, pull: Tensor, usable: Tensor) -> Tensor:
    return torch.where(usable, gap / torch.where(usable, pull, torch.ones_like(pull)), 0 * gap)


def _check_labels(labels, words, target, without, before, pull, usable, budget, n, given) -> None:
    right = _wanted(target - without, pull, usable)
    if bool((labels[~usable].abs() > budget * 0.999).any()):
        fail(
            f"{words} one of the added inputs pulls at nothing: no label moves the prediction, "
            "and yours is as large as it may be, or larger. Give it the label 0."
        )

    def cut(label):
        return label.clamp(-budget, budget)

    shorter = n * pull / (n + 1)
    mistakes = [
        Mistake(right, f"{words} your label is larger than the budget allows."),
        Mistake(
            cut(_wanted(target - before, pull, usable)),
            "You start from the prediction WITHOUT the added example. With it the context has "
            "N + 1 examples, and everything the others say is weighted anew, even at the label 0.",
        ),
        Mistake(
            _wanted(target - before, pull, usable),
            "You start from the prediction WITHOUT the added example, and keep no budget.",
        ),
        Mistake(
            cut(_wanted(target - before * n / (n + 1), shorter, usable)),
            "You count N examples where there are N + 1.",
        ),
        Mistake(
            cut(_wanted(target, pull, usable)),
            "You forget what the other examples say: the label has to make up the difference.",
        ),
        Mistake(cut(-right), "The sign is turned: your label drives the prediction away."),
        Mistake(
            budget * right.sign(),
            f"{words} you always spend the whole budget, and overshoot where less would do.",
        ),
        Mistake(
            cut(right).abs(),
            "A label may be negative: the budget bounds its size.",
        ),
        Mistake(
            torch.where(right.abs() <= budget, right, 0 * right),
            f"{words} you give up where the target is out of reach. Go as near as the budget "
            "allows.",
        ),
    ]
    compare(
        labels,
        cut(right),
        what=f"{words} a label",
        tolerance=10 * tolerance_of(given),
        mistakes=mistakes,
        otherwise="The prediction is a straight line in the added label: two calls of the learner "
        "find it.",
    )
