"""Softmax attention on raw states, and what a mesa layer in its second block is worth."""

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.mesa_optimization.figures import sequence_hybrids as figures
from icl_lessons.mesa_optimization.sequence_construction import next_step_least_squares
from icl_lessons.mesa_optimization.trained_sequences import (
    best_regularization,
    from_second,
    next_state_loss,
    position_losses,
)
from icl_lessons.models.state_sequence import StateTransformer, StateTransformerConfig
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.dynamics import Dynamics
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, models_from, recipe

VALIDATION_SEED, OTHER_SEED = 2_309_003, 2_309_007


@dataclass(frozen=True, kw_only=True)
class RawModel:
    """One of the trained models: blocks on raw states, with learned positions.

    Attributes:
        name: what the result calls it.
        blocks: kinds of its blocks.
        steps: updates of the weights.
    """

    name: str
    blocks: tuple[str, ...]
    steps: int = 1500


LESSON_MODELS = (
    RawModel(name="softmax", blocks=("softmax",), steps=1000),
    RawModel(name="softmax, softmax", blocks=("softmax", "softmax")),
    RawModel(name="softmax, linear", blocks=("softmax", "linear")),
    RawModel(name="softmax, mesa", blocks=("softmax", "mesa")),
)


@dataclass(frozen=True, kw_only=True)
class SequenceHybridsTraining:
    """What the trained weights depend on.

    Attributes:
        d, length, noise_std: of the sequences, fully observed and linear.
        models: the shapes.
        width, heads, mlp_ratio: of every model; the lesson's have no MLP, which halves the cost.
        batch_size, learning_rate, warmup, clip: of every training.
        seeds: one model of each shape for each.
    """

    d: int = 4
    length: int = 20
    noise_std: float = 0.1
    models: tuple[RawModel, ...] = LESSON_MODELS
    width: int = 32
    heads: int = 4
    mlp_ratio: int = 0
    batch_size: int = 64
    learning_rate: float = 6e-3
    warmup: int = 50
    clip: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "length", "width", "heads", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("noise_std", self.noise_std)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def task(self) -> Dynamics:
        """The sequences."""
        return Dynamics(d=self.d, noise_std=self.noise_std)

    def build(self, model: RawModel, generator: torch.Generator) -> StateTransformer:
        """A model before training."""
        shape = StateTransformerConfig(
            d=self.d,
            blocks=model.blocks,
            width=self.width,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            max_length=self.length,
            mesa_head_width=2 * self.d,
        )
        return StateTransformer(shape, generator=generator)


def raw_models(state: State, config: SequenceHybridsTraining, name: str) -> list[StateTransformer]:
    """The models of one shape, one for each seed."""
    model = next(model for model in config.models if model.name == name)
    return models_from(config.build(model, seeded(0)), state, f"{name}.")


def _measure(state: State, config: SequenceHybridsTraining) -> dict[str, float]:
    """Loss from the second prediction on, of every model."""
    states = config.task.sample(1024, config.length, generator=seeded(VALIDATION_SEED)).states
    return {
        f"{model.name} {seed}": from_second(position_losses(one, states)).item()
        for model in config.models
        for seed, one in zip(config.seeds, raw_models(state, config, model.name), strict=True)
    }


@recipe("sequence_hybrids", config=SequenceHybridsTraining(), measure=_measure)
def sequence_hybrids_weights(config: SequenceHybridsTraining) -> State:
    """Weights of every model as ``name.weight``, one row for each seed."""
    state: State = {}
    for model in config.models:
        run = train(
            functools.partial(config.build, model),
            config.task,
            TrainingConfig(
                steps=model.steps,
                batch_size=config.batch_size,
                n_context=config.length,
                learning_rate=config.learning_rate,
                schedule="linear_decay",
                warmup=config.warmup,
                clip=config.clip,
                seeds=config.seeds,
            ),
            loss=next_state_loss,
            progress=False,
            device=config.device,
        )
        state |= {f"{model.name}.{name}": tensor for name, tensor in run.state.items()}
    return state


@dataclass(frozen=True, kw_only=True)
class SequenceHybridsConfig:
    """Settings of :func:`sequence_hybrids`; the defaults are the lesson's.

    Attributes:
        training: how the models are trained.
        n_validation: sequences on which everything is measured.
        regularizations: ``lambda`` of least squares; the best on other sequences is taken.
        seeds: one model of each shape; overrides those of ``training``.
        device: where to train.
    """

    training: SequenceHybridsTraining = SequenceHybridsTraining()
    n_validation: int = 2048
    regularizations: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_validation", self.n_validation, at_least=1)
        for value in self.regularizations:
            check_number("regularizations", value, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class SequenceHybridsResult:
    """What came of it. Losses are ``1/2 E |f_t - s_{t+1}|^2``, for ``t = 1, ..., T - 1``.

    Attributes:
        names: of the trained models, the kinds of their blocks.
        losses: ``[models, seeds, predictions]``.
        zero, least_squares: of predicting 0 and of least squares on every prefix.
        regularization: ``lambda`` of least squares.
        noise_floor: what no predictor beats.
    """

    names: tuple[str, ...]
    losses: Float[np.ndarray, "models seeds predictions"]
    zero: Float[np.ndarray, " predictions"]
    least_squares: Float[np.ndarray, " predictions"]
    regularization: float
    noise_floor: float
    models: dict[str, tuple[StateTransformer, ...]] = field(
        repr=False, default_factory=dict, metadata={"stored": False}
    )

    def mean(self, name: str) -> np.ndarray | np.floating:
        """Loss from the second prediction on: of a model, one number a seed, or of a reference."""
        losses = self.losses[self.names.index(name)] if name in self.names else getattr(self, name)
        return from_second(losses)

    def after(self, seen: int, name: str) -> np.ndarray | np.floating:
        """Loss of the prediction made from so many states, of a model or a reference."""
        losses = self.losses[self.names.index(name)] if name in self.names else getattr(self, name)
        return losses[..., seen - 1]

    def summary(self) -> str:
        """Losses from the second prediction on, and of the fifth."""
        lines = []
        for name in ("zero", "least_squares", *self.names):
            mean, fifth = np.atleast_1d(self.mean(name)), np.atleast_1d(self.after(5, name))
            lines.append(
                f"{name:<18}"
                + " ".join(f"{v:.3f}" for v in mean)
                + "   from five states "
                + " ".join(f"{v:.3f}" for v in fifth)
            )
        return "\n".join(lines)


@experiment(
    "sequence_hybrids",
    paper="vonoswald2023uncovering",
    chapter="mesa_optimization/sequence_models",
    configs={
        Scale.LESSON: SequenceHybridsConfig(),
        Scale.PAPER: SequenceHybridsConfig(
            training=SequenceHybridsTraining(
                d=10,
                length=50,
                models=tuple(
                    RawModel(name=", ".join(blocks), blocks=blocks, steps=20_000)
                    for blocks in (
                        ("softmax",),
                        ("softmax",) * 2,
                        ("softmax", "linear"),
                        ("softmax", "mesa"),
                        ("softmax",) * 7,
                    )
                ),
                width=40,
                mlp_ratio=4,
                batch_size=256,
                learning_rate=1e-3,
                warmup=1000,
                seeds=(0, 1, 2, 3, 4),
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.sequence_hybrids,
)
def sequence_hybrids(config: SequenceHybridsConfig) -> SequenceHybridsResult:
    """Attention models on raw states, with a softmax, linear or mesa layer in the second block."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    task, length = training.task, training.length
    with one_thread():
        state = sequence_hybrids_weights(training)
        with torch.no_grad():
            states, other = (
                task.sample(config.n_validation, length, generator=seeded(seed)).states
                for seed in (VALIDATION_SEED, OTHER_SEED)
            )
            best = best_regularization(other, config.regularizations)
            squares = functools.partial(next_step_least_squares, regularization=best)
            models = {m.name: tuple(raw_models(state, training, m.name)) for m in training.models}

            def losses(predictor) -> np.ndarray:
                return position_losses(predictor, states).numpy()

            return SequenceHybridsResult(
                names=tuple(models),
                losses=np.stack([[losses(model) for model in row] for row in models.values()]),
                zero=losses(torch.zeros_like),
                least_squares=losses(squares),
                regularization=best,
                noise_floor=task.noise_floor,
                models=models,
            )
