"""What is claimed of the cosine as a proxy, each claim with a check."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, error_size, passed, result_of, words
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.cosine_proxy import (
    UnitVectors,
    agreement_at,
    inner_learner,
    random_rotations,
    value_agreement,
)
from icl_lessons.mesa_optimization.experiments.cosine_proxy import CosineProxyResult
from icl_lessons.runtime import Scale, seeded
from icl_lessons.types import Batch

PAGE = "mesa_optimization/surgery"
SURVEY, WHERE = "anonymous2024regression", "cosine similarity trickery, there as pseudocode"
ERROR = "E |y_hat - y|^2, no half"


def _result(scale: Scale) -> CosineProxyResult:
    return result_of("cosine_proxy", scale)


def _cases(
    count: int, *, seed: int
) -> Iterator[tuple[UnitVectors, Batch, Tensor, torch.Generator]]:
    """Tasks of random sizes with contexts and starts, in float64."""
    g = seeded(seed)
    for _ in range(count):
        d, n = (int(torch.randint(2, k, (), generator=g)) for k in (7, 15))
        length = 0.2 + 4 * torch.rand((), generator=g).item()
        task = UnitVectors(d=d, target_scale=length, n_query=2)
        batch = task.sample(3, n, generator=g, dtype=torch.float64)
        yield task, batch, random_rotations(3, d, generator=g, dtype=torch.float64), g


@claim(
    "survey-cosine-agreement",
    paper=SURVEY,
    where=WHERE,
    kind="identity",
    says="From a prediction of length 1, the cosine's gradient and the squared loss's have the "
    "cosine s sin(theta) / sqrt(1 + s^2 - 2 s cos(theta)); for s = 1 it is cos(theta / 2).",
    chapter=PAGE,
)
def agreement(scale: Scale) -> Evidence:
    worst = 0.0
    for task, batch, start, _ in _cases(30, seed=521):
        p = batch.xs @ start.mT
        cosine = (p * batch.ys).sum(-1) / task.target_scale
        angle = cosine.clamp(-1, 1).acos()
        found = value_agreement(p, batch.ys)
        worst = max(worst, relative_error(found, agreement_at(angle, task.target_scale)))
        unit = value_agreement(p, batch.ys / task.target_scale)
        worst = max(worst, relative_error(unit, (angle / 2).cos()))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="At a right angle targets of length 3 agree better (0.95) than those of length 1 "
        "(0.71): the proxy parts from the truth where predictions are nearly aligned.",
    )


@claim(
    "survey-cosine-blind-to-length",
    paper=SURVEY,
    where=WHERE,
    kind="identity",
    says="A stack that descends the cosine predicts the same whatever the length of its targets.",
    chapter=PAGE,
)
def blind_to_length(scale: Scale) -> Evidence:
    worst = 0.0
    for _, batch, start, g in _cases(30, seed=522):
        factor = 0.1 + 5 * torch.rand((), generator=g, dtype=torch.float64)
        learner = inner_learner("cosine", 0.3, 6, start)
        expected = learner(*batch.context)
        longer = learner(batch.xs, factor * batch.ys, batch.x_query)
        worst = max(worst, relative_error(longer, expected))
    return Evidence(
        measured=worst, bound=1e-12, unit=RELATIVE_ERROR, note="30 random sizes, 6 layers."
    )


@claim(
    "survey-cosine-length-grows",
    paper=SURVEY,
    where=WHERE,
    kind="identity",
    says="Each step on the cosine is orthogonal to the weights, so |W|^2 grows by |dW|^2: start "
    "and steps decide how long the answers are.",
    chapter=PAGE,
)
def length_grows(scale: Scale) -> Evidence:
    worst = 0.0
    for task, batch, start, _ in _cases(30, seed=523):
        learner = inner_learner("cosine", 0.5, 4, start)
        probes = torch.eye(task.d, dtype=torch.float64).expand(3, -1, -1)
        path = [
            learner.after(k)(batch.xs, batch.ys, probes) for k in range(5)
        ]  # rows: columns of W
        for before, after in zip(path, path[1:], strict=False):
            step = after - before
            grown = before.square().sum((1, 2)) + step.square().sum((1, 2))
            worst = max(
                worst,
                (before * step).sum((1, 2)).abs().max().item(),
                relative_error(after.square().sum((1, 2)), grown),
            )
    return Evidence(
        measured=worst, bound=1e-12, unit=RELATIVE_ERROR, note="30 random sizes, 4 layers each."
    )


@claim(
    "survey-cosine-good-proxy",
    paper=SURVEY,
    where=WHERE + "; figures of the course's toy",
    kind="experiment",
    says="On targets of length 1, nearly aligned, the proxy asks for the same update.",
    chapter=PAGE,
)
def good_proxy(scale: Scale) -> Evidence:
    result = _result(scale)
    agree = result.agreement[:, result.at(1.0)]
    return Evidence(
        measured=agree.min().item(),
        bound=0.99,
        comparison="at least",
        unit="mean cosine between the two value fields, lowest seed",
        samples=passed(agree >= 0.99),
        note="Predictions of length 1, turned by 0.1 radian. A first run had 0.998.",
    )


@claim(
    "survey-cosine-bad-proxy",
    paper=SURVEY,
    where=WHERE + "; figures of the course's toy",
    kind="experiment",
    says="With the targets three times as long, the same predictions are sent elsewhere.",
    chapter=PAGE,
)
def bad_proxy(scale: Scale) -> Evidence:
    result = _result(scale)
    agree = result.agreement[:, result.at(3.0)]
    return Evidence(
        measured=agree.max().item(),
        bound=0.2,
        unit="mean cosine between the two value fields, highest seed",
        samples=passed(agree <= 0.2),
        note="Turned by 0.1 radian again; from a right angle they would agree better than at "
        "length 1. A first run had 0.14.",
    )


@claim(
    "survey-cosine-perfect-and-wrong",
    paper=SURVEY,
    where=WHERE + "; figures of the course's toy",
    kind="experiment",
    says="Run to convergence on targets of length 3, the cosine learner has a perfect proxy score "
    "and wrong answers.",
    chapter=PAGE,
)
def perfect_and_wrong(scale: Scale) -> Evidence:
    result = _result(scale)
    k = result.at(3.0)
    cosine, error = result.final_cosine[1, ..., k], result.final_error[1, ..., k]
    return Evidence(
        measured=error.min().item(),
        bound=1.0,
        comparison="at least",
        unit=ERROR + ", smallest over starts and seeds; 9 for predicting 0",
        samples=passed((cosine >= 0.999) & (error >= 1)),
        note=f"Cosine {cosine.min():.4f} or more; from a near start {words(error[0])}, from an "
        f"unrelated rotation {words(error[1])}. (3 - 1)^2 = 4 if the length stays at 1; a first "
        "run with another start and step had 3.16. The squared learner: "
        f"{error_size(result.final_error[0, ..., k].max())}.",
    )


@claim(
    "survey-cosine-right-at-length-one",
    paper=SURVEY,
    where=WHERE + "; figures of the course's toy",
    kind="experiment",
    says="On targets of length 1 the cosine learner's answers are nearly right.",
    chapter=PAGE,
)
def right_at_length_one(scale: Scale) -> Evidence:
    result = _result(scale)
    error = result.final_error[1, ..., result.at(1.0)]
    return Evidence(
        measured=error.max().item(),
        bound=0.2,
        unit=ERROR + ", largest over starts and seeds; 1 for predicting 0",
        samples=passed(error <= 0.2),
        note="It starts with predictions of length 1, which is all that makes it right; a first "
        "run with another start and step had 0.19.",
    )


@claim(
    "survey-cosine-detected",
    paper=SURVEY,
    where="probing mesa-objectives",
    kind="experiment",
    says="Reading the layer tells the proxy from the true loss, even where they all but agree.",
    chapter=PAGE,
)
def detected(scale: Scale) -> Evidence:
    result = _result(scale)
    return Evidence(
        measured=result.detected.mean().item(),
        bound=1.0,
        comparison="at least",
        unit="share of layers named 'cosine' by the detector, over seeds and lengths",
        samples=passed(result.detected),
        note=f"At length 1 the squared loss would explain "
        f"{words(result.squared_score[:, result.at(1.0)])} of the step, at 3 "
        f"{words(result.squared_score[:, result.at(3.0)])}.",
    )


@claim(
    "survey-cosine-proxy-by-training",
    paper=SURVEY,
    where=WHERE,
    kind="experiment",
    says="A learner trained on the cosine of its answers descends the cosine inside.",
    chapter=PAGE,
)
def proxy_by_training(scale: Scale) -> Evidence:
    result = _result(scale)
    k = result.at(1.0)
    proxy, true = result.trained_as_cosine[1, :, k], result.trained_squared[1, :, k]
    named = [name == "cosine" for name in result.trained_detected[1]]
    return Evidence(
        measured=(proxy - true).min().item(),
        bound=0.0,
        comparison="at least",
        unit="likeness of the learned values to the cosine's minus to the squared loss's, lowest "
        "seed",
        samples=passed((proxy >= true) & np.array(named)),
        note=f"Likeness (cosine) {words(proxy)} to the proxy's values, {words(true)} to the "
        f"squared loss's; the detector names {', '.join(result.trained_detected[1])}. The base "
        "objective is not copied inwards.",
    )


@claim(
    "survey-cosine-training-loses-length",
    paper=SURVEY,
    where=WHERE,
    kind="experiment",
    says="What training on the cosine gets wrong is the length of the answers.",
    chapter=PAGE,
)
def training_loses_length(scale: Scale) -> Evidence:
    result = _result(scale)
    k = result.at(1.0)
    wrong, mended = result.trained_error[1, :, k], result.length_error[1, :, k]
    right = result.trained_error[0, :, k]
    return Evidence(
        measured=(wrong / right).min().item(),
        bound=3.0,
        comparison="at least",
        unit="error over that of learners trained on squares, lowest seed",
        samples=passed((wrong >= 3 * right) & (mended <= 1.1 * right)),
        note=f"{ERROR}, targets of length 1: {words(wrong)}; with every answer multiplied by one "
        f"number, {words(result.length[1, :, k])}, it is {words(mended)}; trained on squares "
        f"{words(right)}.",
    )
