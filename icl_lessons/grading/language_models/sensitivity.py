"""Exercise 3: how far answers move when the demonstrations change their order."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    Mistake,
    call,
    compare,
    fail,
    passed,
    unchanged,
)
from icl_lessons.grading.language_models.seeds import each
from icl_lessons.grading.sums import draw


def sensitivity(laws: Tensor) -> Tensor:
    """Sum over tokens, mean over queries; one token of one query at a time."""
    total = torch.zeros((), dtype=torch.float64)
    orders, queries, vocabulary = laws.shape
    for q in range(queries):
        for v in range(vocabulary):
            values = laws[:, q, v]
            total = total + (((values - values.mean()) ** 2).sum() / (orders - 1)).sqrt()
    return total / queries


def number(result: object, what: str) -> tuple[Tensor, float]:
    """A number, as a tensor, and the tolerance for it.

    Raises:
        CheckFailed: it is none.
    """
    if result is None:
        fail(f"Your function returned None where {what} was expected. Is the `return` missing?")
    if isinstance(result, Tensor) and result.numel() != 1:
        fail(f"{what[0].upper()}{what[1:]} is one number; got shape {list(result.shape)}.")
    try:
        plain = result.detach() if isinstance(result, Tensor) else result
        value = torch.tensor(float(plain), dtype=torch.float64)
    except (TypeError, ValueError):
        fail(f"{what[0].upper()}{what[1:]} is one number; got {type(result).__name__}.")
    if not bool(torch.isfinite(value)):
        fail(f"{what[0].upper()}{what[1:]} is a NaN or an infinity in your answer.")
    short = isinstance(result, Tensor) and result.dtype != torch.float64
    return value, FLOAT32_TOLERANCE if short else FLOAT64_TOLERANCE


def check_order_sensitivity(answer: Callable[[Tensor], float], course: ModuleType) -> None:
    """``answer(probabilities) -> float``."""
    for orders, queries, vocabulary in ((4, 3, 5), (2, 1, 3), (6, 5, 2)):
        laws = (1.5 * draw(orders, queries, vocabulary, seed=31 + orders)).softmax(-1)
        kept = laws.clone()
        result = call(answer, laws)
        unchanged(kept, laws, name="probabilities")
        got, tolerance = number(result, "the sensitivity")
        compare(
            got,
            sensitivity(laws),
            what=f"With {orders} orders, {queries} queries and {vocabulary} tokens your number",
            tolerance=tolerance,
            mistakes=_mistakes(laws),
            otherwise="Deviation over orders, then sum over tokens, then mean over queries.",
        )
    own, start = [], []
    for seed in range(3):
        for to, trained in ((own, True), (start, False)):
            to.append(float(call(answer, course.in_orders("stance", 8, seed, 6, trained))))
    passed(
        3,
        "Hidden tests use other sizes. CourseLM, stance, 8 demonstrations in 6 orders: "
        f"{each(own, '.3f')} for its three seeds. Before any training: "
        f"{each(start, '.3f')}. So this number alone does not say that a model learns.",
    )


def _mistakes(laws: Tensor) -> list[Mistake]:
    deviation = laws.std(0)
    pairs = [
        (laws[a] - laws[b]).abs().sum(-1).mean()
        for a in range(len(laws))
        for b in range(len(laws))
        if a != b
    ]
    return [
        Mistake(
            laws.std(0, unbiased=False).sum(-1).mean(),
            "Your deviation divides by R. The unbiased one divides by R - 1.",
        ),
        Mistake(laws.var(0).sum(-1).mean(), "You sum variances. Take the root of each first."),
        Mistake(
            laws.var(0).sum(-1).sqrt().mean(),
            "You take the root of the summed variances. Take the root of each token's, then sum.",
        ),
        Mistake(
            deviation.mean(),
            "You take the mean over the vocabulary. Sum over tokens; the mean is over queries.",
        ),
        Mistake(deviation.sum(), "You sum over the queries too. Take the mean over queries."),
        Mistake(deviation.sum(-1).max(), "You take the worst query. Take the mean over queries."),
        Mistake(
            laws.mean(1).std(0).sum(-1),
            "You average the answers over queries BEFORE taking the deviation: moves in different "
            "directions cancel.",
        ),
        Mistake(
            deviation.amax(-1).mean(), "You take the token that moves most. Sum over all tokens."
        ),
        Mistake(
            (laws.amax(0) - laws.amin(0)).sum(-1).mean(),
            "You measure from the smallest to the largest. Use the standard deviation.",
        ),
        Mistake(
            (laws - laws.mean(0)).abs().mean(0).sum(-1).mean(),
            "You take mean absolute deviations. Use the standard deviation.",
        ),
        *(
            [
                Mistake(
                    laws.std(1).sum(-1).mean(),
                    "Your deviation is over the queries. Orders are the FIRST axis.",
                )
            ]
            if laws.shape[1] > 1
            else []
        ),
        Mistake(
            laws.std(-1).mean(), "Your deviation is over the tokens. Orders are the FIRST axis."
        ),
        Mistake(
            torch.stack(pairs).mean(),
            "You take the mean distance of two orders. Use the standard deviation over orders.",
        ),
        Mistake(
            laws.log().std(0).sum(-1).mean(),
            "You take deviations of LOG-probabilities: a token that nobody would say counts most.",
        ),
    ]
