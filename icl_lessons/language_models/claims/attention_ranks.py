"""What is claimed of how attention in context and fine-tuning rank tokens, each with a check."""

from typing import Any

from icl_lessons.declare import Evidence, passed, result_of, words
from icl_lessons.language_models.claims.attention_as_update import DAI, update_claim
from icl_lessons.language_models.experiments.attention_ranks import (
    ALL,
    NO_DESCENT,
    OTHER_LABELS,
    WITHIN,
)
from icl_lessons.language_models.experiments.update_similarity import (
    CAUSAL,
    MODELS,
    ONE_PASS,
    TRAINED,
    UNTRAINED,
)
from icl_lessons.runtime import Scale

UNIT = "Kendall's tau, mean over tasks, blocks and queries"
CONTROL = "not in the paper; a control, its bound set after the figures had been seen"


def _result(scale: Scale) -> Any:
    return result_of("attention_ranks", scale)


@update_claim(
    DAI,
    "ranks-alike",
    "The tokens of demonstrations that get most attention in context are those whose queries, "
    "while they were trained on, are nearest to the query's: the two orders agree as far as in "
    "the paper's task with the least agreement.",
    where="section 4.4, Kendall's rank correlation (0.151 to 0.274 by task, 0.193 on average)",
)
def ranks_alike(scale: Scale) -> Evidence:
    result = _result(scale)
    tau = result.mean()
    by_block, within = result.of().mean((0, 2)), result.mean(TRAINED, ONE_PASS, WITHIN)
    late, late_within = result.late(), result.late(TRAINED, WITHIN)
    return Evidence(
        measured=float(tau.min()),
        bound=0.151,
        partial_bound=0.0,
        comparison="at least",
        reported=0.193,
        unit=f"{UNIT}, one pass, least of seeds",
        samples=passed(tau >= 0.151),
        note=f"By seed {words(tau)}; layer-causal {words(result.mean(TRAINED, CAUSAL))}. By block "
        f"{words(by_block)}. Among tokens of one kind {words(within)}. Attention with how late a "
        f"token stands: {words(late)}, among tokens of one kind {words(late_within)}.",
    )


def _lead(over: Any, what: str, note: str) -> Evidence:
    """How far one pass is ahead of a control, ``over`` by seed."""
    return Evidence(
        measured=float(over.min()),
        bound=0.05,
        partial_bound=0.0,
        comparison="at least",
        unit=f"{UNIT}, {what}, least of seeds",
        samples=passed(over >= 0.05),
        note=note,
    )


@update_claim(
    DAI,
    "ranks-above-untrained",
    "The two orders agree more in a trained model than in one that has learned nothing.",
    where=CONTROL,
)
def ranks_above_untrained(scale: Scale) -> Evidence:
    result = _result(scale)
    return _lead(
        result.mean() - result.mean(UNTRAINED),
        "one pass, trained less untrained",
        "; ".join(f"{model} {words(result.mean(model))}" for model in MODELS) + ".",
    )


@update_claim(
    DAI,
    "ranks-by-descent",
    "That the two orders agree is due to fine-tuning: without any they agree less.",
    where=CONTROL,
)
def ranks_by_descent(scale: Scale) -> Evidence:
    result = _result(scale)
    return _lead(
        result.mean() - result.mean(TRAINED, NO_DESCENT),
        "one pass less no fine-tuning",
        f"No fine-tuning {words(result.mean(TRAINED, NO_DESCENT, ALL))}, one pass "
        f"{words(result.mean())}, one pass on other labels "
        f"{words(result.mean(TRAINED, OTHER_LABELS))}. No label enters the measure, and queries "
        "are not what is fine-tuned.",
    )
