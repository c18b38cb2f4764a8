"""Exercise 4: increments that shrink, and whether that says anything about learning."""

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
from icl_lessons.grading.implicit_updates.paths import path
from icl_lessons.grading.sums import draw


def line(tokens: Tensor, values: Tensor) -> Tensor:
    """The slope of the least-squares line with an intercept."""
    table = torch.stack([tokens, torch.ones_like(tokens)], 1)
    return torch.linalg.lstsq(table, values[:, None]).solution[0, 0]


def _means(context: Tensor, x: Tensor) -> Tensor:
    """The mean of the first ``i`` tokens and the query, one number ``i`` at a time."""
    out = []
    for i in range(context.shape[1] + 1):
        total = x.clone()
        for k in range(i):
            total = total + context[:, k]
        out.append(total / (i + 1))
    return torch.stack(out, 1)


def check_is_it_learning(
    untrained_readings: Callable, increment_slope: Callable, has_learned: Callable
) -> None:
    """The three functions of exercise 4."""
    _check_readings(untrained_readings)
    _check_slope(increment_slope)
    _check_verdict(has_learned)
    context, x = draw(40, 200, 6, seed=43), draw(40, 6, seed=44)
    sizes, slope = call(increment_slope, draw(8, 6, seed=45), _means(context, x), 5)
    passed(
        4,
        f"A block that no one has trained: its increments fall from {float(sizes[4]):.3f} at token "
        f"5 to {float(sizes[-1]):.4f} at token 200, with a slope of {float(slope):.2f}. Hidden "
        "tests use other sizes.",
    )


def _check_readings(answer: Callable) -> None:
    batch, n, d = 2, 4, 3
    context, x = draw(batch, n, d, seed=41), draw(batch, d, seed=42)
    kept = context.clone(), x.clone()
    result = call(answer, context, x)
    unchanged(kept[0], context, name="context")
    unchanged(kept[1], x, name="x")
    if isinstance(result, Tensor) and tuple(result.shape) == (batch, n, d):
        fail("You return n readings. There are n + 1: the first is that of the query alone.")
    got = tensor(result, (batch, n + 1, d), what="the readings", axes="[batch, n + 1, D]")
    right = _means(context, x)
    numbers = torch.arange(n + 1).double()[:, None]
    total = right * (numbers + 1)
    mistakes = [
        Mistake(
            torch.cat([x[:, None], (total[:, 1:] - x[:, None]) / numbers[1:]], 1),
            "You leave the query out of the mean. It attends to itself as well.",
        ),
        Mistake(
            torch.cat([x[:, None], total[:, 1:] / numbers[1:]], 1),
            "You divide by i. With the query there are i + 1 tokens.",
        ),
        Mistake(total, "You add up. Softmax weights sum to 1, so attention takes a mean."),
        Mistake(
            total / (n + 1),
            "You divide every sum by n + 1. After i tokens attention reads i + 1 of them.",
        ),
    ]
    compare(
        got,
        right,
        what="A reading",
        tolerance=10 * tolerance_of(result),
        mistakes=mistakes,
        otherwise="After i tokens it is the mean of i + 1 vectors.",
    )


def _check_slope(answer: Callable) -> None:
    batch, n, h, d, first = 3, 12, 5, 4, 4
    w, readings = draw(h, d, seed=46), draw(batch, n + 1, d, seed=47).cumsum(1)
    kept = w.clone(), readings.clone()
    result = call(answer, w, readings, first)
    unchanged(kept[0], w, name="w")
    unchanged(kept[1], readings, name="readings")
    if result is None:
        fail("`increment_slope` returned None. Is the `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        fail("`increment_slope` returns two things: the sizes, [n], and the slope.")
    if isinstance(result[0], Tensor) and tuple(result[0].shape) == (n + 1,):
        fail("You return n + 1 sizes. There is one for each token, n of them.")
    got = tensor(result[0], (n,), what="the sizes", axes="[n]")
    weights = path(w, readings)
    each = (weights[:, 1:] - weights[:, :-1]).flatten(2).norm(dim=-1)
    sizes = each.mean(0)
    start = readings[:, 0].norm(dim=-1)[:, None]
    mistakes = [
        Mistake(
            (weights[:, 1:] - w).flatten(2).norm(dim=-1).mean(0),
            "You measure how far W_i is from W_0. The increment of a token is the step from "
            "W_(i-1) to W_i.",
        ),
        Mistake(
            weights[:, 1:].flatten(2).norm(dim=-1).mean(0),
            "You measure the weights W_i. The increment is the step from W_(i-1) to W_i.",
        ),
        Mistake(
            (weights[:, 1:] - weights[:, :-1]).mean(0).flatten(1).norm(dim=-1),
            "You average the matrices over the batch and take the norm after that: steps in "
            "different directions cancel.",
        ),
        Mistake(each.sum(0), "You add up over the batch. The mean is asked for."),
        Mistake(each.square().mean(0), "You return squared norms."),
        Mistake(each.log().mean(0).exp(), "You average the logarithms. Average the norms."),
        Mistake(
            (each * start).mean(0), "|A_0| is missing: the step is W_0 (A_i - A_(i-1)) / |A_0|."
        ),
        Mistake(
            (each * start.square()).mean(0),
            "That is the gradient's size times 1/|A_0|; h is missing.",
        ),
        Mistake(
            (each / start).mean(0),
            "You divide by |A_0|^2, but the outer product with A_0 has the factor |A_0| too.",
        ),
        Mistake(
            (readings[:, 1:] - readings[:, :-1]).norm(dim=-1).mean(0),
            "You measure the readings. The weights move by W_0 (A_i - A_(i-1)) A_0^T / |A_0|^2.",
        ),
    ]
    tolerance = 10 * tolerance_of(result[0])
    compare(got, sizes, what="A size", tolerance=tolerance, mistakes=mistakes)
    try:
        slope = torch.as_tensor(float(result[1])).double()
    except (TypeError, ValueError):
        fail("The second thing that `increment_slope` returns is a number, the slope.")
    tokens = torch.arange(1, n + 1).double()
    logs, values = tokens.log(), sizes.log()
    late, early = first - 1, first - 2
    compare(
        slope,
        line(logs[late:], values[late:]),
        what="The slope",
        tolerance=max(tolerance, 1e-6),
        mistakes=[
            Mistake(
                line(logs, values),
                f"Your line uses all tokens. It starts at token `first` (here {first}).",
            ),
            Mistake(line(tokens[late:], sizes[late:]), "Your axes are linear. Take logarithms."),
            Mistake(
                line(tokens[late:], values[late:]),
                "Your horizontal axis is linear. The slope is that of log size on log i.",
            ),
            Mistake(
                line(logs[late:], sizes[late:]),
                "Your vertical axis is linear. The slope is that of log size on log i.",
            ),
            Mistake(
                line(logs[early:], values[early:]),
                f"Your line starts one token early. Tokens are counted from 1: the size of token "
                f"{first} stands at the index {first - 1}.",
            ),
            Mistake(
                line(logs[first:], values[first:]),
                f"Your line starts one token late. Tokens are counted from 1: the size of token "
                f"{first} stands at the index {first - 1}.",
            ),
            Mistake(
                line(logs[: n - late], values[late:]),
                "You count the tokens of your line from 1. The first of them has the number "
                f"`first`, here {first}.",
            ),
            Mistake(
                line((tokens[late:] - 1).log(), values[late:]),
                "Your tokens are counted from 0. The first has the number 1.",
            ),
            Mistake(
                (logs[late:] @ values[late:]) / logs[late:].square().sum(),
                "Your line goes through the origin. It has an intercept as well.",
            ),
            Mistake(
                -line(logs[late:], values[late:]),
                "The sign of your slope is turned: sizes that fall have a negative one.",
            ),
            Mistake(
                (values[-1] - values[late]) / (logs[-1] - logs[late]),
                "Your line joins the first point and the last. Least squares uses all of them.",
            ),
        ],
        otherwise="Least squares of the log of the size on the log of the token's number.",
    )


def _check_verdict(answer: Callable) -> None:
    for losses, right, sentence in (
        ([1.0, 1.3, 0.9, 0.4, 0.2], True, "Its loss falls from 1 to 0.2."),
        (
            [1.0, 1.0, 0.99, 1.0, 0.99],
            False,
            "Its loss stays where it was, however small its increments have become.",
        ),
        (
            [1.0, 2.4, 1.8, 1.2, 0.9],
            False,
            "Its last loss, 0.9, is more than half of the loss WITHOUT context, 1. That there is "
            "a worse one in between does not count.",
        ),
        (
            [1.0, 0.3, 0.5, 0.8, 0.8],
            False,
            "With its whole context the loss is 0.8. That it was lower before does not count.",
        ),
    ):
        given = torch.tensor(losses).double()
        result = call(answer, given)
        if result is None:
            fail("`has_learned` returned None. Is the `return` missing?")
        if isinstance(result, (str, tuple, list)):
            fail("`has_learned` returns True or False.")
        if bool(result) != right:
            said = "it has learned" if right else "it has not"
            fail(f"Of a block with the losses {losses}, {said}. {sentence}")
