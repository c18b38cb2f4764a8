"""What is claimed of finding the objective that a layer descends, each claim with a check."""

import numpy as np
import torch

from icl_lessons.declare import Evidence, claim, error_size, passed, result_of
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.detector_cases import near_miss
from icl_lessons.mesa_optimization.experiments.objective_detector import (
    ObjectiveDetectorResult,
    Verdicts,
)
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
    huber_loss,
)
from icl_lessons.mesa_optimization.objective_detector import demixed_values, detect_objective
from icl_lessons.runtime import Scale, seeded
from icl_lessons.types import Batch

PAGE = "mesa_optimization/inner_objective"
SEED = {"paper": "anonymous2024regression", "chapter": PAGE}
CASES, CONTROLS = "share of constructed cases", "share of controls"


def _result(scale: Scale) -> ObjectiveDetectorResult:
    return result_of("objective_detector", scale)


def _by_seed(run: Verdicts, measure: str, bound: float, *, most: bool) -> tuple[int, int]:
    """How many seeds meet a bound by themselves."""
    figures = []
    for seed in np.unique(run.seed):
        own = run.seed == seed
        part = Verdicts(
            kind=run.kind[own],
            seed=run.seed[own],
            verdict=run.verdict[own],
            confidence=run.confidence[own],
        )
        figures.append(getattr(part, measure))
    return passed(np.array(figures) <= bound if most else np.array(figures) >= bound)


@claim(
    "survey-demixed-values",
    where="gradient-descent traces; the de-mixing is the course's",
    kind="identity",
    says="With no more examples than coordinates, the Gram matrix gives back each example's value "
    "from the change of the predictions.",
    **SEED,
)
def demixing(scale: Scale) -> Evidence:
    generator, worst = seeded(51), 0.0
    for d, n, m in ((3, 1, 2), (5, 3, 1), (6, 4, 3), (8, 4, 2)):
        xs, ys, p = (
            torch.randn(6, n, k, generator=generator, dtype=torch.float64) for k in (d, m, m)
        )
        layer = ObjectiveLayer(INNER_LOSSES["absolute"].value, 0.7)
        after, _ = layer(xs, ys, p, xs, p)
        worst = max(worst, relative_error(demixed_values(xs, after - p), 0.7 * (ys - p).sign()))
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR)


@claim(
    "survey-detector-names-the-loss",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="From two learners alone the detector names the loss of a layer, out of seven.",
    **SEED,
)
def names_the_loss(scale: Scale) -> Evidence:
    run = _result(scale).exact
    return Evidence(
        measured=run.accuracy,
        bound=0.99,
        partial_bound=0.9,
        comparison="at least",
        unit=CASES,
        samples=_by_seed(run, "accuracy", 0.99, most=False),
        note=f"{run.constructed.sum()} layers of random sizes from random starts, up to 4 d "
        "examples, more than can be de-mixed one context at a time; without noise.",
    )


@claim(
    "survey-detector-false-negatives",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="Of layers that do descend a loss of the family, none or few come out as 'no'.",
    **SEED,
)
def false_negatives(scale: Scale) -> Evidence:
    run = _result(scale).exact
    return Evidence(
        measured=run.false_negatives,
        bound=0.01,
        unit=CASES,
        samples=_by_seed(run, "false_negatives", 0.01, most=True),
        note=f"{run.constructed.sum()} constructed layers, without noise.",
    )


@claim(
    "survey-detector-false-positives",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="Random and untrained layers, turned values, shuffled labels, constants and shrinkage "
    "come out as 'no'.",
    **SEED,
)
def false_positives(scale: Scale) -> Evidence:
    run = _result(scale).exact
    return Evidence(
        measured=run.false_positives,
        bound=0.01,
        unit=CONTROLS,
        samples=_by_seed(run, "false_positives", 0.01, most=True),
        note=f"{(~run.constructed).sum()} controls of eight kinds, without noise.",
    )


@claim(
    "survey-detector-false-positives-with-noise",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="Noise on the predictions, or few contexts, do not make the detector see objectives where "
    "there are none.",
    **SEED,
)
def false_positives_with_noise(scale: Scale) -> Evidence:
    result = _result(scale)
    runs = (*result.by_noise.values(), *result.by_contexts.values())
    rates = [run.false_positives for run in runs]
    return Evidence(
        measured=max(rates),
        bound=0.02,
        unit=CONTROLS,
        samples=passed(np.array(rates) <= 0.02),
        note=f"Noise of {', '.join(f'{level:g}' for level in result.by_noise)} times the change; "
        f"{', '.join(map(str, result.by_contexts))} contexts with noise of 0.1.",
    )


@claim(
    "survey-detector-with-noise",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="The loss is still named when the predictions carry noise of half their change.",
    **SEED,
)
def with_noise(scale: Scale) -> Evidence:
    runs = _result(scale).by_noise
    half = runs[0.5]
    return Evidence(
        measured=half.accuracy,
        bound=0.9,
        comparison="at least",
        unit=CASES,
        samples=_by_seed(half, "accuracy", 0.9, most=False),
        note="By level of noise: "
        + ", ".join(f"{level:g}: {run.accuracy:.2f}" for level, run in runs.items())
        + ". What is lost comes out as 'no': noise cannot be told from a change that is not "
        "linear in the query, or not explained.",
    )


@claim(
    "survey-detector-few-contexts",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="Eight contexts are enough to name the loss, with noise of a tenth of the change.",
    **SEED,
)
def few_contexts(scale: Scale) -> Evidence:
    runs = _result(scale).by_contexts
    return Evidence(
        measured=runs[8].accuracy,
        bound=0.9,
        comparison="at least",
        unit=CASES,
        note="By number of contexts: "
        + ", ".join(f"{count}: {run.accuracy:.3f}" for count, run in runs.items())
        + ".",
    )


@claim(
    "survey-detector-confidence",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="The detector's confidence is the share of its verdicts that are right.",
    **SEED,
)
def confidence(scale: Scale) -> Evidence:
    result = _result(scale)
    rows = result.reliability()
    return Evidence(
        measured=result.calibration_error,
        bound=0.05,
        partial_bound=0.15,
        unit="mean gap between confidence and share right",
        note="Confidence and share right by range, noisy cases included: "
        + ", ".join(f"{sure:.2f}: {right:.2f} of {count:.0f}" for sure, right, count in rows)
        + ". Resampling contexts cannot see an error that noise makes in all of them.",
    )


@claim(
    "survey-detector-reads-the-step",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="With the loss come its step size, Huber's threshold, ridge's lambda and the weight of "
    "each example.",
    **SEED,
)
def reads_the_step(scale: Scale) -> Evidence:
    result = _result(scale)
    errors = [result.step_error, result.weights_error, *result.parameter_error.values()]
    return Evidence(
        measured=max(errors),
        bound=1e-2,
        unit="largest relative error, without noise",
        samples=passed(np.array(errors) <= 1e-2),
        note=f"Step size {error_size(result.step_error)}, "
        f"weights {error_size(result.weights_error)}, "
        + ", ".join(f"{name} {error_size(error)}" for name, error in result.parameter_error.items())
        + "; the threshold is found on a grid refined three times.",
    )


@claim(
    "survey-raw-change-misleads",
    where="probing mesa-objectives; the comparison is of the course",
    kind="experiment",
    says="Comparing the raw change of the predictions with each loss's values names the right loss "
    "in only three quarters of the cases.",
    **SEED,
)
def raw_change_misleads(scale: Scale) -> Evidence:
    rules = _result(scale).rules
    return Evidence(
        measured=rules["raw"],
        bound=0.85,
        unit="share of contexts named rightly, five losses, Huber's threshold known",
        note=f"With no more examples than coordinates {rules['raw_few']:.2f}; there the de-mixed "
        f"values name {rules['demixed']:.2f}, not all: with two or three numbers in a context "
        "Huber's values can be parallel to another loss's.",
    )


@claim(
    "survey-cosine-above-0.9",
    where="probing mesa-objectives: cosine of observed and expected update above 0.9",
    kind="experiment",
    says="A cosine above 0.9 between the observed update and the one expected shows which "
    "objective a layer descends.",
    **SEED,
)
def cosine_above(scale: Scale) -> Evidence:
    result = _result(scale)
    return Evidence(
        measured=result.several_pass,
        bound=0.05,
        unit="share of layers in which two or more losses pass",
        note=f"The largest cosine is right in {result.rules['update']:.2f} of single contexts, but "
        "0.9 is passed by several losses at once. From one context it is passed in "
        f"{result.update_false_positives_once:.3f} of controls, from the mean over a case's "
        f"contexts in {result.update_false_positives:.3f}.",
    )


@claim(
    "survey-ties-go-to-the-simpler-loss",
    where="which losses one layer can tell apart; the course's",
    kind="experiment",
    says="Huber's loss with every residual inside its threshold is reported as the squared loss, "
    "with every residual outside as the absolute one, and as a tie.",
    **SEED,
)
def ties(scale: Scale) -> Evidence:
    generator = seeded(52)
    xs, ys = (torch.randn(24, 8, k, generator=generator, dtype=torch.float64) for k in (3, 2))
    start = torch.randn(24, 2, 3, generator=generator, dtype=torch.float64)
    ys = ys.sign() * 20 + ys  # residuals far from 0
    batch = Batch(xs, ys, xs[:, :1], ys[:, :1])
    right = []
    for delta, expected in ((1000.0, "squared"), (1.0, "absolute")):
        stack = ObjectiveStack((ObjectiveLayer(huber_loss(delta).value, 0.4),), start)
        seen = detect_objective(stack.after(0), stack, batch)
        right.append(seen.loss == expected and "huber" in seen.ties)
    return Evidence(
        measured=float(np.mean(right)),
        bound=1.0,
        comparison="at least",
        unit="share of ties resolved and reported",
        samples=passed(right),
    )


def _called_a_step(kind: str, count: int) -> float:
    said = []
    for index in range(count):
        case = near_miss(kind, seeded(5300 + index))
        said.append(detect_objective(case.before, case.after, case.batch).is_gradient_step)
    return float(np.mean(said))


@claim(
    "survey-solver-is-not-a-step",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="A layer that jumps to the minimum of the squared loss is not taken for a gradient step.",
    **SEED,
)
def solver_is_not_a_step(scale: Scale) -> Evidence:
    return Evidence(
        measured=_called_a_step("least_squares", 40),
        bound=0.05,
        unit="share of layers called a gradient step",
        note="40 layers. It has the same objective as a step: 'no gradient step' is not 'no "
        "objective'.",
    )


@claim(
    "survey-two-steps-are-not-one",
    where="probing mesa-objectives; the detector is the course's",
    kind="experiment",
    says="A layer that takes two steps on the squared loss at once is not taken for one.",
    **SEED,
)
def two_steps_are_not_one(scale: Scale) -> Evidence:
    return Evidence(
        measured=_called_a_step("two_steps", 40),
        bound=0.05,
        unit="share of layers called a gradient step",
        note="40 layers. With inputs of equal variance two steps are nearly parallel to one, the "
        "more so the longer the context; the detector names the squared loss or ridge.",
    )
