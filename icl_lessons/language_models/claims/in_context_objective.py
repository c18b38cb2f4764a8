"""What is claimed of models trained on prompts, beside a language model of the same architecture.

Hypothesis 2 speaks of the first, Hypothesis 1 of the second [shen2024pretrained, section 2]. The
claims measure how far what holds of one holds of the other.
"""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.runtime import Scale

WHERE = "section 2, equation 2"
OWN = "not in the paper; about equation 2"
RIVAL, COURSE = "prompts alone", "CourseLM"


def objective_claim(name: str, says: str, *, where: str = WHERE, kind: str = "experiment"):
    """Declare a claim about the in-context learning objective."""
    return claim(
        f"shen2024-objective-{name}",
        paper="shen2024pretrained",
        where=where,
        kind=kind,
        says=says,
        chapter="language_models/gradient_descent",
    )


def _found(scale: Scale):
    return result_of("in_context_objective", scale)


@objective_claim(
    "solves-the-family",
    "Trained on prompts, a transformer answers prompts of every task of its training, with "
    "canonical labels and with contrary ones.",
)
def solves_the_family(scale: Scale) -> Evidence:
    result = _found(scale)
    rival, course = (result.of(name)[..., -1] for name in (RIVAL, COURSE))  # [tasks, seeds]
    worst = rival.min(0)
    n = result.accuracy.shape[-1] - 1
    return Evidence(
        measured=worst.min().item(),
        bound=0.9,
        partial_bound=0.8,
        comparison="at least",
        unit=f"accuracy with {n} demonstrations on the worst of eight tasks, least of the seeds",
        samples=passed(worst >= 0.9),
        note=f"By seed {words(worst)}. CourseLM, which was shown no prompt, has "
        f"{words(course.min(0))} on its worst, and 0.9 or more on "
        f"{', '.join(str(int(v)) for v in (course >= 0.9).sum(0))} of the eight.",
    )


@objective_claim(
    "expects-its-format",
    "The model of prompts fails on the same prompts with other separators; the language model does "
    "not.",
)
def expects_its_format(scale: Scale) -> Evidence:
    result = _found(scale)
    lost = {
        name: (result.of(name, "its own") - result.of(name, "others"))[..., -1].mean(0)
        for name in (RIVAL, COURSE)
    }
    others = result.of(RIVAL, "others")[:4, :, -1]
    return Evidence(
        measured=lost[RIVAL].min().item(),
        bound=0.3,
        comparison="at least",
        unit="accuracy lost by other separators, mean of eight tasks, least of the seeds",
        samples=passed((lost[RIVAL] >= 0.3) & (np.abs(lost[COURSE]) <= 0.05)),
        note=f"By seed {words(lost[RIVAL])}, CourseLM {words(lost[COURSE])}, which saw none of "
        "these pairs. Left with right labels, topic, stance, mood and kind: "
        + "; ".join(words(row) for row in others)
        + ".",
    )


@objective_claim(
    "no-language-model",
    "The model of prompts is no model of the language: on text it is worse than a uniform guess.",
)
def no_language_model(scale: Scale) -> Evidence:
    result = _found(scale)
    rival, course = result.loss
    return Evidence(
        measured=rival.min().item(),
        bound=result.uniform,
        comparison="at least",
        unit="nats for each token of held-out documents, least of the seeds; the bound is a "
        "uniform guess",
        samples=passed((rival >= result.uniform) & (course < result.uniform / 2)),
        note=f"By seed {words(rival)}; uniform {result.uniform:.2f}; CourseLM {words(course)}. "
        "Both have the same words, shape and optimiser.",
    )


@objective_claim(
    "no-new-labels",
    "Trained on prompts, it still does not use label words that are new to it, so that it has not "
    "learned to learn any mapping.",
    where=OWN,
)
def no_new_labels(scale: Scale) -> Evidence:
    result = _found(scale)
    rival, course = result.code[..., -1].max(1)  # the best attribute of each seed
    return Evidence(
        measured=rival.max().item(),
        bound=0.1,
        unit="accuracy with code words as labels, best attribute, largest of the seeds",
        samples=passed(rival <= 0.1),
        note=f"By seed {words(rival)}, CourseLM {words(course)}. Its family of tasks is the four "
        "attributes with their two mappings, and it is tested on that.",
    )


@objective_claim(
    "order",
    "The model of prompts hardly minds the order of its demonstrations, and the language model "
    "does: a test by order depends on which of the two is asked.",
    where=OWN,
)
def order(scale: Scale) -> Evidence:
    result = _found(scale)
    rival, course = result.sensitivity.mean(1)
    ratio = course / rival
    return Evidence(
        measured=ratio.min().item(),
        bound=5.0,
        comparison="at least",
        unit="order sensitivity of CourseLM over that of the model of prompts, mean of four "
        "attributes, least of the seeds",
        samples=passed(ratio >= 5.0),
        note=f"Right labels. CourseLM by seed {', '.join(f'{v:.4f}' for v in course)}; model of "
        f"prompts {', '.join(f'{v:.4f}' for v in rival)}. In a text that never changes its subject "
        "the order tells nothing.",
    )


@objective_claim(
    "hypothesis-two-is-not-one",
    "What a model trained on prompts does with contrary labels, a language model of the same "
    "architecture does too.",
    where="section 2, hypothesis 2 taken for hypothesis 1",
    kind="dispute",
)
def two_is_not_one(scale: Scale) -> Evidence:
    result = _found(scale)
    contrary = slice(4, None)
    gap = np.abs(result.of(RIVAL) - result.of(COURSE))[contrary, :, -1]
    worst = gap.max(0)
    return Evidence(
        measured=worst.max().item(),
        bound=0.1,
        unit="largest gap of accuracy between the two on contrary labels, of four attributes",
        samples=passed(worst <= 0.1),
        note=f"By seed {words(worst)}. Topic, stance, mood and kind, CourseLM: "
        + "; ".join(words(row) for row in result.of(COURSE)[contrary, :, -1])
        + "; model of prompts: "
        + "; ".join(words(row) for row in result.of(RIVAL)[contrary, :, -1])
        + ".",
    )
