"""Train layers to choose their own inner loss, then read it; the same for other trained models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.mesa_optimization.detector_cases import AfterBlocks
from icl_lessons.mesa_optimization.experiments.learned_inner_loss_models import (
    SETTINGS,
    LearnedInnerLossTraining,
    held_out,
    learned_inner_loss_weights,
    measured_loss,
    trained_models,
)
from icl_lessons.mesa_optimization.figures import learned_inner_loss as figures
from icl_lessons.mesa_optimization.inner_losses import (
    ObjectiveLayer,
    ObjectiveStack,
    ValueMap,
    curl,
    huber_loss,
    recovered_loss,
    squared_loss,
)
from icl_lessons.mesa_optimization.learned_inner_loss import (
    LearnedObjective,
    clip_fit,
    likelihood_score,
)
from icl_lessons.mesa_optimization.objective_detector import FAMILY, detect_objective
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import Scale, check_integer, one_thread, seeded
from icl_lessons.types import Batch, Learner

VERDICTS = (*FAMILY, "no")
DETECTOR_SEED = 1_000_081
MODELS = ("linear_attention", "softmax", "untrained_softmax")
START_POINTS = (-1.0, 0.0, 1.0)
RESIDUALS = np.linspace(-6, 6, 61)


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LearnedInnerLossConfig:
    """Settings of :func:`learned_inner_loss`; the defaults are the lesson's.

    Attributes:
        training: how the models are trained.
        seeds: one model each; overrides those of ``training``.
        contexts: that the detector sees.
        n_test: contexts for losses.
        device: where to compute.
    """

    training: LearnedInnerLossTraining = LearnedInnerLossTraining()
    seeds: tuple[int, ...] = (0, 1, 2)
    contexts: int = 64
    n_test: int = 2000
    device: str = "cpu"

    def __post_init__(self):
        check_integer("contexts", self.contexts, at_least=8)
        check_integer("n_test", self.n_test, at_least=1)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the detector says of each step of a model (column), for each seed (row).

    Attributes:
        verdict: index in :data:`VERDICTS`.
        scores: of each loss of the family, NaN where it has no step of the right sign.
        step_size, delta, confidence, linearity: see
            :class:`~icl_lessons.mesa_optimization.objective_detector.Detection`; NaN where none.
    """

    verdict: Int[np.ndarray, "seeds steps"]
    scores: Float[np.ndarray, "seeds steps losses"]
    step_size: Float[np.ndarray, "seeds steps"]
    delta: Float[np.ndarray, "seeds steps"]
    confidence: Float[np.ndarray, "seeds steps"]
    linearity: Float[np.ndarray, "seeds steps"]

    def score(self, loss: str) -> Float[np.ndarray, "seeds steps"]:
        """Of one loss."""
        return self.scores[..., FAMILY.index(loss)]

    def names(self) -> list[list[str]]:
        """The verdicts in words, seed by seed."""
        return [[VERDICTS[index] for index in row] for row in self.verdict]


@dataclass(frozen=True, kw_only=True)
class LearnedMap:
    """A trained value map, one row for each seed. Losses are those of the setting's training.

    Attributes:
        loss: of the model.
        squared_loss, huber_loss: of as many steps on either loss, one tuned step size (and
            threshold) for all.
        curves: ``v(p, p + r)`` at the residuals of :data:`RESIDUALS`, for ``p`` of
            :data:`START_POINTS`; one output only.
        recovered: the loss recovered at those residuals, along straight lines from ``p = y`` to
            ``p = - y``: no prediction is farther out than half the residual.
        linear, clip, score: shares of the values at the residuals met that a straight line, a clip
            and the score of the label noise explain.
        turn: ratio of ``|v|`` at residuals of 5 to its largest up to there.
        curl: median over the tokens met; 0 for one output.
        untrained_curl: the same at the start.
    """

    loss: Float[np.ndarray, " seeds"]
    squared_loss: float
    huber_loss: float
    curves: Float[np.ndarray, "seeds starts residuals"]
    recovered: Float[np.ndarray, "seeds residuals"]
    linear: Float[np.ndarray, " seeds"]
    clip: Float[np.ndarray, " seeds"]
    score: Float[np.ndarray, " seeds"]
    turn: Float[np.ndarray, " seeds"]
    curl: Float[np.ndarray, " seeds"]
    untrained_curl: Float[np.ndarray, " seeds"]


@dataclass(frozen=True, kw_only=True)
class LearnedInnerLossResult:
    """Every setting's value map and what the detector says of every model.

    Attributes:
        maps: by setting.
        readings: by setting, and of ``linear_attention`` (one step), ``softmax`` and
            ``untrained_softmax`` (first block, second block, the whole model).
        residual_grid: the residuals of the curves.
        likelihood: the score of the label noise with outliers there.
    """

    maps: dict[str, LearnedMap]
    readings: dict[str, Reading]
    residual_grid: Float[np.ndarray, " residuals"]
    likelihood: Float[np.ndarray, " residuals"]

    def summary(self) -> str:
        """The result in a few lines."""
        lines = []
        for name, own in self.maps.items():
            lines.append(
                f"{name:<12} loss {_row(own.loss)} (squared {own.squared_loss:.4f}, Huber "
                f"{own.huber_loss:.4f})   line {_row(own.linear)}   clip {_row(own.clip)}   "
                f"score {_row(own.score)}   turn {_row(own.turn)}   curl {_row(own.curl)} "
                f"(untrained {_row(own.untrained_curl)})"
            )
        for name, reading in self.readings.items():
            for seed, names in enumerate(reading.names()):
                best = _row(np.nanmax(reading.scores[seed], 1))
                lines.append(
                    f"{name:<18} {', '.join(names):<30} best score {best}   "
                    f"linear {_row(reading.linearity[seed])}   "
                    f"sure {_row(reading.confidence[seed])}"
                )
        return "\n".join(lines)


def _row(values) -> str:
    return " ".join(f"{value:.3g}" for value in values)


@torch.no_grad()
def read_steps(steps_of: Sequence[Sequence[tuple[Learner | None, Learner]]], batch) -> Reading:
    """The detector on the same steps of several models (rows)."""
    seen = [[detect_objective(b, a, batch) for b, a in steps] for steps in steps_of]
    rows = [[VERDICTS.index(s.loss if s.is_gradient_step else "no") for s in row] for row in seen]

    def table(read) -> np.ndarray:
        return np.array([[read(s) for s in row] for row in seen], dtype=float)

    return Reading(
        verdict=np.array(rows),
        scores=table(lambda s: [s.scores.get(name, np.nan) for name in FAMILY]),
        step_size=table(lambda s: s.step_size),
        delta=table(lambda s: s.parameters.get("delta", np.nan)),
        confidence=table(lambda s: s.confidence),
        linearity=table(lambda s: s.linearity),
    )


def _steps_of_stack(stack: ObjectiveStack) -> list[tuple[Learner | None, Learner]]:
    return [(stack.after(k) if k else None, stack.after(k + 1)) for k in range(len(stack.layers))]


def _steps_of_blocks(model: Transformer) -> list[tuple[Learner | None, Learner]]:
    blocks = [AfterBlocks(model, k + 1) for k in range(len(model.blocks))]
    steps = list(zip([None, *blocks[:-1]], blocks, strict=True))
    return steps if len(steps) == 1 else [*steps, (None, model)]


def _best_descent(value: ValueMap, layers: int, batch: Batch, setting: str) -> float:
    sizes = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0)
    stacks = (ObjectiveStack((ObjectiveLayer(value, size),) * layers) for size in sizes)
    return min(measured_loss(setting, stack, batch) for stack in stacks)


def _map(
    models: list[LearnedObjective], starts: list[LearnedObjective], setting: str, config
) -> LearnedMap:
    training, task = config.training, config.training.task(setting)
    batch = held_out(training, setting, config.n_test)
    grid = torch.tensor(RESIDUALS, dtype=torch.float32)
    curves, recovered, fits, turns = [], [], [], []
    for model in models:
        if task.m > 1:
            curves.append(np.zeros((0, len(grid))))
            recovered.append(np.zeros(len(grid)))
            fits.append((np.nan,) * 3)
            turns.append(np.nan)
            continue
        places = [torch.full_like(grid, p)[:, None] for p in START_POINTS]
        curves.append(np.stack([model.value(p, p + grid[:, None])[:, 0].numpy() for p in places]))
        half = grid[:, None] / 2
        recovered.append(recovered_loss(model.value, -half, half).numpy())
        p, y = _tokens_met(model, batch, 4000)
        value, residual = model.value(p, y)[:, 0], (y - p)[:, 0]
        _, _, clipped, linear = clip_fit(residual, value)
        likely = likelihood_score(residual, task)
        scaled = likely * (likely @ value) / likely.square().sum()
        share = 1 - (value - scaled).square().sum() / value.square().sum()
        fits.append((linear, clipped, share.item()))
        middle = np.abs(curves[-1][1])
        within = np.abs(RESIDUALS) <= 5
        ends = np.isclose(np.abs(RESIDUALS), 5)
        turns.append(middle[ends].mean() / middle[within].max())
    linear, clipped, share = np.array(fits).T
    huber = min(
        _best_descent(huber_loss(delta).value, training.layers, batch, setting)
        for delta in (0.3, 0.5, 0.7, 1.0, 1.5, 2.5)
    )
    return LearnedMap(
        loss=np.array([measured_loss(setting, model, batch) for model in models]),
        squared_loss=_best_descent(squared_loss().value, training.layers, batch, setting),
        huber_loss=huber,
        curves=np.stack(curves),
        recovered=np.stack(recovered),
        linear=linear,
        clip=clipped,
        score=share,
        turn=np.array(turns),
        curl=np.array([_median_curl(model, batch) for model in models]),
        untrained_curl=np.array([_median_curl(model, batch) for model in starts]),
    )


def _tokens_met(model: LearnedObjective, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
    """Predictions and targets of context tokens before each layer, ``[count, m]`` each."""
    few = Batch(*(t[: max(1, count // batch.xs.shape[1] // model.layers)] for t in (
        batch.xs, batch.ys, batch.x_query, batch.y_query
    )))  # fmt: skip
    stack = model.stack
    before = [stack.after(k)(few.xs, few.ys, few.xs).flatten(0, 1) for k in range(model.layers)]
    return torch.cat(before), few.ys.flatten(0, 1).repeat(model.layers, 1)


def _median_curl(model: LearnedObjective, batch: Batch) -> float:
    p, y = _tokens_met(model, batch, 1200)
    return curl(model.value, p, y).median().item()


@experiment(
    "learned_inner_loss",
    paper="hubinger2019risks",
    chapter="mesa_optimization/inner_objective",
    configs={
        Scale.LESSON: LearnedInnerLossConfig(),
        Scale.PAPER: LearnedInnerLossConfig(
            training=LearnedInnerLossTraining(
                d=10, n_context=40, hidden=64, width=128, steps=20_000, transformer_steps=50_000
            ),
            seeds=(0, 1, 2, 3, 4),
            contexts=256,
            n_test=20_000,
        ),
    },
    figure=figures.learned_inner_loss,
)
def learned_inner_loss(config: LearnedInnerLossConfig) -> LearnedInnerLossResult:
    """Train layers whose value map is free, and read which loss each of them came to descend."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    config = replace(config, training=training)
    maps, readings = {}, {}
    with one_thread():
        state = learned_inner_loss_weights(training)
        with torch.no_grad():
            for name in (*SETTINGS, *MODELS):
                starts = [
                    training.untrained(name, seeded(seed)).requires_grad_(False)
                    for seed in config.seeds
                ]
                fresh = name == "untrained_softmax"
                models = starts if fresh else trained_models(state, training, name)
                batch = training.task(name).sample(
                    config.contexts, training.n_context, generator=seeded(DETECTOR_SEED)
                )
                if name in SETTINGS:
                    maps[name] = _map(models, starts, name, config)
                    steps = [_steps_of_stack(model.stack) for model in models]
                else:
                    steps = [_steps_of_blocks(model) for model in models]
                readings[name] = read_steps(steps, batch)
    grid = torch.tensor(RESIDUALS)
    return LearnedInnerLossResult(
        maps=maps,
        readings=readings,
        residual_grid=RESIDUALS,
        likelihood=likelihood_score(grid, training.task("outliers")).numpy(),
    )
