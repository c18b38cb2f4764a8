"""What is claimed of the parts of a demonstration: its label, its input, their layout."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from icl_lessons.declare import Evidence, Kind, claim, passed, result_of, words
from icl_lessons.language_models.demonstration_labels import partly_correct, random_labels
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_prompts import AttributePrompts, attribute_prompts
from icl_lessons.tasks.attribute_text import NAMES

PAGE = "language_models/demonstrations"
MIN, YOO = "min2022rethinking", "yoo2022ground"
VOCABULARY = "accuracy over the vocabulary"
OPTIONS = "accuracy among the task's labels"
FEW = 0.05  # "barely": a few points of accuracy
FOLLOWED = 0.5  # of contrary answers: the demonstrated mapping is followed rather than not
CASES = 30


def labels_claim(paper: str, name: str, says: str, *, where: str, kind: Kind = "experiment"):
    """Declare a claim of the page; ``paper`` is its key in the bibliography."""
    short = paper[: next(i for i, c in enumerate(paper) if c.isdigit()) + 4]
    return claim(f"{short}-{name}", paper=paper, where=where, kind=kind, says=says, chapter=PAGE)


def study(scale: Scale) -> Any:
    """The experiment's result."""
    return result_of("demonstration_labels", scale)


def by_task(result: Any, cells: Float[np.ndarray, "seeds tasks"]) -> str:
    """Every cell, task by task, the seeds of each in turn."""
    rows = zip(result.tasks, cells.T, strict=True)
    return "; ".join(f"{task} {words(row.round(2) + 0.0)}" for task, row in rows)  # no -0.00


def acquired(result: Any) -> Bool[np.ndarray, "seeds tasks"]:
    """Where the trained model follows the contrary mapping."""
    return result.of("contrary") >= FOLLOWED


def prompts_of_any_size(case: int) -> tuple[AttributePrompts, torch.Generator]:
    """Prompts with right labels, of a random task and of random size."""
    g = seeded(2_202_000 + case)
    task, n, batch = (int(torch.randint(k, (), generator=g)) for k in (len(NAMES), 12, 20))
    return attribute_prompts(NAMES[task], n + 1, batch + 1, generator=g), g


def at_most(result: Any, cells: np.ndarray, bound: float, unit: str, note: str = "") -> Evidence:
    """Every cell is to be at most the bound; the worst one is the figure."""
    return Evidence(
        measured=float(cells.max()),
        bound=bound,
        unit=f"{unit}, worst task and seed",
        samples=passed(cells <= bound),
        note=f"{by_task(result, cells)}. {note}".strip(),
    )


def at_least(result: Any, cells: np.ndarray, bound: float, unit: str, note: str = "") -> Evidence:
    """Every cell is to be at least the bound; the worst one is the figure."""
    return Evidence(
        measured=float(cells.min()),
        bound=bound,
        comparison="at least",
        unit=f"{unit}, worst task and seed",
        samples=passed(cells >= bound),
        note=f"{by_task(result, cells)}. {note}".strip(),
    )


# --- exact counts ----------------------------------------------------------------------------


@labels_claim(
    MIN,
    "exact-share",
    "With a given share of correct labels, exactly that many labels of each prompt are right, "
    "never only on average.",
    where="the setting with some correct labels",
    kind="identity",
)
def exact_share(scale: Scale) -> Evidence:
    worst = 0
    for case in range(CASES):
        gold, g = prompts_of_any_size(case)
        count = int(torch.randint(gold.n + 1, (), generator=g))
        changed = partly_correct(gold, count / gold.n, generator=g)
        right = (changed.labels == gold.labels).sum(1)
        worst = max(worst, int((right - count).abs().max()))
    return Evidence(
        measured=worst,
        bound=0,
        unit="labels too many or too few in a prompt",
        note=f"{CASES} batches of prompts of random task, size and share.",
    )


@labels_claim(
    MIN,
    "one-in-m",
    "Of labels drawn at random, one in as many as there are labels is right by chance.",
    where="the setting with random labels",
)
def one_in_m(scale: Scale) -> Evidence:
    off, shares = [], []
    for task in NAMES:
        gold = attribute_prompts(task, 8, 2000, generator=seeded(2_202_128))
        changed = random_labels(gold, generator=seeded(2_202_129))
        chance = 1 / gold.choices.numel()
        share = (changed.labels == gold.labels).double().mean().item()
        error = (chance * (1 - chance) / gold.labels.numel()) ** 0.5
        off.append(abs(share - chance) / error)
        shares.append(share)
    return Evidence(
        measured=max(off),
        bound=3.0,
        unit="distance from one in m in standard errors, worst task",
        note=f"Shares {words(shares)} for {', '.join(NAMES)}: with two labels, half of the "
        "random labels are right.",
    )


# --- Min et al. ------------------------------------------------------------------------------


@labels_claim(
    MIN,
    "random-labels-barely-hurt",
    "Random labels in place of right ones cost at most a few points of accuracy.",
    where="abstract",
)
def random_labels_barely_hurt(scale: Scale) -> Evidence:
    result = study(scale)
    drop = result.of("gold") - result.of("random")
    return at_most(
        result,
        drop,
        FEW,
        f"{VOCABULARY} lost with {result.n_labels} random labels",
        f"On average {drop.mean():.2f}; random labels alone give "
        f"{by_task(result, result.of('random'))}.",
    )


@labels_claim(
    MIN,
    "hurt-where-mapping-is-followed",
    "Random labels hurt exactly where the model follows a demonstrated mapping against the usual "
    "one.",
    where="not in the paper; about its abstract",
)
def hurt_where_mapping_is_followed(scale: Scale) -> Evidence:
    result = study(scale)
    gold, random, contrary = (result.by_scale(name) for name in ("gold", "random", "contrary"))
    drops, followed = gold - random, contrary >= FOLLOWED
    agree = np.where(followed, drops >= 0.2, drops <= FEW)
    drop, follows, agrees = drops[..., -1], followed[..., -1], agree[..., -1]
    between = agree[..., result.early + 1 : -1]
    return Evidence(
        measured=int((~agrees).sum()),
        bound=0,
        unit="tasks and seeds that disagree",
        samples=passed(agrees),
        note=f"Followed in {int(follows.sum())} of {follows.size}: there random labels cost "
        f"{words(drop[follows])}; elsewhere {words(drop[~follows])}. The rule and its bounds were "
        "found on these figures; between the middle of the scale and its end, where mappings are "
        f"being learned, {int(between.sum())} of {between.size} agree.",
    )


@labels_claim(
    MIN,
    "early-in-training",
    "Early in pretraining, random labels are as good as right ones on every task.",
    where="not in the paper; about its abstract",
)
def early_in_training(scale: Scale) -> Evidence:
    result = study(scale)
    gold, random = (result.by_scale(name)[..., result.early] for name in ("gold", "random"))
    return at_most(
        result,
        gold - random,
        FEW,
        f"{VOCABULARY} lost with {result.n_labels} random labels, in the middle of the scale",
        f"At {result.scale[result.early]} of {', '.join(result.scale)}; right labels give "
        f"{by_task(result, gold)}.",
    )


@labels_claim(
    MIN,
    "better-than-none",
    "Demonstrations with random labels are better than none.",
    where="the setting with random labels",
)
def better_than_none(scale: Scale) -> Evidence:
    result = study(scale)
    gain = result.of("random", among_labels=True) - result.of("none", among_labels=True)
    over = result.of("random") - result.of("none")
    return at_least(
        result,
        gain,
        0.0,
        f"{OPTIONS} gained with {result.n_labels} random labels",
        f"The paper chooses among the labels; over the vocabulary {by_task(result, over)}: random "
        "labels tell which attribute is asked for.",
    )


@labels_claim(
    MIN,
    "label-space",
    "Words from outside the label set in place of labels cost accuracy.",
    where="abstract; the label space",
)
def label_space(scale: Scale) -> Evidence:
    result = study(scale)
    cost = result.of("random") - result.of("labels outside")
    among = result.of("random", among_labels=True) - result.of("labels outside", among_labels=True)
    return at_least(
        result,
        cost,
        FEW,
        f"{VOCABULARY} lost beyond random labels",
        f"Among the labels {by_task(result, among)}.",
    )


@labels_claim(
    MIN,
    "input-distribution",
    "Inputs from another text cost accuracy beyond what random labels cost.",
    where="abstract; the distribution of the inputs",
)
def input_distribution(scale: Scale) -> Evidence:
    result = study(scale)
    cost = result.of("random") - result.of("strange inputs")
    whole = result.of("gold") - result.of("strange inputs")
    return at_least(
        result,
        cost,
        FEW,
        f"{VOCABULARY} lost with fillers for inputs, beyond random labels",
        f"Beyond right labels {by_task(result, whole)}.",
    )


@labels_claim(
    MIN,
    "labels-only",
    "Without the inputs, labels alone are no better than no demonstrations.",
    where="abstract; the format",
)
def labels_only(scale: Scale) -> Evidence:
    return _no_better_than_none(scale, "labels only")


@labels_claim(
    MIN,
    "inputs-only",
    "Without the labels, inputs alone are no better than no demonstrations.",
    where="abstract; the format",
)
def inputs_only(scale: Scale) -> Evidence:
    return _no_better_than_none(scale, "inputs only")


def _no_better_than_none(scale: Scale, condition: str) -> Evidence:
    result = study(scale)
    gain = result.of(condition, among_labels=True) - result.of("none", among_labels=True)
    over = result.of(condition) - result.of("none")
    return at_most(
        result,
        gain,
        FEW,
        f"{OPTIONS} gained with {condition}",
        f"Over the vocabulary {by_task(result, over)}.",
    )


@labels_claim(
    MIN,
    "separators-are-not-needed",
    "Right labels after their inputs are enough: separators between them are not needed.",
    where="not in the paper; about the format",
)
def separators_are_not_needed(scale: Scale) -> Evidence:
    result = study(scale)
    cost = result.of("gold") - result.of("no format")
    few = result.of("gold", 1) - result.of("no format", 1)
    return at_most(
        result,
        cost,
        FEW,
        f"{VOCABULARY} lost without separators",
        f"With one demonstration {by_task(result, few)}.",
    )


# --- Yoo et al. ------------------------------------------------------------------------------


@labels_claim(
    YOO,
    "sensitivity-varies",
    "How steeply accuracy rises with the share of correct labels differs widely between tasks and "
    "models.",
    where="definition of label-correctness sensitivity",
)
def sensitivity_varies(scale: Scale) -> Evidence:
    result = study(scale)
    slope = result.sensitivity
    return Evidence(
        measured=float(slope.max() - slope.min()),
        bound=0.5,
        comparison="at least",
        unit="accuracy for all labels from wrong to right, largest less smallest slope",
        note=f"{by_task(result, slope)}. Mean {slope.mean():.2f}, which no task shows.",
    )


@labels_claim(
    YOO,
    "labels-matter",
    "A large part of what demonstrations bring is due to their labels being right, on some tasks.",
    where="definition of the ground-truth label effect ratio",
)
def labels_matter(scale: Scale) -> Evidence:
    result = study(scale)
    ratio = result.effect_ratio
    return Evidence(
        measured=float(np.nanmax(ratio)),
        bound=0.5,
        comparison="at least",
        unit="ground-truth label effect ratio, largest of tasks and seeds",
        note=f"{by_task(result, ratio)}. Above 1, random labels are worse than no demonstrations; "
        "0 where they are as good as right ones.",
    )
