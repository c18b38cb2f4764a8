"""What is claimed of the gap between contexts and descent as models grow, with a check each."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.language_models.experiments.model_size import ModelSizeResult
from icl_lessons.runtime import Scale

ACCURACY = "accuracy over the whole vocabulary"


def size_claim(name: str, says: str, *, where: str = "appendix, figure 23"):
    """Declare a claim of the study."""
    return claim(
        f"shen2024-{name}",
        paper="shen2024pretrained",
        where=where,
        kind="experiment",
        says=says,
        chapter="language_models/gradient_descent",
    )


def _sizes(scale: Scale) -> ModelSizeResult:
    return result_of("model_size", scale)


def _by(result: ModelSizeResult, values: np.ndarray) -> str:
    return "; ".join(f"{s}: {words(row)}" for s, row in zip(result.sizes, values, strict=True))


@size_claim("size-keeps-gap", "The gap in accuracy does not shrink as models grow.")
def size_keeps_gap(scale: Scale) -> Evidence:
    result = _sizes(scale)
    gap = result.gap.mean((1, 2))  # sizes, seeds
    change = gap[-1] - gap[0]
    return Evidence(
        measured=change.mean().item(),
        bound=0.0,
        partial_bound=-0.05,
        comparison="at least",
        unit=f"gap of {ACCURACY}, in context less descent at its best rate, largest model less "
        "smallest, mean of tasks, numbers and seeds",
        samples=passed(change >= 0),
        note=f"Gap by seed, {_by(result, gap)}.",
    )


@size_claim(
    "size-keeps-distance",
    "The answers of descent come no nearer to those in context as models grow.",
)
def size_keeps_distance(scale: Scale) -> Evidence:
    result = _sizes(scale)
    likeness = result.best("overlap_cosine").mean((1, 2))
    change = likeness[-1] - likeness[0]
    return Evidence(
        measured=change.mean().item(),
        bound=0.0,
        partial_bound=0.05,
        unit="overlap cosine similarity with in-context learning, descent at its best rate, "
        "largest model less smallest, mean of tasks, numbers and seeds",
        samples=passed(change <= 0),
        note=f"By seed, {_by(result, likeness)}.",
    )


@size_claim(
    "size-helps-context",
    "Larger models are better at learning in context, and it is this that keeps the gap open.",
    where="not in the paper; about figure 23",
)
def size_helps_context(scale: Scale) -> Evidence:
    result = _sizes(scale)
    context = result.of("accuracy", result.methods[0]).mean((1, 2))
    descent = result.best("accuracy").mean((1, 2))
    grown = context[-1] - context[0]
    return Evidence(
        measured=grown.mean().item(),
        bound=0.05,
        comparison="at least",
        unit=f"{ACCURACY} in context, largest model less smallest, mean of tasks, numbers and "
        "seeds",
        samples=passed(grown >= descent[-1] - descent[0]),
        note=f"In context, {_by(result, context)}. Descent, {_by(result, descent)}. Loss in nats "
        f"per token, {_by(result, result.loss)}. Counted: seeds whose context gains more than "
        "descent does.",
    )
