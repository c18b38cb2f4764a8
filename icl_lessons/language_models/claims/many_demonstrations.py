"""What is claimed of descent on many demonstrations, each claim with a check."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.language_models.experiments.many_demonstrations import (
    COUNTED,
    ManyDemonstrationsResult,
)
from icl_lessons.runtime import Scale
from icl_lessons.tasks.attribute_text import FIRST_LABEL, FIRST_NOUN, FIRST_PREDICATE

SENTENCES = (FIRST_PREDICATE - FIRST_NOUN) * (FIRST_LABEL - FIRST_PREDICATE)
ACCURACY = "accuracy over the whole vocabulary"
# Table 1 of the paper: the four data sets with 8 and with 512 demonstrations.
TABLE = np.array([[0.42, 0.39, 0.49, 0.36], [0.69, 0.72, 0.75, 0.65]])


def many_claim(name: str, says: str, *, where: str):
    """Declare a claim of the study."""
    return claim(
        f"shen2024-{name}",
        paper="shen2024pretrained",
        where=where,
        kind="experiment",
        says=says,
        chapter="language_models/gradient_descent",
    )


def _many(scale: Scale) -> ManyDemonstrationsResult:
    return result_of("many_demonstrations", scale)


def _tasks(result: ManyDemonstrationsResult, values: np.ndarray) -> str:
    return ", ".join(f"{t} {words(row)}" for t, row in zip(result.tasks, values, strict=True))


@many_claim(
    "many-demonstrations-help",
    "Gradient descent on many demonstrations is right more often than on eight.",
    where="section 4.2, table 1",
)
def many_demonstrations_help(scale: Scale) -> Evidence:
    result = _many(scale)
    gain = result.last()[:, -1] - result.last()[:, 0]
    return Evidence(
        measured=gain.mean().item(),
        bound=0.0,
        comparison="at least",
        reported=float((TABLE[1] - TABLE[0]).mean()),
        unit=f"gain of {ACCURACY}, N = {result.n_demonstrations[-1]} over "
        f"{result.n_demonstrations[0]}, mean of tasks and seeds",
        samples=passed(gain.mean(-1) > 0),
        note=f"By task with {', '.join(map(str, result.n_demonstrations))}: "
        f"{_tasks(result, result.last().mean(-1))}.",
    )


@many_claim(
    "eight-demonstrations-fail",
    "With eight demonstrations, gradient descent is right on fewer than half of the queries.",
    where="section 4.2, table 1",
)
def eight_demonstrations_fail(scale: Scale) -> Evidence:
    result = _many(scale)
    reached = result.last()[:, 0]
    return Evidence(
        measured=reached.mean().item(),
        bound=0.5,
        reported=float(TABLE[0].mean()),
        unit=f"{ACCURACY}, N = {result.n_demonstrations[0]}, mean of tasks and seeds",
        samples=passed(reached.mean(-1) < 0.5),
        note=f"By task and seed: {_tasks(result, reached)}; in context "
        f"{_tasks(result, result.in_context)}.",
    )


@many_claim(
    "eight-are-memorized",
    "With eight demonstrations descent fits: it is right on every one of them, and less often on "
    "queries.",
    where="section 4.2, of table 1: descent overfits",
)
def eight_are_memorized(scale: Scale) -> Evidence:
    result = _many(scale)
    fit, reached = result.last(COUNTED[2])[:, 0], result.last()[:, 0]
    return Evidence(
        measured=(fit - reached).mean().item(),
        bound=0.02,
        comparison="at least",
        unit=f"{ACCURACY} on the demonstrations less that on queries, N = "
        f"{result.n_demonstrations[0]}, mean of tasks and seeds",
        samples=passed(fit == 1),
        note=f"By task and seed: {_tasks(result, fit - reached)}. Counted: tasks and seeds with "
        "every demonstration right.",
    )


@many_claim(
    "untold-labels",
    "Much of what descent misses with eight demonstrations are label words that none of them has.",
    where="not in the paper; about table 1",
)
def untold_labels(scale: Scale) -> Evidence:
    result = _many(scale)
    missed = 1 - result.last()[:, 0]
    untold = 1 - result.ceiling[:, 0]
    return Evidence(
        measured=float(untold.sum() / missed.sum()),
        bound=0.5,
        comparison="at least",
        unit="share of descent's errors, all tasks and seeds, as many as queries have an untold "
        "label",
        note=f"N = {result.n_demonstrations[0]}. Queries with an untold label: "
        f"{_tasks(result, untold)}; errors: {_tasks(result, missed)}. Drawn with all labels among "
        "them, eight would do better.",
    )


@many_claim(
    "many-match-eight-in-context",
    "Descent needs many demonstrations to be right as often as the same model with eight of them "
    "in its prompt.",
    where="not in the paper; beside table 1",
)
def many_match_eight_in_context(scale: Scale) -> Evidence:
    result = _many(scale)
    lack = result.in_context[:, None] - result.last()
    return Evidence(
        measured=lack[:, 0].mean().item(),
        bound=0.02,
        comparison="at least",
        unit=f"{ACCURACY}, {result.n_in_context} in context less descent on as many, mean of tasks "
        "and seeds",
        samples=passed(lack[:, 0].mean(-1) > 0),
        note="With "
        + ", ".join(
            f"{n}: {value:.3f}"
            for n, value in zip(result.n_demonstrations, lack.mean((0, 2)), strict=True)
        )
        + ".",
    )


@many_claim(
    "not-by-heart",
    "Descent on many demonstrations does not only repeat them: it is right on queries that are not "
    "among them.",
    where="not in the paper; about table 1",
)
def not_by_heart(scale: Scale) -> Evidence:
    result = _many(scale)
    fresh, told = result.last(COUNTED[1]), result.told.mean((0, 2))
    return Evidence(
        measured=float(np.nanmin(fresh[:, -1])),
        bound=0.95,
        comparison="at least",
        unit=f"{ACCURACY} on queries not among the demonstrations, N = "
        f"{result.n_demonstrations[-1]}, worst task and seed",
        samples=passed(fresh[:, -1][~np.isnan(fresh[:, -1])] >= 0.95),
        note="Queries among the demonstrations, by number: "
        + ", ".join(
            f"{n}: {value:.2f}" for n, value in zip(result.n_demonstrations, told, strict=True)
        )
        + f". Attribute text has {SENTENCES} sentences.",
    )
