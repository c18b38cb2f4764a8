"""What is claimed of function vectors and the heads that they come from, each with a check."""

import itertools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import Evidence, passed, result_of, words
from icl_lessons.language_models.claims.task_vectors import (
    OWN_LABELS,
    Case,
    acquired,
    vector_claim,
    worst_case,
)
from icl_lessons.language_models.experiments.function_vectors import ANY_LABEL
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.function_vectors import (
    answers_with_head,
    attention_outputs,
    causal_indirect_effects,
    function_vector,
    head_outputs,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import Scale
from icl_lessons.tasks.attribute_text import NAMES

DEFINITION = "definition of the heads' outputs and effects"
HEADS = 4  # of the twelve of CourseLM
BLOCK = 0  # added after the first of three: the paper adds a third of the way up
SETTING = f"{HEADS} of 12 heads, ranked by effect under any label, added after block {BLOCK}."


def _claim(name: str, says: str, **options):
    return vector_claim("todd2024function", name, says, **options)


def _result(scale: Scale) -> Any:
    return result_of("function_vectors", scale)


def _at(result: Any, measure: str = "added", block: int = BLOCK) -> Float[np.ndarray, "tasks s"]:
    """Accuracy in the one setting that the claims are about, task by seed."""
    return result.of(measure, ANY_LABEL, HEADS)[:, block]


def rank_correlations(rows: Float[np.ndarray, "rows heads"]) -> list[float]:
    """Spearman's, for every pair of rows."""
    ranks = rows.argsort(1).argsort(1).astype(float)
    return [
        float(np.corrcoef(ranks[i], ranks[j])[0, 1])
        for i, j in itertools.combinations(range(len(rows)), 2)
    ]


# --- identities -----------------------------------------------------------------------------------


@_claim(
    "heads-sum",
    "The outputs of a block's heads sum to what its attention adds to the residual stream.",
    where=DEFINITION,
    kind="identity",
)
def heads_sum(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        each = head_outputs(case.model, case.tokens)
        return relative_error(each.sum(1), attention_outputs(case.model, case.tokens))

    return worst_case(check, 811, "At the last token, after the output matrix.")


@_claim(
    "own-output",
    "A head's own output, put back, changes no answer.",
    where=DEFINITION,
    kind="identity",
)
def own_output(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        plain, each = answer_law(case.model, case.tokens), head_outputs(case.model, case.tokens)
        return max(
            relative_error(
                answers_with_head(case.model, case.tokens, (block, head), each[block, head]), plain
            )
            for block, head in np.ndindex(*each.shape[:2])
        )

    return worst_case(check, 812)


@_claim(
    "constant-head",
    "A head that writes the same for every prompt has no indirect effect, however much it writes.",
    where=DEFINITION,
    kind="identity",
)
def constant_head(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        with torch.no_grad():  # its heads see the same vector at every token
            norm = case.model.blocks[0].norm_attention
            norm.weight.zero_()
            norm.bias.normal_(generator=case.generator)
        each = head_outputs(case.model, case.tokens)
        if each[0].abs().max() < 1e-3:
            return float("inf")  # the head writes nothing: no test
        answer = torch.zeros(len(case.tokens), dtype=torch.long)
        other = case.tokens.flip(0).roll(1, 1)
        effects = causal_indirect_effects(case.model, other, answer, each.mean(2))
        return effects[0].abs().max().item()

    return worst_case(check, 813, "Every head of the first block, fed a constant.")


@_claim(
    "vectors-add-up",
    "The function vector of two groups of heads is the sum of the groups' vectors.",
    where="definition of a function vector",
    kind="identity",
)
def vectors_add_up(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        means = head_outputs(case.model, case.tokens).mean(2)
        heads = list(np.ndindex(*means.shape[:2]))
        order = torch.randperm(len(heads), generator=case.generator).tolist()
        cut = len(heads) // 2
        some, others = ([heads[i] for i in part] for part in (order[:cut], order[cut:]))
        parts = function_vector(means, some) + function_vector(means, others)
        return relative_error(function_vector(means, heads), parts)

    return worst_case(check, 814, "Of all heads, it is the mean of what attention adds, summed.")


# --- which heads ----------------------------------------------------------------------------------


@_claim(
    "few-heads",
    "A few heads hold most of the indirect effect.",
    where="the heads with the largest effect",
)
def few_heads(scale: Scale) -> Evidence:
    effects = _result(scale).average_effects(ANY_LABEL)
    positive = np.sort(effects.clip(0).reshape(-1, effects.shape[-1]), 0)[::-1]
    share = positive[:HEADS].sum(0) / positive.sum(0)
    top = [divmod(int(i), effects.shape[1]) for i in effects.reshape(-1, share.size).argmax(0)]
    return Evidence(
        measured=float(share.min()),
        bound=0.8,
        comparison="at least",
        unit=f"share of all positive effect that {HEADS} of 12 heads hold, least of the seeds",
        samples=passed(share >= 0.8),
        note=f"By seed {words(share)}; the largest effects {words(effects.max((0, 1)))} are of "
        f"(block, head) {', '.join(map(str, top))}. Mean over the four canonical tasks.",
    )


@_claim(
    "heads-across-tasks",
    "The same heads carry different tasks.",
    where="averaging effects over tasks",
)
def heads_across_tasks(scale: Scale) -> Evidence:
    result = _result(scale)
    effects = result.effects[result.corruptions.index(ANY_LABEL), result.rows(*NAMES)]
    seeds = [rank_correlations(e.reshape(len(NAMES), -1)) for e in np.moveaxis(effects, -1, 0)]
    means = np.mean(seeds, 1)
    return Evidence(
        measured=float(means.min()),
        bound=0.5,
        partial_bound=0.25,
        comparison="at least",
        unit="rank correlation of heads' effects on two tasks, mean over pairs, least of the seeds",
        samples=passed(means >= 0.5),
        note=f"Means by seed {words(means)}; single pairs from {np.min(seeds):.2f} to "
        f"{np.max(seeds):.2f}. The paper ranks heads by their mean over tasks, and so do we.",
    )


@_claim(
    "heads-across-seeds",
    "Models that differ in their seed alone give the task to the same heads.",
    where="not in the paper; about the slopes that tell heads apart",
)
def heads_across_seeds(scale: Scale) -> Evidence:
    effects = _result(scale).average_effects(ANY_LABEL)
    found = np.array(rank_correlations(effects.reshape(-1, effects.shape[-1]).T))
    return Evidence(
        measured=float(found.min()),
        bound=0.5,
        comparison="at least",
        unit="rank correlation of heads' effects in two seeds' models, least of the pairs",
        samples=passed(found >= 0.5),
        note=f"Pairs of seeds: {words(found)}. Heads have numbers of their own here, since each "
        "has its own slope of position.",
    )


# --- what the vector does -------------------------------------------------------------------------


@_claim(
    "zero-shot",
    "The function vector of a few heads, added to a query without demonstrations, makes the model "
    "do the task.",
    where="abstract; zero-shot prompts",
)
def zero_shot(scale: Scale) -> Evidence:
    result = _result(scale)
    own, shared = (
        _at(result)[rows] / result.in_context[rows]
        for rows in (result.rows(*OWN_LABELS), result.rows("stance", "kind"))
    )
    alone = result.zero_shot[result.rows(*OWN_LABELS)]
    return Evidence(
        measured=float(own.min()),
        bound=0.9,
        partial_bound=0.5,
        comparison="at least",
        unit="accuracy with the vector over in context, least of topic, mood and seeds",
        samples=passed(own >= 0.9),
        note=f"{SETTING} Topic and mood {words(own)}, without it {words(alone)}; stance and kind "
        f"{words(shared)}.",
    )


@_claim(
    "corrupted-prompts",
    "Added to prompts with corrupted labels, it brings back at least half of what they lost.",
    where="shuffled-label prompts",
)
def corrupted_prompts(scale: Scale) -> Evidence:
    result = _result(scale)
    rows = result.rows(*NAMES)
    lost = result.corrupted[result.corruptions.index(ANY_LABEL), rows]
    back = _at(result, "added_corrupted")[rows]
    share = (back - lost) / (result.in_context[rows] - lost)
    return Evidence(
        measured=float(share.min()),
        bound=0.5,
        comparison="at least",
        unit="share of the lost accuracy, least of the canonical tasks and seeds",
        samples=passed(share >= 0.5),
        note=f"{SETTING} Accuracy {lost.mean():.2f} with corrupted labels, {back.mean():.2f} with "
        f"the vector; shares {words(share)} (task by task, three seeds each).",
    )


@_claim(
    "random-direction",
    "A random direction of the same length does not do it.",
    where="not in the paper; control",
)
def random_direction(scale: Scale) -> Evidence:
    result = _result(scale)
    rows = result.rows(*OWN_LABELS)
    vector, random = _at(result)[rows], _at(result, "random")[rows]
    return Evidence(
        measured=float((vector - random).min()),
        bound=0.5,
        comparison="at least",
        unit="accuracy with the vector less that with a random one, least of topic, mood and seeds",
        samples=passed(vector - random >= 0.5),
        note=f"{SETTING} With the vector {words(vector)}; with one random direction each "
        f"{words(random)}; without {words(result.zero_shot[rows])}.",
    )


@_claim(
    "carries-the-mapping",
    "A function vector carries the demonstrated mapping: from contrary labels, the contrary one.",
    where="about what a function vector holds",
)
def carries_the_mapping(scale: Scale) -> Evidence:
    result = _result(scale)
    cells = acquired(result)
    alone, context = result.zero_shot[cells], result.in_context[cells]
    share = (_at(result)[cells] - alone) / (context - alone)
    names = [f"{result.tasks[i]} {seed}" for i, seed in np.argwhere(cells)]
    return Evidence(
        measured=float(share.min()),
        bound=0.5,
        comparison="at least",
        unit="share of what context adds to the query alone, least of contrary tasks and seeds",
        samples=passed(share >= 0.5),
        note=f"{SETTING} Contrary tasks that a seed's model does in context: "
        + ", ".join(f"{name}: {value:.2f}" for name, value in zip(names, share, strict=True))
        + ".",
    )


@_claim(
    "early-blocks",
    "It works better added early than after the last block.",
    where="abstract; accuracy by layer",
)
def early_blocks(scale: Scale) -> Evidence:
    result = _result(scale)
    rows = result.rows(*NAMES)
    first, last = (_at(result, block=block)[rows].mean(0) for block in (BLOCK, -1))
    return Evidence(
        measured=float((first - last).min()),
        bound=0.0,
        comparison="at least",
        unit="accuracy added after the first block less after the last, mean over canonical "
        "tasks, least of the seeds",
        samples=passed(first > last),
        note=f"{SETTING} First {words(first)}, last {words(last)}. After the last block the vector "
        "acts on the answers directly, the same for every query.",
    )
