"""What Zhao et al. say of leans and calibration, each claim with a check."""

import numpy as np
import torch

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.language_models.calibration import calibrated, content_free_law
from icl_lessons.runtime import Scale, seeded

PAGE = "language_models/demonstrations"
GAIN = "accuracy among the label words, gained by calibration, mean of all tasks and numbers"


def _claim(name: str, where: str, says: str, *, kind: str = "experiment"):
    return claim(
        f"zhao2021-{name}", paper="zhao2021calibrate", where=where, kind=kind, says=says,
        chapter=PAGE,
    )  # fmt: skip


def _laws(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Label laws of several queries and a lean, of a random number of labels, in float64."""
    g = seeded(2_102_000 + seed)
    m = int(torch.randint(2, 9, (1,), generator=g))
    law, lean = (torch.rand(size, generator=g, dtype=torch.float64) + 0.01 for size in ((7, m), m))
    return law / law.sum(-1, keepdim=True), lean


@_claim(
    "a-lean-is-taken-out",
    "contextual calibration",
    "If answers lean by the same factors whatever is asked, and the input without content is "
    "neutral, calibration gives the unleaning answers back.",
    kind="identity",
)
def a_lean_is_taken_out(scale: Scale) -> Evidence:
    worst = 0.0
    for seed in range(20):
        law, lean = _laws(seed)
        leaning = law * lean
        leaning = leaning / leaning.sum(-1, keepdim=True)
        worst = max(worst, (calibrated(leaning, lean / lean.sum()) - law).abs().max().item())
    return Evidence(measured=worst, bound=1e-12, unit="largest difference of a probability")


@_claim(
    "no-content-becomes-even",
    "contextual calibration",
    "After calibration the input without content is answered evenly.",
    kind="identity",
)
def no_content_becomes_even(scale: Scale) -> Evidence:
    worst = 0.0
    for seed in range(20):
        law, _ = _laws(seed)
        free = content_free_law(law, torch.arange(law.shape[-1]))
        even = calibrated(free, free)
        worst = max(worst, (even - 1 / len(free)).abs().max().item())
    return Evidence(measured=worst, bound=1e-12, unit="largest difference of a probability")


def _gain(scale: Scale, method: str, biased: int) -> np.ndarray:
    """Accuracy gained by a method, ``[tasks, numbers, seeds]``."""
    result = result_of("calibration", scale)
    change = result.accuracy[biased] - result.accuracy[biased, 0]
    return change[result.methods.index(method)].mean(-1)


@_claim(
    "calibration-helps",
    "abstract",
    "Calibration on an input without content raises accuracy.",
)
def calibration_helps(scale: Scale) -> Evidence:
    gain = _gain(scale, "no content", 0)
    return Evidence(
        measured=gain.mean().item(),
        bound=0.01,
        comparison="at least",
        unit=GAIN,
        samples=passed(gain.mean((0, 1)) >= 0.01),
        note=f"By task {words(gain.mean((1, 2)))}. The paper reports gains of up to 30 points. "
        "Here there is no lean to take out, and fillers are not neutral.",
    )


@_claim(
    "no-content-is-neutral",
    "contextual calibration",
    "The answers to an input without content show what the prompt leans to, and nothing else.",
)
def no_content_is_neutral(scale: Scale) -> Evidence:
    result = result_of("calibration", scale)
    short = -result.least_content_free.mean((1, 2, 3))
    return Evidence(
        measured=short.max().item(),
        bound=0.05,
        unit="least probability of a label without content, below its even share, worst task",
        samples=passed(short <= 0.05),
        note=f"By task {words(short)}, although answers to sentences lean to no label.",
    )


@_claim(
    "majority-label",
    "abstract, on what causes the instability",
    "Answers lean to the label that most demonstrations have.",
)
def majority_label(scale: Scale) -> Evidence:
    lean = result_of("calibration", scale).majority[:, 1:].mean((1, 3))
    return Evidence(
        measured=lean.mean().item(),
        bound=0.05,
        comparison="at least",
        unit="probability of the most frequent label above its share of the queries, mean",
        samples=passed(lean.mean(0) >= 0.05),
        note=f"With several demonstrations; by task {words(lean.mean(1))}.",
    )


@_claim(
    "recency",
    "abstract, on what causes the instability",
    "Answers lean to the label of the last demonstration.",
)
def recency(scale: Scale) -> Evidence:
    lean = np.nanmean(result_of("calibration", scale).recency[:, 1:], axis=(1, 3))
    return Evidence(
        measured=lean.mean().item(),
        bound=0.05,
        comparison="at least",
        unit="probability of the last label above its share, less that of the first, mean",
        samples=passed(lean.mean(0) >= 0.05),
        note=f"Where first and last differ; by task {words(lean.mean(1))}.",
    )


@_claim(
    "known-lean",
    "contextual calibration; the lean put in here",
    "Where a lean is put in by hand, calibration on an input without content raises accuracy.",
)
def known_lean(scale: Scale) -> Evidence:
    result = result_of("calibration", scale)
    gain = _gain(scale, "no content", 1)
    right = result.accuracy[1].mean((1, 2, 3, 4))
    return Evidence(
        measured=gain.mean().item(),
        bound=0.1,
        comparison="at least",
        unit=GAIN,
        samples=passed(gain.mean((0, 1)) >= 0.1),
        note=f"Accuracy {right[0]:.2f} with the lean, {right[1]:.2f} calibrated; without the lean "
        f"{result.accuracy[0, 0].mean():.2f}.",
    )


@_claim(
    "unlabelled-inputs",
    "not in the paper; the mean answer to a batch",
    "The mean answer to unlabelled inputs is a better reference than an input without content: "
    "it takes the lean out whole and costs nothing where there is none.",
)
def unlabelled_inputs(scale: Scale) -> Evidence:
    accuracy = result_of("calibration", scale).accuracy.mean((2, 3, 5))
    lost = accuracy[0, 0] - accuracy[:, 2].min(0)
    return Evidence(
        measured=lost.max().item(),
        bound=0.02,
        unit="accuracy below that of the answers without a lean, worst seed",
        samples=passed(lost <= 0.02),
        note="With the lean and without it; the queries themselves are the unlabelled inputs.",
    )
