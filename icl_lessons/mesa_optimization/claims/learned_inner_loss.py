"""What is claimed of inner losses that training chose, each claim with a check."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.mesa_optimization.experiments.learned_inner_loss import (
    VERDICTS,
    LearnedInnerLossResult,
)
from icl_lessons.runtime import Scale

PAGE = "mesa_optimization/inner_objective"
SEED = {"paper": "anonymous2024regression", "chapter": PAGE, "kind": "experiment"}
WHERE = "base and mesa objective; the models are the course's"
EXPLAINED = "share of |dW|^2 explained on contexts held out, worst seed"


def _result(scale: Scale) -> LearnedInnerLossResult:
    return result_of("learned_inner_loss", scale)


def _said(result: LearnedInnerLossResult, model: str) -> str:
    """The verdicts in words, seed by seed."""
    rows = [", ".join(row).replace("_", " ") for row in result.readings[model].names()]
    return "; ".join(rows)


@claim(
    "survey-normal-noise-learns-squares",
    where=WHERE,
    says="A free value map trained under normal label noise becomes the residual: a line.",
    **SEED,
)
def normal_noise_learns_squares(scale: Scale) -> Evidence:
    result = _result(scale)
    line = result.maps["gaussian"].linear
    return Evidence(
        measured=float(line.min()),
        bound=0.95,
        comparison="at least",
        unit="share of the values explained by a line, worst seed",
        samples=passed(line >= 0.95),
        note=f"The detector calls the layers, seed by seed: {_said(result, 'gaussian')}. The "
        f"squared loss explains {words(result.readings['gaussian'].score('squared')[:, 0])} of "
        "the first layer's step.",
    )


@claim(
    "survey-outliers-learn-a-robust-loss",
    where=WHERE,
    says="Trained with outliers among the labels, the same map stops following large residuals, "
    "and the detector calls the first layer's loss Huber's.",
    **SEED,
)
def outliers_learn_a_robust_loss(scale: Scale) -> Evidence:
    result = _result(scale)
    reading = result.readings["outliers"]
    huber = reading.score("huber")[:, 0]
    return Evidence(
        measured=float(huber.min()),
        bound=0.9,
        comparison="at least",
        unit=EXPLAINED,
        samples=passed(reading.verdict[:, 0] == VERDICTS.index("huber")),
        note=f"With threshold {words(reading.delta[:, 0])} at label noise of 0.3; the squared loss "
        f"explains {words(reading.score('squared')[:, 0])}. Layer by layer: "
        f"{_said(result, 'outliers')}.",
    )


@claim(
    "survey-learned-map-falls-back",
    where=WHERE,
    says="What is learned with outliers is Huber's clip.",
    **SEED,
)
def learned_map_falls_back(scale: Scale) -> Evidence:
    own = _result(scale).maps["outliers"]
    return Evidence(
        measured=float(own.turn.min()),
        bound=0.9,
        comparison="at least",
        unit="|v| at residuals of 5 over its largest value, worst seed (a clip has 1)",
        samples=passed(own.turn >= 0.9),
        note=f"Seeds: {words(own.turn)}. The map falls back, as the score of the noise does: its "
        f"loss is not convex. A clip explains {words(own.clip)} of the values met, the score of "
        f"the noise alone {words(own.score)}.",
    )


@claim(
    "survey-learned-loss-beats-huber",
    where=WHERE,
    says="With outliers the learned loss predicts better than as many tuned steps on Huber's or "
    "the squared loss.",
    **SEED,
)
def learned_loss_beats_huber(scale: Scale) -> Evidence:
    own = _result(scale).maps["outliers"]
    ratio = own.loss / own.huber_loss
    return Evidence(
        measured=float(ratio.max()),
        bound=1.0,
        unit="loss over that of tuned Huber steps, worst seed",
        samples=passed(ratio < 1),
        note=f"1/2 E squared error at clean targets: learned {words(own.loss)}, Huber "
        f"{own.huber_loss:.3f}, squared {own.squared_loss:.3f}.",
    )


@claim(
    "survey-training-removes-curl",
    where="the objective-existence test of the course",
    says="Training makes a free value map of two outputs the gradient of some loss: its curl, "
    "large at the start, all but vanishes.",
    **SEED,
)
def training_removes_curl(scale: Scale) -> Evidence:
    maps = _result(scale).maps
    ratios = np.array([maps[n].curl / maps[n].untrained_curl for n in ("outliers_2d", "cosine")])
    return Evidence(
        measured=float(ratios.max()),
        bound=0.25,
        unit="median curl over that before training, worst of two settings and seeds",
        samples=passed(ratios <= 0.25),
        note=f"Curl with outliers {words(maps['outliers_2d'].curl)}, with the cosine "
        f"{words(maps['cosine'].curl)}; before training "
        f"{words(maps['outliers_2d'].untrained_curl)}. Nothing in training asks for it.",
    )


@claim(
    "survey-cosine-base-squared-mesa",
    where=WHERE,
    says="A model whose base objective is the cosine descends the cosine inside.",
    **SEED,
)
def cosine_base(scale: Scale) -> Evidence:
    result = _result(scale)
    reading = result.readings["cosine"]
    cosine = reading.verdict == VERDICTS.index("cosine")
    squared = reading.score("squared")[:, 0]
    return Evidence(
        measured=float(cosine.mean()),
        bound=0.5,
        comparison="at least",
        unit="share of layers whose loss is called the cosine",
        note=f"Seed by seed: {_said(result, 'cosine')}. The squared loss explains {words(squared)} "
        "of the first step: base and mesa objective differ, and the mesa objective is the usual "
        "one.",
    )


@claim(
    "survey-trained-linear-attention-is-a-step",
    where="gradient-descent traces",
    says="The detector finds the step on the squared loss in a trained layer of linear attention.",
    **SEED,
)
def trained_linear_attention(scale: Scale) -> Evidence:
    reading = _result(scale).readings["linear_attention"]
    squared = reading.score("squared")[:, 0]
    return Evidence(
        measured=float(squared.min()),
        bound=0.95,
        comparison="at least",
        unit=EXPLAINED,
        samples=passed(reading.verdict[:, 0] == VERDICTS.index("squared")),
        note=f"Step size {words(reading.step_size[:, 0])}; no construction was put in.",
    )


@claim(
    "survey-softmax-layers-are-steps",
    where="probing mesa-objectives: each layer of a model is tested for a gradient step",
    says="In a trained softmax Transformer, read out after each block, each block is a gradient "
    "step on some loss.",
    **SEED,
)
def softmax_layers(scale: Scale) -> Evidence:
    reading = _result(scale).readings["softmax"]
    blocks, whole = slice(0, 2), 2
    yes = reading.verdict[:, blocks] != VERDICTS.index("no")
    squared = reading.score("squared")
    return Evidence(
        measured=float(yes.mean()),
        bound=0.9,
        comparison="at least",
        unit="share of blocks with a 'yes'",
        note=f"The step of the second block is linear in the query to "
        f"{words(reading.linearity[:, 1])} on held-out queries. The whole model is linear in it to "
        f"{words(reading.linearity[:, whole])}, but one squared step explains "
        f"{words(squared[:, whole])}: it learns in context, by something else than one step. The "
        "read-out after the first block is the model's own, which was not trained for it.",
    )


@claim(
    "survey-untrained-transformer-has-no-objective",
    where="probing mesa-objectives; a control",
    says="The detector finds no objective in an untrained Transformer.",
    **SEED,
)
def untrained_transformer(scale: Scale) -> Evidence:
    reading = _result(scale).readings["untrained_softmax"]
    yes = reading.verdict != VERDICTS.index("no")
    return Evidence(
        measured=float(yes.mean()),
        bound=0.0,
        unit="share of blocks and models with a 'yes'",
        samples=passed(~yes.any(1)),
    )
