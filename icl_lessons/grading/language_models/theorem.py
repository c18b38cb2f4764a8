"""Exercise 6: the two sides of theorem 1 of Shen et al."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

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
from icl_lessons.grading.language_models.seeds import each
from icl_lessons.grading.sums import draw

WORDS, WIDTH = 5, 4
EPOCHS, RATE = 3, 0.03  # of descent on CourseLM


def model(weights: Tensor, demonstrations: list, query: Tensor) -> Tensor:
    """A small reader that forgets slowly what it has read, so that the last ones tell most."""
    state = torch.zeros(WIDTH, dtype=torch.float64)
    for x, y in demonstrations:
        state = (0.8 * state + x + weights[y]).tanh()
    return (weights @ (0.8 * state + query)).softmax(-1)


def _slope(weights: Tensor, demonstration: tuple[Tensor, int]) -> Tensor:
    x, y = demonstration
    off = (weights @ x).softmax(-1) - torch.eye(WORDS, dtype=torch.float64)[y]
    return torch.outer(off, x)


def full_batch(weights: Tensor, demonstrations: list) -> Tensor:
    """Three steps of full-batch descent."""
    for _ in range(3):
        weights = weights - 0.5 * sum(_slope(weights, d) for d in demonstrations) / len(
            demonstrations
        )
    return weights


def one_by_one(weights: Tensor, demonstrations: list) -> Tensor:
    """An epoch on single demonstrations."""
    for demonstration in demonstrations:
        weights = weights - 0.5 * _slope(weights, demonstration)
    return weights


def _with(weights, demonstrations, order):
    return weights, [demonstrations[i] for i in order]


def check_theorem_gap(answer: Callable, course: ModuleType) -> None:
    """``answer(model, algorithm, weights, demonstrations, query, first, second)``: two sides."""
    weights, query = draw(WORDS, WIDTH, seed=81), draw(WIDTH, seed=82)
    shown = list(zip(draw(3, WIDTH, seed=83), (1, 4, 2), strict=True))
    for algorithm, words in (
        (one_by_one, "stochastic descent"),
        (full_batch, "full-batch descent"),
    ):
        for first, second in (([0, 1, 2], [2, 0, 1]), ([1, 2, 0], [2, 1, 0])):
            kept, listed = weights.clone(), list(shown)
            result = call(answer, model, algorithm, weights, shown, query, first, second)
            unchanged(kept, weights, name="weights")
            if len(listed) != len(shown) or any(
                a is not b for a, b in zip(listed, shown, strict=True)
            ):
                fail("Your function changed the list `demonstrations`. Leave it as it is.")
            _compare(result, words, algorithm, weights, shown, query, first, second)
    _say(answer, course)


def _compare(result, words, algorithm, weights, shown, query, first, second) -> None:
    if result is None:
        fail("`theorem_gap` returned None. Is the `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        fail("Return two things: the left side and the right side, each [vocabulary].")
    left, right = (
        tensor(side, (WORDS,), what=f"the {name} side", axes="[vocabulary]")
        for side, name in zip(result, ("left", "right"), strict=True)
    )

    def told(demonstrations_of, at=lambda order: weights) -> Tensor:
        a, b = (model(at(o), demonstrations_of(o), query) for o in (first, second))
        return a - b

    def listed(order) -> list:
        return [shown[i] for i in order]

    def inverse(order) -> list:
        return [shown[i] for i in sorted(range(len(order)), key=lambda i: order[i])]

    def tuned(order) -> Tensor:
        return algorithm(weights, listed(order))

    def nothing(order) -> list:
        return []

    in_context, after = told(listed), told(nothing, tuned)
    chained = algorithm(tuned(first), listed(second))
    start = f"With {words} and the orders {first} and {second} "
    compare(
        left,
        in_context,
        what=start + "the left side",
        tolerance=tolerance_of(result[0]),
        mistakes=[
            Mistake(after, "Your two sides are exchanged: in context comes first."),
            Mistake(-in_context, "Your left side is the second order minus the first."),
            Mistake(in_context.abs(), "Your left side has lost its signs. Return the difference."),
            Mistake(
                told(nothing),
                "Your left side is 0: it asks the model without the demonstrations. In context "
                "they stand in the prompt.",
            ),
            Mistake(
                told(listed, tuned),
                "Your left side uses weights that the algorithm has changed. In context the model "
                "keeps the weights it has.",
            ),
            Mistake(
                told(inverse),
                "You read an order the other way round: order[0] says which demonstration comes "
                "first.",
            ),
            Mistake(
                model(weights, shown, query) - model(weights, listed(second), query),
                "Your left side does not put the demonstrations into the first order.",
            ),
            Mistake(
                _logs(listed, lambda order: weights, first, second, query),
                "Your left side is a difference of LOG-probabilities. The theorem is about "
                "probabilities.",
            ),
        ],
        otherwise="It is the model with its own weights, with demonstrations, in either order.",
    )
    compare(
        right,
        after,
        what=start + "the right side",
        tolerance=tolerance_of(result[1]),
        mistakes=[
            Mistake(
                told(listed, tuned),
                f"{start}the changed model still has the demonstrations in its prompt. It answers "
                "the query alone: what it knows of them is in its weights.",
            ),
            Mistake(
                torch.zeros_like(after),
                f"{start}your right side is 0: both answers come from ONE changed model. The "
                "algorithm runs once for each order, or nothing could ever differ.",
            ),
            Mistake(
                told(listed, lambda order: tuned(first)),
                f"{start}both answers on your right side come from one changed model, and the "
                "demonstrations are in its prompt.",
            ),
            Mistake(
                model(tuned(first), [], query) - model(chained, [], query),
                f"{start}the second run of the algorithm goes on from the end of the first. Both "
                "start from `weights`.",
            ),
            Mistake(-after, "Your right side is the second order minus the first."),
            Mistake(after.abs(), "Your right side has lost its signs. Return the difference."),
            Mistake(in_context, "Your right side is the left one again: it changes no weights."),
            Mistake(
                told(nothing, lambda order: algorithm(weights, inverse(order))),
                "You read an order the other way round: order[0] says which demonstration comes "
                "first.",
            ),
            Mistake(
                model(algorithm(weights, shown), [], query) - model(tuned(second), [], query),
                "Your right side does not put the demonstrations into the first order.",
            ),
            Mistake(
                _logs(nothing, tuned, first, second, query),
                "Your right side is a difference of LOG-probabilities. The theorem is about "
                "probabilities.",
            ),
        ],
        otherwise="It is the model with changed weights, one run for each order, no "
        "demonstrations.",
    )


def _logs(demonstrations_of, at, first, second, query) -> Tensor:
    a, b = (model(at(o), demonstrations_of(o), query).log() for o in (first, second))
    return a - b


def _say(answer: Callable, course: ModuleType) -> None:
    """Both sides on CourseLM, with descent in one batch and one by one."""
    sides: dict[str, list[float]] = {"context": [], "full": [], "single": []}
    for seed, start in enumerate(course.models()):
        asked = course.prompts("stance", 4, seed, 20)

        def told(weights, demonstrations, query, asked=asked) -> Tensor:
            return course.told(weights, asked, demonstrations)

        for name, size in (("full", None), ("single", 1)):

            def change(weights, demonstrations, asked=asked, size=size):
                ordered = asked.in_order(demonstrations)
                return course.descended(weights, ordered, RATE, EPOCHS, size)

            left, right = call(
                answer, told, change, start, [0, 1, 2, 3], None, [0, 1, 2, 3], [2, 3, 1, 0]
            )
            sides[name].append(right.abs().max().item())
        sides["context"].append(left.abs().max().item())
    passed(
        6,
        "Your two sides on CourseLM (stance, 4 demonstrations, two orders; the largest entry, one "
        f"number for each seed). In context: {each(sides['context'], '.3f')}. After "
        f"{EPOCHS} full-batch steps: {each(sides['full'], '.0e')}, rounding. After {EPOCHS} "
        f"epochs one by one: {each(sides['single'], '.3f')}. The theorem rules out the "
        "first of the two algorithms. Of the second it asks that both sides agree, for every query "
        "and every word.",
    )
