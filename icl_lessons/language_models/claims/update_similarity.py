"""What is claimed of how alike the two updates are, each with a check.

Trained figures are means over the tasks that CourseLM does in context, blocks and queries, at the
learning rate chosen on further queries; Dai et al. and Deutch et al. average over their six tasks.
"""

from typing import Any

import numpy as np

from icl_lessons.declare import Evidence, passed, result_of, words
from icl_lessons.language_models.claims.attention_as_update import DAI, DEUTCH, update_claim
from icl_lessons.language_models.experiments.update_similarity import (
    CAUSAL,
    EMBEDDINGS,
    FULL_BATCH,
    MODELS,
    ONE_PASS,
    TRAINED,
    UNTRAINED,
    WAYS,
)
from icl_lessons.runtime import Scale

MEANS = "mean over tasks, blocks and queries"


def _result(scale: Scale) -> Any:
    return result_of("update_similarity", scale)


def _by_way(result: Any, measure: str, model: str = TRAINED) -> str:
    """A measure seed by seed for every way to descend, as a note lists it."""
    return "; ".join(f"{way} {words(result.mean(measure, model, way))}" for way in WAYS)


# --- outputs of attention -------------------------------------------------------------------------


@update_claim(
    DAI,
    "outputs-alike",
    "What demonstrations change in the outputs of attention is like what one pass of fine-tuning "
    "changes, far more so than like a random update.",
    where="section 4.4, SimAOU (0.186 on average for 1.3B)",
)
def outputs_alike(scale: Scale) -> Evidence:
    result = _result(scale)
    found, random = result.mean("normalised"), result.mean("random")
    over = found - random
    return Evidence(
        measured=float(over.min()),
        bound=0.1,
        comparison="at least",
        unit=f"normalised SimAOU less that with a random update as large, {MEANS}, least of seeds",
        samples=passed(over >= 0.1),
        note=f"Similarity: {_by_way(result, 'normalised')}. With a random update as large as that "
        f"of one pass {words(random)}. The paper's random vector is not as large as the update.",
    )


@update_claim(
    DAI,
    "alike-by-labels",
    "Fine-tuning on the demonstrations is more like them in context than fine-tuning on the same "
    "inputs with other labels.",
    where="not in the papers; a control, added after the other figures had been seen",
)
def alike_by_labels(scale: Scale) -> Evidence:
    result = _result(scale)
    over = result.mean("raw") - result.mean("other_labels")
    return Evidence(
        measured=float(over.min()),
        bound=0.1,
        partial_bound=0.0,
        comparison="at least",
        unit=f"raw SimAOU, one pass, less that after fine-tuning on other labels, {MEANS}, least "
        "of seeds",
        samples=passed(over >= 0.1),
        note=f"Own labels: {_by_way(result, 'raw')}. Every label replaced by the next: "
        f"{_by_way(result, 'other_labels')}. Untrained, one pass: own "
        f"{words(result.mean('raw', UNTRAINED))}, other "
        f"{words(result.mean('other_labels', UNTRAINED))}.",
    )


@update_claim(
    DEUTCH,
    "no-more-than-null",
    "The normalised similarity is no more than two unrelated updates of the same sizes would have.",
    where="section on metrics; the argument of the counter-example, put to the test",
)
def no_more_than_null(scale: Scale) -> Evidence:
    result = _result(scale)
    over = result.mean("normalised") - result.mean("null")
    return Evidence(
        measured=float(over.max()),
        bound=0.0,
        unit=f"normalised SimAOU less its null, one pass, {MEANS}, largest of seeds",
        samples=passed(over <= 0),
        note=f"Null of one pass {words(result.mean('null'))}, found "
        f"{words(result.mean('normalised'))}. Null: {_by_way(result, 'null')}.",
    )


@update_claim(
    DEUTCH,
    "normalising-raises",
    "Bringing the states to length 1 first raises the similarity.",
    where="section on metrics; table of SimAOU",
)
def normalising_raises(scale: Scale) -> Evidence:
    result = _result(scale)
    raised = result.mean("normalised") - result.mean("raw")
    return Evidence(
        measured=float(raised.min()),
        bound=0.0,
        comparison="at least",
        reported=0.085,
        unit=f"SimAOU normalised less raw, one pass, {MEANS}, least of seeds",
        samples=passed(raised >= 0),
        note=f"Normalised {words(result.mean('normalised'))}, raw {words(result.mean('raw'))}; the "
        "paper 0.187 and 0.102.",
    )


@update_claim(
    DEUTCH,
    "raw-is-low",
    "Without normalising, the similarity of outputs is low: 0.2 at most.",
    where="table of SimAOU (0.05 to 0.18 by task)",
)
def raw_is_low(scale: Scale) -> Evidence:
    result = _result(scale)
    raw = result.mean("raw")
    return Evidence(
        measured=float(raw.max()),
        bound=0.2,
        reported=0.102,
        unit=f"raw SimAOU, one pass, {MEANS}, largest of seeds",
        samples=passed(raw <= 0.2),
        note=f"{_by_way(result, 'raw')}. By task, one pass, mean over seeds: {_by_task(result)}.",
    )


def _by_task(result: Any, measure: str = "raw", model: str = TRAINED) -> str:
    means = result.of(measure, model).mean((1, 2))
    return ", ".join(f"{task} {v:.2f}" for task, v in zip(result.tasks, means, strict=True))


def _by_rate(result: Any, model: str) -> str:
    means = result.by_block["raw"][MODELS.index(model), :, WAYS.index(ONE_PASS)].mean((0, 2, 3))
    return words(means)


def _controls(result: Any, measure: str) -> str:
    return "; ".join(f"{model} {words(result.mean(measure, model))}" for model in MODELS)


@update_claim(
    DEUTCH,
    "untrained-as-alike",
    "A model that has learned nothing has updates as alike, within 0.05 of raw similarity.",
    where="table of SimAOU with untrained baselines (trained less untrained -0.02 on average)",
)
def untrained_as_alike(scale: Scale) -> Evidence:
    result = _result(scale)
    over = result.mean("raw") - result.mean("raw", UNTRAINED)
    return Evidence(
        measured=float(over.max()),
        bound=0.05,
        reported=-0.02,
        unit=f"raw SimAOU, one pass, trained less untrained, {MEANS}, largest of seeds",
        samples=passed(over <= 0.05),
        note=f"Raw: {_controls(result, 'raw')}. By task trained {_by_task(result)}; untrained "
        f"{_by_task(result, 'raw', UNTRAINED)}. At each rate, mean over seeds, trained "
        f"{_by_rate(result, TRAINED)}; untrained {_by_rate(result, UNTRAINED)}. Four of the "
        "paper's six tasks have this baseline.",
    )


@update_claim(
    DEUTCH,
    "untrained-as-alike-normalised",
    "By the normalised similarity of Dai et al., too, a model that has learned nothing scores as "
    "high, within 0.05.",
    where="section on baselines",
)
def untrained_as_alike_normalised(scale: Scale) -> Evidence:
    result = _result(scale)
    over = result.mean("normalised") - result.mean("normalised", UNTRAINED)
    return Evidence(
        measured=float(over.max()),
        bound=0.05,
        unit=f"normalised SimAOU, one pass, trained less untrained, {MEANS}, largest of seeds",
        samples=passed(over <= 0.05),
        note=f"Normalised: {_controls(result, 'normalised')}. Null: {_controls(result, 'null')}.",
    )


@update_claim(
    DEUTCH,
    "embeddings-as-alike",
    "Trained embeddings and norms around untrained blocks are enough for updates as alike, within "
    "0.05 of raw similarity.",
    where="table of SimAOU, embeddings only (trained less embeddings only -0.07 on average)",
)
def embeddings_as_alike(scale: Scale) -> Evidence:
    result = _result(scale)
    over = result.mean("raw") - result.mean("raw", EMBEDDINGS)
    return Evidence(
        measured=float(over.max()),
        bound=0.05,
        reported=-0.07,
        unit=f"raw SimAOU, one pass, trained less embeddings only, {MEANS}, largest of seeds",
        samples=passed(over <= 0.05),
        note=f"Raw: {_controls(result, 'raw')}.",
    )


@update_claim(
    DEUTCH,
    "causal-closer-in-outputs",
    "Layer-causal descent changes the outputs of attention more as demonstrations do than ordinary "
    "descent does.",
    where="table of SimAOU (0.167 and 0.102)",
)
def causal_closer_in_outputs(scale: Scale) -> Evidence:
    return _causal(_result(scale), "raw", 0.065)


@update_claim(
    DEUTCH,
    "causal-closer-in-scores",
    "Layer-causal descent changes the scores of attention more as demonstrations do than ordinary "
    "descent does.",
    where="table of the similarity of changes of scores (0.336 and 0.267)",
)
def causal_closer_in_scores(scale: Scale) -> Evidence:
    return _causal(_result(scale), "score_changes", 0.069)


def _causal(result: Any, measure: str, reported: float) -> Evidence:
    plain, causal = (result.mean(measure, TRAINED, way) for way in (ONE_PASS, CAUSAL))
    return Evidence(
        measured=float((causal - plain).min()),
        bound=0.0,
        comparison="at least",
        reported=reported,
        unit=f"cosine, one pass, layer-causal less ordinary, {MEANS}, least of seeds",
        samples=passed(causal > plain),
        note=f"Layer-causal {words(causal)}, ordinary {words(plain)}; ordinary on the full batch "
        f"{words(result.mean(measure, TRAINED, FULL_BATCH))}. Here the read-out follows the whole "
        "block and the label alone counts.",
    )


# --- scores of attention --------------------------------------------------------------------------


@update_claim(
    DAI,
    "scores-nearer",
    "Fine-tuning brings the query's scores of attention nearer to those with demonstrations.",
    where="section 4.4, SimAM before and after (0.338 and 0.442 on average for 1.3B)",
)
def scores_nearer(scale: Scale) -> Evidence:
    result = _result(scale)
    before, after = result.scores_before(), result.mean("scores")
    return Evidence(
        measured=float((after - before).min()),
        bound=0.0,
        comparison="at least",
        reported=0.104,
        unit="SimAM after less before, one pass, mean over tasks and all blocks but the first, "
        "least of seeds",
        samples=passed(after > before),
        note=f"Before {words(before)}; after: {_by_way(result, 'scores')}.",
    )


@update_claim(
    DEUTCH,
    "untrained-scores-alike",
    "Maps of scores are alike without anything learned: by SimAM an untrained model reaches what "
    "Dai et al. report for a trained one.",
    where="section on metrics; the bound is the trained 0.442 of Dai et al., section 4.4",
)
def untrained_scores_alike(scale: Scale) -> Evidence:
    result = _result(scale)
    found = result.mean("scores", UNTRAINED)
    return Evidence(
        measured=float(found.min()),
        bound=0.442,
        comparison="at least",
        unit="SimAM, untrained, one pass, mean over tasks and all blocks but the first, least of "
        "seeds",
        samples=passed(found >= 0.442),
        note=f"After one pass: {_controls(result, 'scores')}. Before any fine-tuning: "
        + "; ".join(f"{model} {words(result.scores_before(model))}" for model in MODELS)
        + f". Changes alone: {_controls(result, 'score_changes')}.",
    )


# --- answers and weights --------------------------------------------------------------------------


@update_claim(
    DAI,
    "covers-fine-tuning",
    "Context turns right most of the queries that fine-tuning turns right.",
    where="section 4.4, Rec2FTP (85.6 % on average for 1.3B)",
)
def covers_fine_tuning(scale: Scale) -> Evidence:
    result = _result(scale)
    both, gained = result.recalled()
    share = both / gained
    return Evidence(
        measured=float(share.min()),
        bound=0.8,
        partial_bound=0.5,
        comparison="at least",
        reported=0.856,
        unit="Rec2FTP, one pass, over all tasks, least of seeds",
        samples=passed(share >= 0.8),
        note=f"{words(share)} of {', '.join(f'{int(n)}' for n in gained)} queries. Where context "
        f"is nearly always right ({words(result.in_context[0].mean(0))}) it recalls whatever any "
        "method gets right.",
    )


@update_claim(
    DAI,
    "context-better",
    "In context the model answers far better than after one pass of fine-tuning.",
    where="section 4.3, accuracies (0.755 and 0.641 on average for 1.3B)",
)
def context_better(scale: Scale) -> Evidence:
    result = _result(scale)
    context, tuned = result.in_context[0].mean(0), result.mean("accuracy")
    return Evidence(
        measured=float((context - tuned).min()),
        bound=0.1,
        partial_bound=0.0,
        comparison="at least",
        reported=0.114,
        unit="accuracy in context less after one pass, mean over tasks, least of seeds",
        samples=passed(context - tuned >= 0.1),
        note=f"In context {words(context)}; after: {_by_way(result, 'accuracy')}; alone "
        f"{words(result.zero_shot[0].mean(0))}.",
    )


@update_claim(
    DEUTCH,
    "different-updates",
    "Ordinary and layer-causal descent move the weights in nearly unrelated directions: the cosine "
    "is 0.3 at most.",
    where="section on layer causality (about 0.1 to 0.2)",
)
def different_updates(scale: Scale) -> Evidence:
    weights = _result(scale).weights[0]  # of the trained model: tasks, rates, blocks, seeds
    below = weights[:, 0, :-1].mean((0, 1))
    return Evidence(
        measured=float(below.max()),
        bound=0.3,
        unit="cosine of changes of keys and values in one pass at the smallest rate, mean over "
        "tasks and all blocks but the last, largest of seeds",
        samples=passed(below <= 0.3),
        note=f"By block, mean over tasks and seeds: {words(weights[:, 0].mean((0, 2)))}. In the "
        "last block, with none above it, the first step is the same.",
    )


@update_claim(
    DEUTCH,
    "causal-moves-further",
    "At the same learning rate layer-causal descent moves the weights much further: twice as far "
    "or more.",
    where="figure of the gradients' norms",
)
def causal_moves_further(scale: Scale) -> Evidence:
    moved = _result(scale).by_block["moved"][0, :, :, 0, :-1]  # tasks, ways, blocks, seeds
    ratio = (moved[:, WAYS.index(CAUSAL)] / moved[:, WAYS.index(ONE_PASS)]).mean((0, 1))
    return Evidence(
        measured=float(np.min(ratio)),
        bound=2.0,
        comparison="at least",
        unit="length of the change of keys and values in one pass at the smallest rate, "
        "layer-causal over ordinary, mean over tasks and all blocks but the last, least of seeds",
        samples=passed(ratio >= 2),
        note=f"By seed {words(ratio)}.",
    )
