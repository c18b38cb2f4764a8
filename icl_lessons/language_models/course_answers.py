"""What CourseLM answers, ready to be measured: in context, without demonstrations, after descent.

Assignment 8 hands this module to its checks, so that a function that passes is used on CourseLM at
once. Everything is computed from the stored weights when it is first asked for, and kept.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor, nn

from icl_lessons.language_models.course_models import (
    CourseLMTraining,
    checkpoints,
    course_models,
    course_weights,
)
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.order import in_context_answers, some_orders
from icl_lessons.language_models.subjects import course_prompts
from icl_lessons.runtime import one_thread, seeded

QUERIES = 100


@cache
def models() -> list[nn.Module]:
    """CourseLM's three seeds, in single precision, whatever the notebook's default is."""
    return [model.float() for model in course_models()]


@cache
def untrained() -> list[nn.Module]:
    """The same three before their first step."""
    config = CourseLMTraining()
    return [model.float() for model in checkpoints(course_weights(config), config)[0]]


@cache
def prompts(task: str, n: int, seed: int, queries: int = QUERIES) -> Any:
    """``n`` demonstrations of a seed before the same queries."""
    return course_prompts(task, n, queries, seed)


@cache
def in_context(task: str, n: int, seed: int) -> Tensor:
    """What the model of that seed answers in context, ``[queries, vocabulary]``."""
    with one_thread():
        return answer_law(models()[seed], prompts(task, n, seed).tokens).double()


@cache
def zero_shot(task: str, n: int, seed: int) -> Tensor:
    """What it answers to the queries alone."""
    with one_thread():
        return answer_law(models()[seed], prompts(task, n, seed).query_tokens).double()


@cache
def tuned(task: str, n: int, seed: int, rate: float, epochs: int) -> Tensor:
    """What it answers to the queries alone after full-batch descent on the demonstrations."""
    asked = prompts(task, n, seed)
    return told(descended(models()[seed], asked, rate, epochs), asked, [])


@cache
def in_orders(task: str, n: int, seed: int, count: int, trained: bool = True) -> Tensor:
    """Answers to 40 queries under some orders, ``[orders, queries, vocabulary]``."""
    model = (models() if trained else untrained())[seed]
    orders = some_orders(n, count, generator=seeded(seed))
    with one_thread():
        return in_context_answers(model, prompts(task, n, seed, 40), orders).double()


@cache
def bayes(task: str, n: int, seed: int) -> Tensor:
    """What the exact Bayes filter of its text answers to the same prompts."""
    return filter_answers(prompts(task, n, seed)).double()


def told(weights: nn.Module, asked: Any, order: list[int]) -> Tensor:
    """A model's answers after the demonstrations in that order; to the queries alone if empty."""
    with one_thread():
        tokens = asked.in_order(order).tokens if order else asked.query_tokens
        return answer_law(weights, tokens).double()


def descended(
    weights: nn.Module, asked: Any, rate: float, epochs: int, batch_size: int | None = None
) -> nn.Module:
    """A copy of the model after descent on the demonstrations; full-batch unless told otherwise."""
    settings = FineTuning(learning_rate=rate, epochs=epochs, batch_size=batch_size)
    with one_thread():
        return fine_tune(weights, *asked.demonstrations(), settings)
