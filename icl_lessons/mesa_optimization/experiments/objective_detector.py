"""How often the detector is right: constructions whose objective is known, and controls."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.mesa_optimization.cosine_rules import (
    COSINE_FAMILY,
    COSINE_THRESHOLD,
    cosine_scores,
)
from icl_lessons.mesa_optimization.detector_cases import (
    CONTROLS,
    LOSSES,
    Case,
    Noisy,
    constructed_case,
    control_case,
)
from icl_lessons.mesa_optimization.figures import objective_detector as figures
from icl_lessons.mesa_optimization.objective_detector import detect_objective
from icl_lessons.runtime import (
    Scale,
    check_integer,
    check_number,
    one_thread,
    seeded,
    trusted_inputs,
)

KINDS = (*LOSSES, *CONTROLS)
VERDICTS = (*LOSSES, "no")
NO = len(LOSSES)


@dataclass(frozen=True, kw_only=True)
class ObjectiveDetectorConfig:
    """Settings of :func:`objective_detector`; the defaults are the lesson's.

    Attributes:
        seeds: independent draws of all cases.
        per_loss, per_control: cases for each seed and kind.
        contexts: in a case.
        noise_levels: standard deviations of the noise on the predictions after the layer, over the
            root mean square of their change.
        context_counts: fewer contexts, at ``noise_of_counts``.
        sweep_share: of the cases of each kind, for noise and counts: the first ``1 / sweep_share``.
        device: where to compute.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    per_loss: int = 10
    per_control: int = 9
    contexts: int = 32
    noise_levels: tuple[float, ...] = (0.2, 0.5, 1.0)
    context_counts: tuple[int, ...] = (8, 16)
    noise_of_counts: float = 0.1
    sweep_share: int = 4
    device: str = "cpu"

    def __post_init__(self):
        for name in ("per_loss", "per_control", "sweep_share"):
            check_integer(name, getattr(self, name), at_least=1)
        for count in (self.contexts, *self.context_counts):
            check_integer("contexts", count, at_least=8)
        for level in (*self.noise_levels, self.noise_of_counts):
            check_number("noise_levels", level)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What was said of some cases.

    Attributes:
        kind: index in :data:`KINDS` of each case.
        seed: of each.
        verdict: index in :data:`VERDICTS`.
        confidence: that the detector gave.
    """

    kind: Int[np.ndarray, " cases"]
    seed: Int[np.ndarray, " cases"]
    verdict: Int[np.ndarray, " cases"]
    confidence: Float[np.ndarray, " cases"]

    @property
    def constructed(self) -> Bool[np.ndarray, " cases"]:
        """True for cases with an objective, false for controls."""
        return self.kind < NO

    @property
    def right(self) -> Bool[np.ndarray, " cases"]:
        """The loss named, or 'no' to a control."""
        return self.verdict == np.minimum(self.kind, NO)

    @property
    def accuracy(self) -> float:
        """Share of constructed cases whose loss is named."""
        return float(self.right[self.constructed].mean())

    @property
    def false_negatives(self) -> float:
        """Share of constructed cases that come out as 'no'."""
        return float((self.verdict[self.constructed] == NO).mean())

    @property
    def false_positives(self) -> float:
        """Share of controls in which some loss is named."""
        return float((self.verdict[~self.constructed] != NO).mean())

    @property
    def table(self) -> Int[np.ndarray, "kinds verdicts"]:
        """How often each kind (row) got each verdict (column)."""
        table = np.zeros((len(KINDS), len(VERDICTS)), dtype=np.int64)
        np.add.at(table, (self.kind, self.verdict), 1)
        return table


@dataclass(frozen=True, kw_only=True)
class ObjectiveDetectorResult:
    """What the detector, and three simpler rules, said.

    Attributes:
        exact: of all cases, without noise.
        by_noise: of a share of them, by level of noise.
        by_contexts: the same share, by number of contexts.
        step_error: largest relative error of the step size over constructed cases named rightly,
            without noise.
        parameter_error: the same of Huber's threshold and ridge's ``lambda``, by name.
        weights_error: largest error of an example weight, where the case has them.
        rules: for the five losses that the cosine rules know and for controls, their share of
            right answers: ``raw``, ``demixed``, ``update`` from one context, ``raw_few`` where
            there are no more examples than coordinates; ``raw_pooled`` and ``update_pooled`` from
            the mean cosine over all contexts of a case.
        several_pass: share of those constructed cases in which the pooled cosine of two or more
            losses with ``dW`` is above 0.9.
        update_false_positives: share of controls in which the pooled cosine of some loss is;
            ``_once``: from one context.
    """

    exact: Verdicts
    by_noise: dict[float, Verdicts]
    by_contexts: dict[int, Verdicts]
    step_error: float
    parameter_error: dict[str, float]
    weights_error: float
    rules: dict[str, float]
    several_pass: float
    update_false_positives: float
    update_false_positives_once: float

    def everything(self) -> tuple[Float[np.ndarray, " all"], Bool[np.ndarray, " all"]]:
        """Confidence and rightness of every verdict, noise and fewer contexts included."""
        runs = (self.exact, *self.by_noise.values(), *self.by_contexts.values())
        return (
            np.concatenate([run.confidence for run in runs]),
            np.concatenate([run.right for run in runs]),
        )

    def reliability(self, edges=(0.0, 0.7, 0.9, 0.99, 1.001)) -> Float[np.ndarray, "bins 3"]:
        """For each range of confidence: mean confidence, share of right verdicts, how many."""
        confidence, right = self.everything()
        place = np.digitize(confidence, edges) - 1
        rows = [
            (confidence[place == i].mean(), right[place == i].mean(), (place == i).sum())
            for i in range(len(edges) - 1)
            if (place == i).any()
        ]
        return np.array(rows, dtype=float).reshape(-1, 3)

    @property
    def calibration_error(self) -> float:
        """Mean gap between confidence and share of right verdicts, over the ranges, by size."""
        rows = self.reliability()
        return float(np.average(np.abs(rows[:, 0] - rows[:, 1]), weights=rows[:, 2]))

    def summary(self) -> str:
        """The result in a few lines."""
        runs = {"no noise": self.exact}
        runs |= {f"noise {level:g}": run for level, run in self.by_noise.items()}
        runs |= {f"{count} contexts": run for count, run in self.by_contexts.items()}
        lines = [
            f"{name:<12} right {run.accuracy:.3f} of {run.constructed.sum():<5}"
            f"missed {run.false_negatives:.3f}   false alarms {run.false_positives:.3f} of "
            f"{(~run.constructed).sum()}"
            for name, run in runs.items()
        ]
        rules = "   ".join(f"{name} {share:.3f}" for name, share in self.rules.items())
        lines += [
            f"cosine rules: {rules}",
            f"update rule: several losses pass {self.several_pass:.3f}, false alarms "
            f"{self.update_false_positives:.3f} (one context "
            f"{self.update_false_positives_once:.3f})",
            f"step size off by {self.step_error:.1e}, weights by {self.weights_error:.1e}, "
            + ", ".join(f"{name} by {error:.1e}" for name, error in self.parameter_error.items()),
            f"confidence off by {self.calibration_error:.3f}",
        ]
        return "\n".join(lines)


def _case(seed: int, kind: int, index: int, contexts: int) -> Case:
    generator = seeded(1_000_000 * (seed + 1) + 1000 * kind + index)
    make = constructed_case if kind < NO else control_case
    return make(KINDS[kind], generator, contexts)


def noisy(case: Case, level: float, seed: int) -> "Noisy":
    """The case's second learner with noise of ``level`` times the size of its change."""
    change = case.after(*case.batch.context) - case.before(*case.batch.context)
    return Noisy(case.after, level * change.square().mean().sqrt().item(), seed)


def _judge(keys, contexts: int, noise: float = 0.0):
    """Verdicts on the cases named by ``keys``; and the cases with what was found of them."""
    found = []
    for seed, kind, index in keys:
        case = _case(seed, kind, index, contexts)
        after = noisy(case, noise, index) if noise else case.after
        found.append((case, detect_objective(case.before, after, case.batch)))
    verdicts = [
        VERDICTS.index(detection.loss) if detection.is_gradient_step else NO
        for _, detection in found
    ]
    seed, kind, _ = np.array(keys).T
    confidence = np.array([detection.confidence for _, detection in found])
    return Verdicts(kind=kind, seed=seed, verdict=np.array(verdicts), confidence=confidence), found


def _parameter_errors(found) -> tuple[float, dict[str, float], float]:
    named = [(case, seen) for case, seen in found if seen.loss == case.truth is not None]
    step = max(abs(seen.step_size / case.step_size - 1) for case, seen in named)
    parameters: dict[str, float] = {}
    for case, seen in named:
        for name, value in case.parameters.items():
            error = abs(seen.parameters[name] / value - 1)
            parameters[name] = max(parameters.get(name, 0.0), error)
    weights = [
        (seen.example_weights - case.example_weights).abs().max().item()
        for case, seen in named
        if case.example_weights is not None and seen.example_weights is not None
    ]
    return step, parameters, max(weights, default=float("nan"))


def _rules(found) -> tuple[dict[str, float], float, float, float]:
    right: dict[str, list[float]] = {}
    several, alarms, alarms_once = [], [], []
    for case, _ in found:
        if case.truth is not None and case.truth not in COSINE_FAMILY:
            continue
        start = case.before(case.batch.xs, case.batch.ys, case.batch.xs)
        delta = case.parameters.get("delta", (case.batch.ys - start).abs().median().item())
        scores = cosine_scores(case.before, case.after, case.batch, delta)
        scores = {name: score.nan_to_num(-1.0) for name, score in scores.items()}
        update = scores["update"].mean(0)
        if case.truth is None:
            alarms.append(bool((update > COSINE_THRESHOLD).any()))
            alarms_once.append(_share((scores["update"] > COSINE_THRESHOLD).any(1)))
            continue
        several.append(int((update > COSINE_THRESHOLD).sum()) > 1)
        truth = COSINE_FAMILY.index(case.truth)
        for name, score in scores.items():
            right.setdefault(name, []).append(_share(score.argmax(1) == truth))
            if name == "raw" and "demixed" in scores:
                right.setdefault("raw_few", []).append(right["raw"][-1])
            if name != "demixed":
                pooled = float(score.mean(0).argmax() == truth)
                right.setdefault(f"{name}_pooled", []).append(pooled)
    rules = {name: float(np.mean(values)) for name, values in right.items()}
    return rules, *(float(np.mean(values)) for values in (several, alarms, alarms_once))


def _share(mask: Tensor) -> float:
    return mask.double().mean().item()


@experiment(
    "objective_detector",
    paper="hubinger2019risks",
    chapter="mesa_optimization/inner_objective",
    configs={
        Scale.LESSON: ObjectiveDetectorConfig(),
        Scale.PAPER: ObjectiveDetectorConfig(
            per_loss=60, per_control=50, context_counts=(8, 16, 64)
        ),
    },
    figure=figures.objective_detector,
)
def objective_detector(config: ObjectiveDetectorConfig) -> ObjectiveDetectorResult:
    """Ask the detector about layers whose objective is known and about layers that have none."""
    every = [
        (seed, kind, index)
        for seed in config.seeds
        for kind in range(len(KINDS))
        for index in range(config.per_loss if kind < NO else config.per_control)
    ]
    some = [
        (seed, kind, index)
        for seed, kind, index in every
        if index < -(-(config.per_loss if kind < NO else config.per_control) // config.sweep_share)
    ]
    with one_thread(), torch.no_grad(), trusted_inputs():
        exact, found = _judge(every, config.contexts)
        step, parameters, weights = _parameter_errors(found)
        rules, several, alarms, alarms_once = _rules(found)
        return ObjectiveDetectorResult(
            exact=exact,
            by_noise={
                level: _judge(some, config.contexts, level)[0] for level in config.noise_levels
            },
            by_contexts={
                count: _judge(some, count, config.noise_of_counts)[0]
                for count in config.context_counts
            },
            step_error=step,
            parameter_error=parameters,
            weights_error=weights,
            rules=rules,
            several_pass=several,
            update_false_positives=alarms,
            update_false_positives_once=alarms_once,
        )
