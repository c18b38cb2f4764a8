"""The table of assignment 8: CourseLM's answers in context, and four accounts of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from icl_lessons.language_models import course_answers as course
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.measures.distributions import accuracy_over_vocabulary, divergence
from icl_lessons.runtime import one_thread

N, SEEDS, RATE, EPOCHS, EVERY = 8, (0, 1, 2), 0.03, 40, 10
TASKS = ("topic", "stance", "stance contrary")


@dataclass(frozen=True)
class Row:
    """One task of one model: a number for each seed.

    Attributes:
        name: of the row.
        context, descent: accuracy over the whole vocabulary in context, and after the descent that
            comes closest.
        reordered, without, tuned, bayes: mean divergence, in nats, from the answers in context to
            those with the demonstrations in reverse, without demonstrations, after descent, and of
            the exact filter.
    """

    name: str
    context: list[float]
    descent: list[float]
    reordered: list[float]
    without: list[float]
    tuned: list[float]
    bayes: list[float]


def _far(told: Tensor, account: Tensor) -> float:
    return divergence(told.double(), account.double()).mean().item()


def _descended(model: nn.Module, asked: Any) -> list[Tensor]:
    """Answers without demonstrations, every 10 epochs of descent on them."""
    seen: list[Tensor] = []
    fine_tune(
        model,
        *asked.demonstrations(),
        FineTuning(learning_rate=RATE, epochs=EPOCHS),
        watch=lambda epoch, now: seen.append(answer_law(now, asked.query_tokens)),
        every=EVERY,
    )
    return seen


def row(task: str, *, trained: bool = True) -> Row:
    """Measure one task on all seeds.

    Descent is full-batch and looked at every 10 epochs, before the first too; the account is the
    one that comes closest to the answers in context, which is more than fair to it.
    """
    columns: list[list[float]] = [[] for _ in range(6)]
    for seed in SEEDS:
        model = (course.models() if trained else course.untrained())[seed]
        asked = course.prompts(task, N, seed)
        with one_thread():
            told = answer_law(model, asked.tokens)
            turned = answer_law(model, asked.in_order(range(N - 1, -1, -1)).tokens)
            alone = answer_law(model, asked.query_tokens)
            seen = _descended(model, asked)
        best = min(seen, key=lambda account: _far(told, account))
        values = (
            accuracy_over_vocabulary(told, asked.answer),
            accuracy_over_vocabulary(best, asked.answer),
            _far(told, turned),
            _far(told, alone),
            _far(told, best),
            _far(told, filter_answers(asked)),
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return Row(task if trained else f"{task}, untrained", *columns)


def table() -> list[Row]:
    """Three tasks of CourseLM, and one of the models before their first step."""
    return [*(row(task) for task in TASKS), row("stance", trained=False)]


def print_accounts() -> None:
    """Print the table of assignment 8, exercise 9."""
    rows = table()
    print(
        f"CourseLM, {N} demonstrations, {course.QUERIES} queries; its three seeds side by side.\n"
    )
    print(f"{'':19}{'accuracy':^36}")
    print(f"{'':19}{'in context':>18}{'after descent':>18}")
    for r in rows:
        print(f"{r.name:19}{_words(r.context):>18}{_words(r.descent):>18}")
    print("\nMean divergence from the answers in context, in nats:\n")
    print(f"{'':17}{'reversed':>20}{'no demon-':>20}{'descent,':>20}{'Bayes':>20}")
    print(f"{'':17}{'order':>20}{'strations':>20}{'the closest':>20}{'filter':>20}")
    for r in rows:
        numbers = (r.reordered, r.without, r.tuned, r.bayes)
        print(f"{r.name:17}" + "".join(f"{_words(values, '.3f'):>20}" for values in numbers))


def _words(values: list[float], form: str = ".2f") -> str:
    return " ".join(format(value, form) for value in values)
