"""Exercise 6: are two learners the same?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    call,
    compare,
    fail,
    passed,
)
from icl_lessons.grading.sums import draw


def _bent(slope: float, bend: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A learner whose prediction is not linear in the query; two outputs, mixed inputs."""

    def learner(xs, ys, x_query):
        level = ys.mean(1, keepdim=True)
        first = slope * x_query.sum(-1, keepdim=True) + bend * x_query[..., :1].square()
        second = level[..., :1] * x_query[..., 1:2] - bend * x_query[..., :1]
        return torch.cat([first, second], -1)

    return learner


def _slopes(learner, xs, ys, x_query) -> Tensor:
    """``[batch, q, m, d]`` by central differences, one query entry at a time."""
    h, columns = 1e-5, []
    for k in range(x_query.shape[-1]):
        shift = torch.zeros_like(x_query)
        shift[..., k] = h
        up, down = learner(xs, ys, x_query + shift), learner(xs, ys, x_query - shift)
        columns.append((up - down) / (2 * h))
    return torch.stack(columns, -1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()


def _number(value, what: str) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        shape = f" of shape {list(value.shape)}" if isinstance(value, Tensor) else ""
        fail(f"{what} should be one number; got {type(value).__name__}{shape}. Average it.")
    if not math.isfinite(value):
        fail(f"{what} is {value}: look for a division by zero.")
    return float(value)


def check_agreement(answer: Callable[..., tuple[float, float]]) -> None:
    """``answer(learner_a, learner_b, xs, ys, x_query) -> (difference, cosine)``."""
    xs, ys, x_query = draw(3, 4, 3, seed=60), draw(3, 4, 2, seed=61), draw(3, 2, 3, seed=62)
    a, b = _bent(1.0, 0.7), _bent(0.4, -0.5)
    result = call(answer, a, b, xs, ys, x_query)
    if result is None:
        fail(
            "Your function returned None where two numbers were expected. Is the `return` missing?"
        )
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        fail("Return two numbers as a tuple: (prediction difference, sensitivity cosine).")
    got_difference = _number(result[0], "The prediction difference")
    got_cosine = _number(result[1], "The sensitivity cosine")

    gap = a(xs, ys, x_query) - b(xs, ys, x_query)
    differences = {
        "Your differences cancel: take the length |y_a - y_b| of each before you average.": gap,
        "You average the square of the difference. Here its length is wanted.": gap.square().sum(
            -1
        ),
        "You average over the outputs as well. The length |y_a - y_b| is taken over the outputs: "
        "the square root of a sum of squares.": gap.abs(),
        "You add the absolute values of the outputs' differences. The length |y_a - y_b| is the "
        "square root of the sum of squares.": gap.abs().sum(-1),
        "You take one length for everything at once. Take one for each query, then average.": (
            gap.square().sum().sqrt()
        ),
    }
    compare(
        torch.tensor(got_difference, dtype=torch.float64),
        gap.square().sum(-1).sqrt().mean(),
        what="The prediction difference",
        tolerance=1e-4,
        mistakes=[Mistake(value.mean(), sentence) for sentence, value in differences.items()],
    )
    slope_a, slope_b = (_slopes(f, xs, ys, x_query) for f in (a, b))
    ya, yb = a(xs, ys, x_query), b(xs, ys, x_query)
    cosines = {
        "This is the cosine of the two predictions. The sensitivity is how a prediction changes "
        "with the query: its derivative.": _cosine(ya, yb),
        "You add the outputs before you differentiate. Each output has a sensitivity of its own; "
        "lay them side by side, [m * d] numbers for each query.": _cosine(
            slope_a.sum(-2), slope_b.sum(-2)
        ),
        "You take one cosine for the whole batch. Take one for each query, then average.": _cosine(
            slope_a.flatten(), slope_b.flatten()
        ),
        "You average the sensitivities first and take the cosine afterwards. Take one cosine for "
        "each query, then average the cosines.": _cosine(
            slope_a.mean((0, 1)).flatten(), slope_b.mean((0, 1)).flatten()
        ),
        "You take a cosine for each output. Lay the outputs side by side, [m * d] numbers for each "
        "query, and take one cosine.": _cosine(slope_a, slope_b),
        "The second sensitivity contains the first: `.backward()` adds to `.grad`. Set it to zero "
        "in between, or use torch.autograd.grad.": _cosine(
            slope_a.flatten(-2), (slope_a + slope_b).flatten(-2)
        ),
    }
    compare(
        torch.tensor(got_cosine, dtype=torch.float64),
        _cosine(slope_a.flatten(-2), slope_b.flatten(-2)).mean(),
        what="The sensitivity cosine",
        tolerance=1e-4,
        mistakes=[Mistake(value.mean(), sentence) for sentence, value in cosines.items()],
        otherwise="Differentiate with respect to x_query, not with respect to the context.",
    )
    passed(6, "Hidden tests use other learners, one of them a learner compared with itself.")
