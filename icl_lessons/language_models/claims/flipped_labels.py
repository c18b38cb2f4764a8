"""What is claimed of recognising a task and learning a mapping, and of flipped labels."""

import numpy as np
import torch

from icl_lessons.declare import Evidence, passed, words
from icl_lessons.language_models.claims.demonstration_labels import (
    CASES,
    FEW,
    OPTIONS,
    VOCABULARY,
    acquired,
    at_least,
    at_most,
    by_task,
    labels_claim,
    prompts_of_any_size,
    study,
)
from icl_lessons.language_models.demonstration_labels import (
    answers_to,
    flipped,
    label_numbers,
)
from icl_lessons.language_models.mode_reader import known_modes
from icl_lessons.language_models.subjects import COURSE, subject
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.tasks.attribute_text import ATTRIBUTES, NAMES, AttributeText

PAN, WEI = "pan2023what", "wei2023larger"
LEARNED = 0.1  # accuracy gained, from which something was learned
SHARED = {"stance": "cb", "kind": "rte"}  # label words of two tasks, and their real counterparts


def _task(result, name: str) -> int:
    return result.tasks.index(name if name in result.tasks else SHARED[name])


# --- identities ------------------------------------------------------------------------------


@labels_claim(
    PAN,
    "symbols-rename",
    "Symbols for labels are a renaming, one to one in each prompt: renamed back, the prompts are "
    "what they were.",
    where="the setting of abstract labels",
    kind="identity",
)
def symbols_rename(scale: Scale) -> Evidence:
    wrong = 0
    for case in range(CASES):
        gold, g = prompts_of_any_size(case)
        renamed = gold.with_symbols(generator=g)
        back = gold.choices[label_numbers(renamed)]
        wrong += int((back != gold.labels).sum())
        wrong += sum(len(set(row)) < len(row) for row in renamed.choices.tolist())
    return Evidence(
        measured=wrong,
        bound=0,
        unit="labels that are not what they were",
        note=f"{CASES} batches of prompts of random task and size.",
    )


@labels_claim(
    WEI,
    "exact-flips",
    "A share of flipped labels is exact in each prompt, and every flipped label is the next one.",
    where="the setting of flipped labels",
    kind="identity",
)
def exact_flips(scale: Scale) -> Evidence:
    worst = 0
    for case in range(CASES):
        gold, g = prompts_of_any_size(case)
        count = int(torch.randint(gold.n + 1, (), generator=g))
        turned = flipped(gold, count / gold.n, generator=g)
        by = (label_numbers(turned) - label_numbers(gold)) % len(gold.choices)
        worst = max(worst, int((by.sum(1) - count).abs().max()), int(by.max()) - 1)
    return Evidence(
        measured=worst,
        bound=0,
        unit="flips too many or too few in a prompt",
        note=f"{CASES} batches of prompts of random task, size and share.",
    )


@labels_claim(
    WEI,
    "no-flips-is-gold",
    "With no labels flipped, prompts and answers are those of right labels, to the last bit.",
    where="the setting of flipped labels",
    kind="identity",
)
def no_flips_is_gold(scale: Scale) -> Evidence:
    worst, model = 0.0, subject(COURSE, 0).model
    for case in range(6):
        gold, g = prompts_of_any_size(case)
        same = flipped(gold, 0, generator=g)
        gap = (answers_to(model, same) - answers_to(model, gold)).abs().max().item()
        worst = max(worst, gap, float((same.tokens != gold.tokens).sum()))
    return Evidence(
        measured=worst, bound=0, unit="largest difference of a probability, or differing tokens"
    )


@labels_claim(
    WEI,
    "odds-of-flips",
    "A Bayesian reader weighs flipped against kept labels: each shifts the odds of the two "
    "mappings by the same factor, so that with equal priors it switches just above half.",
    where="not in the paper; about flipped labels",
    kind="identity",
)
def odds_of_flips(scale: Scale) -> Evidence:
    """On text whose mode never changes: log odds are those of the prior plus (k - (n - k)) log L.

    L is ``(1 - noise (m - 1) / m) / (noise / m)``: a label under the mapping that says it, over
    one that only noise explains.
    """
    worst = 0.0
    for case in range(CASES):
        g = seeded(2_303_384 + case)
        task, n = (int(torch.randint(k, (), generator=g)) for k in (len(NAMES), 9))
        noise, canonical = (torch.rand(2, generator=g, dtype=torch.float64) * 0.6 + 0.05).tolist()
        text = AttributeText(
            hazard=0.0, noise=noise, plain=0.0, canonical=canonical, contrary=0.9 - canonical,
            incoherent=0.1,
        )  # fmt: skip
        gold = attribute_prompts(NAMES[task], n + 1, 8, generator=g)
        k = int(torch.randint(n + 2, (), generator=g))
        known = known_modes(flipped(gold, k / (n + 1), generator=g), text)[:, -1]
        odds = (known[:, task + len(NAMES)] / known[:, task]).log()
        m = ATTRIBUTES[task].values
        factor = np.log((1 - noise * (m - 1) / m) / (noise / m))
        expected = np.log((0.9 - canonical) / canonical) + (2 * k - n - 1) * factor
        worst = max(worst, relative_error(odds, torch.full_like(odds, expected)))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note=f"{CASES} texts of random noise and prior, up to 9 demonstrations.",
    )


# --- Pan et al. ------------------------------------------------------------------------------


@labels_claim(
    PAN,
    "recognition-without-more-demonstrations",
    "Recognising a task does not improve with more demonstrations.",
    where="abstract",
)
def recognition_without_more_demonstrations(scale: Scale) -> Evidence:
    result = study(scale)
    few, many = result.n_demonstrations[1], result.n_demonstrations[-1]
    gain = result.of("random", many) - result.of("random", few)
    return at_most(
        result, gain, FEW, f"{VOCABULARY} gained with random labels, from {few} to {many}"
    )


@labels_claim(
    PAN,
    "recognition-without-scale",
    "Recognising a task does not improve with scale.",
    where="abstract",
)
def recognition_without_scale(scale: Scale) -> Evidence:
    result = study(scale)
    random = result.by_scale("random")
    return at_most(
        result,
        random[..., -1] - random[..., result.early],
        FEW,
        f"{VOCABULARY} gained with random labels, from the middle of the scale to its end",
        f"From {result.scale[result.early]} to {result.scale[-1]}; means over the scale "
        f"{words(random.mean((0, 1)))}.",
    )


@labels_claim(
    PAN,
    "learning-with-scale",
    "Learning a mapping emerges with scale, where recognising the task is there already.",
    where="abstract",
)
def learning_with_scale(scale: Scale) -> Evidence:
    result = study(scale)
    contrary = result.by_scale("contrary")
    return at_least(
        result,
        contrary[..., -1] - contrary[..., result.early],
        0.3,
        f"{VOCABULARY} gained with contrary labels, from the middle of the scale to its end",
        f"Followed at the end on {int(acquired(result).sum())} of {acquired(result).size}; means "
        f"over the scale {words(contrary.mean((0, 1)))}.",
    )


@labels_claim(
    PAN,
    "learning-with-demonstrations",
    "Learning a mapping improves with more demonstrations.",
    where="abstract",
)
def learning_with_demonstrations(scale: Scale) -> Evidence:
    result = study(scale)
    few, many = result.n_demonstrations[1], result.n_demonstrations[-1]
    gain = (result.of("contrary", many) - result.of("contrary", few))[:, _task(result, "stance")]
    others = result.of("contrary", many) - result.of("contrary", few)
    return Evidence(
        measured=float(gain.min()),
        bound=LEARNED,
        comparison="at least",
        unit=f"{VOCABULARY} gained with contrary labels on stance, from {few} to {many}, worst "
        "seed",
        samples=passed(gain >= LEARNED),
        note=f"All: {by_task(result, others)}. Topic and mood name their task with one label.",
    )


@labels_claim(
    PAN,
    "symbols-are-learned",
    "Demonstrations teach a mapping to symbols, better the more there are.",
    where="abstract; the setting of abstract labels",
)
def symbols_are_learned(scale: Scale) -> Evidence:
    result = study(scale)
    few, many = result.n_demonstrations[1], result.n_demonstrations[-1]
    gain = result.of("abstract", many, True) - result.of("abstract", few, True)
    return at_least(
        result,
        gain,
        LEARNED,
        f"{OPTIONS} gained with symbols, from {few} to {many}",
        f"With {result.n_labels}: {by_task(result, result.of('abstract', among_labels=True))}; "
        f"over the vocabulary {result.of('abstract').max():.2f} at most. No text it read uses "
        "new words for labels.",
    )


@labels_claim(
    PAN,
    "novel-mapping-gets-worse",
    "A mapping that no text ever used is followed the less the more demonstrations show it.",
    where="not in the paper; about its abstract",
)
def novel_mapping_gets_worse(scale: Scale) -> Evidence:
    result = study(scale)
    few, many = result.n_demonstrations[1], result.n_demonstrations[-1]
    task = _task(result, "stance")
    at = result.accuracy[:, task, result.conditions.index("novel")]
    exact = result.filter[:, task, 3]
    change = at[:, -1] - at[:, 1]
    return Evidence(
        measured=float(change.max()),
        bound=-0.1,
        unit=f"{VOCABULARY} gained on stance, from {few} to {many}, worst seed",
        samples=passed(change <= -0.1),
        note=f"Means for {', '.join(map(str, result.n_demonstrations))}: {words(at.mean(0))}; "
        f"the exact filter {words(exact.mean(0))}: for it, too, the labels are noise.",
    )


# --- Wei et al. ------------------------------------------------------------------------------


@labels_claim(
    WEI,
    "large-follow-flips",
    "With all labels flipped, the trained model follows: its answers are right less often than by "
    "chance.",
    where="abstract",
)
def large_follow_flips(scale: Scale) -> Evidence:
    result = study(scale)
    true, by_flips = (result.turned[:, :, -1, at, 0] for at in (-1, slice(None)))
    return at_most(
        result,
        true,
        0.25,
        f"{VOCABULARY} with all labels flipped",
        f"Chance is a quarter to a half. Mean by flips: {words(by_flips.mean((0, 1)))}.",
    )


@labels_claim(
    WEI,
    "small-keep-priors",
    "Early in pretraining, the model keeps to what the labels mean, however many are flipped.",
    where="abstract",
)
def small_keep_priors(scale: Scale) -> Evidence:
    result = study(scale)
    true = result.turned[:, :, result.early, :, 0]
    return at_most(
        result,
        true[..., 0] - true[..., -1],
        FEW,
        f"{VOCABULARY} lost from no label flipped to all, in the middle of the scale",
        f"With all flipped {by_task(result, true[..., -1])}; next labels are answered "
        f"{by_task(result, result.turned[:, :, result.early, -1, 1])}.",
    )


@labels_claim(
    WEI,
    "switch-beside-the-filter",
    "Where the model follows flipped labels, it switches at the share at which the exact filter "
    "of the text does.",
    where="not in the paper; about flipped labels",
)
def switch_beside_the_filter(scale: Scale) -> Evidence:
    result = study(scale)
    place = result.n_demonstrations.index(result.n_labels) - 1
    model, exact = result.switch[:, :, place].transpose(2, 0, 1)
    apart = np.abs(model - exact)[~np.isnan(model)]
    every = [words(result.switch[:, :, place, 0].T[t]) for t in range(len(result.tasks))]
    return Evidence(
        measured=float(apart.max()),
        bound=1 / result.n_labels,
        unit="share of flipped labels between the two switches, worst task and seed that switches",
        samples=passed(apart <= 1 / result.n_labels),
        note="Model: "
        + "; ".join(f"{t} {w}" for t, w in zip(result.tasks, every, strict=True))
        + f" (nan: never). Filter: {by_task(result, exact)}.",
    )


@labels_claim(
    WEI,
    "next-label-is-answered",
    "What is answered in place of the true label is the label that the flips demonstrate.",
    where="the setting of flipped labels",
)
def next_label_is_answered(scale: Scale) -> Evidence:
    result = study(scale)
    follows = acquired(result)
    other = 1 - result.turned[:, :, -1, -1].sum(-1)
    return Evidence(
        measured=float(other[follows].max()),
        bound=FEW,
        unit="share of answers that are neither, all labels flipped, worst task and seed that "
        "follows",
        samples=passed(other[follows] <= FEW),
        note=f"{int(follows.sum())} of {follows.size} follow.",
    )
