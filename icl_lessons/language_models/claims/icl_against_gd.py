"""What is claimed of in-context learning against gradient descent, each claim with a check."""

import numpy as np
import torch

from icl_lessons.declare import EXPERIMENTS, Evidence, claim, passed, result_of, words
from icl_lessons.language_models.experiments.answer_likeness import AnswerLikenessResult
from icl_lessons.language_models.experiments.icl_against_gd import (
    IN_CONTEXT,
    REORDERED,
    ZERO_SHOT,
    ICLAgainstGDResult,
)
from icl_lessons.language_models.subjects import subject
from icl_lessons.measures.agreement import RELATIVE_ERROR
from icl_lessons.measures.distributions import (
    VARIANTS,
    overlap_cosine_similarity,
    token_overlap,
    top_tokens,
)
from icl_lessons.runtime import Scale, seeded

PAPER = "shen2024pretrained"
ACCURACY_PAGE, ORDER_PAGE = "language_models/gradient_descent", "language_models/order"
FIGURES, OWN = "section 4.2, figures 5 and 11 to 22", "not in the paper; about figures 11 to 22"
ACCURACY = "accuracy over the whole vocabulary"
WHOLE = ("descent, rate .003", "descent, rate .03", "Adam, rate .001")
FEW = 4


def against_claim(
    name: str, says: str, *, where: str = FIGURES, page: str = ACCURACY_PAGE, kind="experiment"
):
    """Declare a claim of the study."""
    return claim(f"shen2024-{name}", paper=PAPER, where=where, kind=kind, says=says, chapter=page)


def _study(scale: Scale) -> ICLAgainstGDResult:
    return result_of("icl_against_gd", scale)


def _whole(result: ICLAgainstGDResult) -> tuple[str, ...]:
    """The rivals that move the whole model."""
    parts = ("block", "values")
    return tuple(name for name in result.rivals if not any(part in name for part in parts))


def _last(result: ICLAgainstGDResult, measure: str, names: tuple[str, ...]) -> np.ndarray:
    """``[methods, tasks, numbers, seeds]``."""
    return np.stack([result.last(measure, name) for name in names])


def _few(result: ICLAgainstGDResult) -> np.ndarray:
    return np.array(result.n_demonstrations) <= FEW


def _by(names, values) -> str:
    """``topic 0.12, stance 0.34``."""
    pairs = zip(names, np.round(values, 2) + 0.0, strict=True)  # no minus before a zero
    return ", ".join(f"{name} {value:.2f}" for name, value in pairs)


# --- accuracy -----------------------------------------------------------------------------------


@against_claim(
    "one-demonstration-ahead",
    "With one demonstration, in-context learning is right more often than gradient descent on the "
    "whole model.",
    where=OWN,
)
def one_demonstration_ahead(scale: Scale) -> Evidence:
    result = _study(scale)
    context = result.last("accuracy", IN_CONTEXT)[:, 0]
    gap = context - _last(result, "accuracy", _whole(result))[:, :, 0]
    return Evidence(
        measured=gap.mean((0, 2)).min().item(),
        bound=0.1,
        comparison="at least",
        unit=f"{ACCURACY}, in context less descent, mean of rates and seeds, least of the tasks",
        samples=passed(gap > 0),
        note=f"By task: {_by(result.tasks, gap.mean((0, 2)))}. One sentence with its "
        "label shows which attribute is asked for; that the mapping is contrary it hardly shows.",
    )


@against_claim(
    "one-demonstration-similar",
    "With one demonstration, the accuracies of in-context learning and of gradient descent are "
    "similar.",
    where="appendix, figures 11 to 14",
)
def one_demonstration_similar(scale: Scale) -> Evidence:
    result = _study(scale)
    context = result.last("accuracy", IN_CONTEXT)[:, 0]
    gap = np.abs(context - _last(result, "accuracy", _whole(result))[:, :, 0].mean(0))
    return Evidence(
        measured=gap.mean().item(),
        bound=0.1,
        unit=f"distance of {ACCURACY} in context and of descent, mean of tasks and seeds",
        samples=passed(gap.mean(-1) <= 0.1),
        note=f"By task: {_by(result.tasks, gap.mean(-1))}.",
    )


@against_claim(
    "one-label",
    "Descent of the whole model on one demonstration ends up giving its label as every answer.",
    where=OWN,
)
def one_label(scale: Scale) -> Evidence:
    result = _study(scale)
    config = EXPERIMENTS["icl_against_gd"].configs[Scale(scale)]
    name = _whole(result)[min(1, len(_whole(result)) - 1)]
    reached = result.last("accuracy", name)[:, result.n_demonstrations.index(1)]
    always = np.zeros_like(reached)
    for i, task in enumerate(result.tasks):
        for j, seed in enumerate(config.seeds):
            who = subject(config.model, seed, config.data)
            prompts = who.prompts(task, 1, config.n_queries, seed)
            always[i, j] = (prompts.answer == prompts.labels[0, 0]).double().mean().item()
    off = np.abs(reached - always)
    return Evidence(
        measured=off.max().item(),
        bound=0.05,
        unit=f"distance of {ACCURACY} from that of the one label always, worst task and seed",
        samples=passed(off <= 0.05),
        note=f"{name}, {result.epochs[-1]} epochs: {words(reached.mean(-1))} by task; that label "
        f"always: {words(always.mean(-1))}.",
    )


@against_claim(
    "few-demonstrations-ahead",
    "With up to four demonstrations, no way to fine-tune is right more often than in-context "
    "learning.",
)
def few_demonstrations_ahead(scale: Scale) -> Evidence:
    result = _study(scale)
    context = result.last("accuracy", IN_CONTEXT)[:, _few(result)]
    gap = context - _last(result, "accuracy", result.rivals)[:, :, _few(result)]
    by_task = gap.mean((2, 3)).min(0)
    return Evidence(
        measured=by_task.min().item(),
        bound=0.0,
        comparison="at least",
        unit=f"{ACCURACY}, in context less the best rival, mean of N <= {FEW} and seeds, least "
        "of the tasks",
        samples=passed(gap.mean(-1) >= -1e-6),
        note=f"By task: {_by(result.tasks, by_task)}. Counted: cells of task, number and rival, "
        "means of the seeds.",
    )


@against_claim(
    "gap-at-eight",
    "With eight demonstrations, in-context learning is still clearly ahead of descent on the whole "
    "model.",
)
def gap_at_eight(scale: Scale) -> Evidence:
    result = _study(scale)
    whole = _whole(result)
    name = whole[min(1, len(whole) - 1)]
    gap = (result.last("accuracy", IN_CONTEXT) - result.last("accuracy", name))[:, -1].mean(-1)
    return Evidence(
        measured=gap.mean().item(),
        bound=0.1,
        comparison="at least",
        unit=f"{ACCURACY}, in context less {name}, mean of tasks and seeds",
        samples=passed(gap >= 0.1),
        note=f"By task: {_by(result.tasks, gap)}. On topic, descent is wrong about the label "
        "words that no demonstration has.",
    )


@against_claim(
    "best-descent-differs",
    "Which way to fine-tune does best differs from task to task.",
    where=OWN,
)
def best_descent_differs(scale: Scale) -> Evidence:
    result = _study(scale)
    reached = _last(result, "accuracy", result.rivals)[:, :, _few(result)].mean(2)
    best = [result.rivals[i] for i in reached.mean(-1).argmax(0)]
    alone = [len({*reached[..., seed].argmax(0)}) for seed in range(reached.shape[-1])]
    return Evidence(
        measured=len(set(best)),
        bound=2,
        comparison="at least",
        unit=f"different best rivals over the tasks, by mean {ACCURACY}, N <= {FEW}",
        samples=passed([count >= 2 for count in alone]),
        note="; ".join(f"{t}: {name}" for t, name in zip(result.tasks, best, strict=True)) + ".",
    )


@against_claim(
    "part-of-the-model",
    "Descent on a block or on its values does not match in-context learning either.",
    where="section 4.2, figures 15 to 22",
)
def part_of_the_model(scale: Scale) -> Evidence:
    result = _study(scale)
    parts = tuple(name for name in result.rivals if name not in _whole(result))
    context = result.last("accuracy", IN_CONTEXT)[:, _few(result)].mean(1)
    gap = (context - _last(result, "accuracy", parts)[:, :, _few(result)].mean(2)).min(0)
    return Evidence(
        measured=gap.mean(-1).min().item(),
        bound=0.05,
        comparison="at least",
        unit=f"{ACCURACY}, in context less the best part, mean of N <= {FEW} and seeds, least of "
        "the tasks",
        samples=passed(gap >= 0.05),
        note=f"By task: {_by(result.tasks, gap.mean(-1))}. Where its label words give a task away "
        "a small change that brings them up is all that is needed.",
    )


@against_claim(
    "values-miss-the-mapping",
    "Descent on the values of the last block, the part that holds the implicit model in the "
    "constructions, does not learn the contrary mapping.",
    where=OWN,
)
def values_miss_the_mapping(scale: Scale) -> Evidence:
    result = _study(scale)
    task, name = result.tasks.index("stance contrary"), "descent, deep values"
    context, values, whole = (
        result.last("accuracy", n)[task, -1] for n in (IN_CONTEXT, name, "descent, rate .03")
    )
    return Evidence(
        measured=(context - values).min().item(),
        bound=0.3,
        comparison="at least",
        unit=f"{ACCURACY}, in context less deep values, stance contrary, "
        f"N = {result.n_demonstrations[-1]}, least of the seeds",
        samples=passed(context - values >= 0.3),
        note=f"By seed {words(values)}; the whole model {words(whole)}, in context "
        f"{words(context)}.",
    )


@against_claim(
    "rate-matters-little",
    "A rate ten times as large changes little in how often descent is right after 200 epochs.",
    where=OWN,
)
def rate_matters_little(scale: Scale) -> Evidence:
    result = _study(scale)
    slow, fast = _last(result, "accuracy", WHOLE[:2]).mean(-1)
    return Evidence(
        measured=np.abs(slow - fast).max().item(),
        bound=0.1,
        unit=f"distance of {ACCURACY} at rates .003 and .03, mean of seeds, largest of tasks and N",
        samples=passed(np.abs(slow - fast) <= 0.1),
        note=f"Largest by task: {_by(result.tasks, np.abs(slow - fast).max(-1))}.",
    )


@against_claim(
    "stopping-early",
    "Stopping descent at its best epoch would not close the gap: with one demonstration no epoch "
    "of any rate on the whole model is right as often as in-context learning.",
    where=OWN,
)
def stopping_early(scale: Scale) -> Evidence:
    result = _study(scale)
    rows = [result.methods.index(name) for name in _whole(result)]
    reached = result.accuracy[:, rows][:, :, 0]
    best, last = reached.max((1, 3)), reached[..., -1].max(1)
    gap = result.last("accuracy", IN_CONTEXT)[:, 0] - best
    return Evidence(
        measured=gap.mean(-1).min().item(),
        bound=0.0,
        comparison="at least",
        unit=f"{ACCURACY}, in context less the best rate and epoch, N = 1, mean of seeds, least "
        "of the tasks",
        samples=passed(gap > 0),
        note=f"By task: {_by(result.tasks, gap.mean(-1))}; the best rate after the last epoch: "
        f"{_by(result.tasks, (gap + best - last).mean(-1))}. Rate and epoch are chosen by the test "
        "queries, in favour of descent.",
    )


# --- distributions ------------------------------------------------------------------------------


def _below_reordered(measure: str, unit: str, scale: Scale) -> Evidence:
    result = _study(scale)
    again = result.last(measure, REORDERED).mean(-1)
    over = _last(result, measure, result.rivals).mean(-1) - again
    cells = passed(over < 0)
    by_number = [passed(over[..., i] < 0) for i in range(over.shape[-1])]
    return Evidence(
        measured=over.max().item(),
        bound=0.0,
        unit=f"{unit} with in-context learning, rival less another order, mean of seeds, worst "
        "cell of task, number and rival",
        samples=cells,
        note="Cells below, by number of demonstrations: "
        + ", ".join(
            f"{n}: {good} of {total}"
            for n, (good, total) in zip(result.n_demonstrations, by_number, strict=True)
        )
        + ". One demonstration has one order.",
    )


@against_claim(
    "cosine-below-reordered",
    "By overlap cosine similarity, in-context learning is more like itself in another order of the "
    "demonstrations than like any descent, in every cell.",
    page=ORDER_PAGE,
)
def cosine_below_reordered(scale: Scale) -> Evidence:
    return _below_reordered("overlap_cosine", "overlap cosine similarity", scale)


@against_claim(
    "overlap-below-reordered",
    "By token overlap, in-context learning is more like itself in another order of the "
    "demonstrations than like any descent, in every cell.",
    page=ORDER_PAGE,
)
def overlap_below_reordered(scale: Scale) -> Evidence:
    return _below_reordered("token_overlap", "token overlap", scale)


@against_claim(
    "overlap-saturates",
    "With a vocabulary as small as ours, token overlap of ten hardly tells descent from no "
    "training at all.",
    where="not in the paper; about the measure of section 4.2",
    page=ORDER_PAGE,
)
def overlap_saturates(scale: Scale) -> Evidence:
    result = _study(scale)
    alone = result.last("token_overlap", ZERO_SHOT)
    change = np.abs(_last(result, "token_overlap", result.rivals) - alone).mean(-1)
    cosine = np.abs(
        _last(result, "overlap_cosine", result.rivals) - result.last("overlap_cosine", ZERO_SHOT)
    ).mean(-1)
    pairs = _likeness(scale)
    few = pairs.of("token overlap of few", IN_CONTEXT, ZERO_SHOT).mean(-1)
    return Evidence(
        measured=change.mean().item(),
        bound=0.05,
        unit="distance of token overlap with in-context learning, k = 10, of descent and of no "
        "training, mean of cells",
        note=f"No training shares {alone.min():.2f} to {alone.max():.2f} of its top ten with "
        f"in-context learning. Overlap cosine similarity moves by {cosine.mean():.2f}. Of the top "
        f"four, with {pairs.n_demonstrations} demonstrations, no training shares "
        f"{_by(pairs.tasks, few)}.",
    )


@against_claim(
    "descent-moves-away",
    "With one demonstration, descent leaves the model less like in-context learning than it was "
    "without training.",
    where=OWN,
    page=ORDER_PAGE,
)
def descent_moves_away(scale: Scale) -> Evidence:
    result = _study(scale)
    whole = _whole(result)
    name = whole[min(1, len(whole) - 1)]
    change = result.last("overlap_cosine", name) - result.last("overlap_cosine", ZERO_SHOT)
    return Evidence(
        measured=change[:, 0].mean().item(),
        bound=0.0,
        unit=f"overlap cosine similarity with in-context learning, {name} less no training, mean "
        "of tasks and seeds",
        samples=passed(change[:, 0] < 0),
        note=f"By task: {_by(result.tasks, change[:, 0].mean(-1))}; with all numbers of "
        "demonstrations "
        + ", ".join(
            f"{n}: {value:.2f}"
            for n, value in zip(result.n_demonstrations, change.mean((0, 2)), strict=True)
        )
        + ".",
    )


def _likeness(scale: Scale) -> AnswerLikenessResult:
    return result_of("answer_likeness", scale)


def _cells(result: AnswerLikenessResult) -> str:
    return f"N = {result.n_demonstrations}, mean of tasks and seeds"


@against_claim(
    "descents-differ",
    "Descent at another rate, or stopped at another epoch, answers as unlike descent as in-context "
    "learning does.",
    page=ORDER_PAGE,
)
def descents_differ(scale: Scale) -> Evidence:
    result = _likeness(scale)
    slow, slow_late, fast, fast_late, _, adam_late = result.methods[3:9]
    context = result.of("paper", IN_CONTEXT, fast_late)
    rates = result.of("paper", slow_late, fast_late)
    epochs = result.of("paper", fast, fast_late)
    adam = result.of("paper", adam_late, fast_late)
    itself = np.minimum(rates, epochs)
    return Evidence(
        measured=(itself - context).mean().item(),
        bound=0.0,
        unit="overlap cosine similarity of two descents less that of descent and in-context "
        f"learning, {_cells(result)}",
        samples=passed(itself.mean(0) <= context.mean(0)),
        note=f"{fast_late}, with another rate: {_by(result.tasks, rates.mean(-1))}; with half of "
        f"the epochs: {_by(result.tasks, epochs.mean(-1))}; with {adam_late}: "
        f"{_by(result.tasks, adam.mean(-1))}; with in-context learning: "
        f"{_by(result.tasks, context.mean(-1))}. Counted: seeds.",
    )


@against_claim(
    "reading-of-the-formula",
    "However the formula of overlap cosine similarity is read, in-context learning is more like "
    "itself in another order than like descent.",
    where="equation 6",
    page=ORDER_PAGE,
)
def reading_of_the_formula(scale: Scale) -> Evidence:
    result = _likeness(scale)
    again, tuned = (
        np.stack([np.stack([result.of(v, IN_CONTEXT, name) for v in VARIANTS]) for name in names])
        for names in ((REORDERED,), result.methods[4::2])
    )
    gap = (again - tuned).min(0).mean(-1)  # variants, tasks
    return Evidence(
        measured=gap.mean(-1).min().item(),
        bound=0.0,
        comparison="at least",
        unit="overlap cosine similarity with in-context learning, another order less the best "
        f"descent, {_cells(result)}, least of {len(VARIANTS)} readings",
        samples=passed(gap > 0),
        note="Descent, by reading: "
        + _by(VARIANTS, tuned.mean((0, 2, 3)))
        + "; gap, by reading: "
        + _by(VARIANTS, gap.mean(-1))
        + ". Counted: tasks and readings.",
    )


# --- the measure --------------------------------------------------------------------------------

CASES = 200


def _pairs(seed: int):
    """Pairs of distributions of random size in float64, ``(p, q, k)``."""
    g = seeded(seed)
    for _ in range(CASES):
        size = int(torch.randint(3, 30, (), generator=g))
        p, q = torch.rand(2, size, generator=g, dtype=torch.float64) ** 3 + 1e-6
        yield p / p.sum(), q / q.sum(), int(torch.randint(1, size + 1, (), generator=g))


def _measure_claim(name: str, says: str):
    return against_claim(name, says, where="equation 6", page=ORDER_PAGE, kind="identity")


@_measure_claim(
    "overlap-cosine-by-hand",
    "Overlap cosine similarity and token overlap give what two small cases give by hand.",
)
def overlap_cosine_by_hand(scale: Scale) -> Evidence:
    p = torch.tensor([0.5, 0.3, 0.1, 0.06, 0.04], dtype=torch.float64)
    near = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.05], dtype=torch.float64)
    far = torch.tensor([0.05, 0.1, 0.2, 0.35, 0.3], dtype=torch.float64)
    cosine = 0.2 / (0.34 * 0.26) ** 0.5
    full = 0.02 / (0.35 * 0.2525) ** 0.5
    by_hand = {
        "near": (near, 2 / 3, dict(paper=cosine, sqrt=cosine, plain=cosine, full=4 / 7)),
        "far": (far, 1 / 3, dict(paper=0.5, sqrt=0.5**0.5, plain=1.0, full=full)),
    }
    errors = []
    for q, shared, expected in by_hand.values():
        errors.append(abs(token_overlap(p, q, 3).item() - shared) / shared)
        for variant, value in expected.items():
            found = overlap_cosine_similarity(p, q, 3, variant).item()
            errors.append(abs(found - value) / value)
    return Evidence(measured=max(errors), bound=1e-10, unit=RELATIVE_ERROR)


@_measure_claim(
    "overlap-cosine-symmetric",
    "Overlap cosine similarity is symmetric, and 1 for a distribution and itself.",
)
def overlap_cosine_symmetric(scale: Scale) -> Evidence:
    errors = [0.0]
    for p, q, k in _pairs(71):
        for variant in VARIANTS:
            one, two = (overlap_cosine_similarity(*pair, k, variant) for pair in ((p, q), (q, p)))
            errors += [
                (one - two).abs().item(),
                (overlap_cosine_similarity(p, p, k, variant) - 1).abs().item(),
            ]
    return Evidence(
        measured=max(errors), bound=1e-10, unit="largest difference", note=f"{CASES} pairs."
    )


@_measure_claim(
    "overlap-cosine-forgives-one",
    "One token of the top ten that differs costs nothing: overlap cosine similarity treats "
    "k - |O| = 0 and 1 alike, and divides by k - |O| from 2 on.",
)
def overlap_cosine_forgives_one(scale: Scale) -> Evidence:
    errors = [0.0]
    for p, q, k in _pairs(72):
        missing = k - int((top_tokens(p, k) & top_tokens(q, k)).sum())
        plain = overlap_cosine_similarity(p, q, k, "plain")
        paper = overlap_cosine_similarity(p, q, k, "paper")
        errors.append((paper * (missing if missing > 1 else 1) - plain).abs().item())
    return Evidence(
        measured=max(errors), bound=1e-10, unit="largest difference", note=f"{CASES} pairs."
    )


@_measure_claim(
    "overlap-cosine-scale",
    "Overlap cosine similarity does not see how much probability the shared tokens have together: "
    "giving all of them more, in proportion, changes nothing.",
)
def overlap_cosine_scale(scale: Scale) -> Evidence:
    errors = [0.0]
    for p, q, k in _pairs(73):
        both = top_tokens(p, k) & top_tokens(q, k)
        more = torch.where(both, 1 + 5 * p[0], 1.0) * p  # the same tokens stay on top
        before = overlap_cosine_similarity(p, q, k)
        errors.append((overlap_cosine_similarity(more / more.sum(), q, k) - before).abs().item())
    return Evidence(
        measured=max(errors), bound=1e-10, unit="largest difference", note=f"{CASES} pairs."
    )
