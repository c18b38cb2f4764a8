"""Two layers trained on separate tokens: does the first learn to copy, and when?"""

import functools
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.copying import SeparateTokensLearner, sinusoidal_positions
from icl_lessons.gradient_descent.figures import copying as figures
from icl_lessons.gradient_descent.population_loss import best_single_step
from icl_lessons.measures.agreement import agreement, mean_squared_error
from icl_lessons.models.attention import Kind, SelfAttention, attention_scores
from icl_lessons.runtime import (
    Scale,
    check_choice,
    check_integer,
    check_number,
    one_thread,
    seeded,
)
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task
from icl_lessons.training import TrainingConfig, train
from icl_lessons.types import Batch
from icl_lessons.zoo import State, models_from, recipe

VALIDATION_SEED, CURVE_SEED = 1_000_003, 1_000_039
CURVES = ("loss", "x_from_next", "x_from_previous", "y_from_previous", "others")


@dataclass(frozen=True, kw_only=True)
class CopySetting:
    """One of the trained models: its tokens and its first layer (the second is linear).

    Attributes:
        name: what the result calls it.
        d, n_context, half_range: the task, inputs ``U(-half_range, half_range)^d``.
        positions: ``"sinusoidal"`` or ``"one-hot"``, appended to each token.
        position_width: of sinusoidal positions.
        first: kind of the first layer.
        steps: updates of the weights.
    """

    name: str
    d: int = 5
    n_context: int = 10
    half_range: float = 1.0
    positions: Literal["sinusoidal", "one-hot"] = "sinusoidal"
    position_width: int = 10
    first: Kind = "softmax"
    steps: int = 2500

    def __post_init__(self):
        for name in ("d", "n_context", "position_width", "steps"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("half_range", self.half_range, positive=True)
        check_choice("positions", self.positions, ("sinusoidal", "one-hot"))

    @property
    def task(self) -> LinearRegression:
        """The regression tasks of this setting."""
        return von_oswald_task(self.d, half_range=self.half_range)

    def untrained(self, generator: torch.Generator, *, init_std: float) -> SeparateTokensLearner:
        """Two layers, one head each, on tokens ``[x | y | position]``."""
        length = 2 * self.n_context + 1
        one_hot = self.positions == "one-hot"
        places = torch.eye(length) if one_hot else sinusoidal_positions(length, self.position_width)
        width = self.d + 1 + places.shape[1]
        layers = [
            SelfAttention(width, kind=kind, init_std=init_std, generator=generator)
            for kind in (self.first, "linear")
        ]
        return SeparateTokensLearner(layers, self.d, 1, places)


LESSON_SETTINGS = (
    CopySetting(name="softmax"),
    CopySetting(name="linear", first="linear"),
    CopySetting(name="one_hot", d=3, n_context=6, positions="one-hot", steps=1000),
    CopySetting(
        name="one_hot_linear", d=3, n_context=6, positions="one-hot", first="linear", steps=1000
    ),
)


@dataclass(frozen=True, kw_only=True)
class CopyingTraining:
    """How the models are trained; what their weights depend on and nothing else.

    Attributes:
        settings: the models.
        batch_size, learning_rate, init_std: shared by all.
        seeds: one model each, for every setting.
        validate_every: steps between measurements.
        n_curve, n_jacobian: tasks for the loss and the sensitivities along the run.
        device: where to compute.
    """

    settings: tuple[CopySetting, ...] = LESSON_SETTINGS
    batch_size: int = 256
    learning_rate: float = 3e-3
    init_std: float = 0.1
    seeds: tuple[int, ...] = (0, 1, 2)
    validate_every: int = 50
    n_curve: int = 2000
    n_jacobian: int = 8
    device: str = "cpu"

    def __post_init__(self):
        for name in ("batch_size", "validate_every", "n_curve", "n_jacobian"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("learning_rate", "init_std"):
            check_number(name, getattr(self, name), positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")
        if not self.settings:
            raise ValueError("settings: got none; give at least one")


def neighbour_sensitivity(model: SeparateTokensLearner, batch: Batch) -> dict[str, float]:
    """How much each token after the first layer depends on its neighbours' data before it.

    The mean Frobenius norm of ``d t(e_j) / d e_i``, with ``t(e_j)`` all of token ``j`` after the
    first layer and ``e_i`` the input and target slots of token ``i``, the empty one included
    [vonoswald2023transformers, figure on copying].

    Returns:
        ``x_from_next``: an ``x`` token on its own ``y``; ``x_from_previous``: on the ``y`` of the
        example before; ``y_from_previous``: a ``y`` token on its own ``x``; ``others``: the mean
        over all pairs of different context tokens that are none of these.
    """
    tokens = model.tokens(*batch.context)
    data = model.d + model.m
    n = batch.xs.shape[1]
    mask = model.mask(n, batch.x_query.shape[1], causal=model.causal[0])

    def first_layer(slots: Tensor, rest: Tensor) -> Tensor:
        return model.layers[model.order[0]](torch.cat([slots, rest], -1)[None], mask)[0]

    jacobian = torch.func.vmap(torch.func.jacfwd(first_layer))(
        tokens[..., :data], tokens[..., data:]
    )
    norms = jacobian.square().sum((2, 4)).sqrt().mean(0)[: 2 * n, : 2 * n]
    above, below = norms.diagonal(1), norms.diagonal(-1)
    named = {
        "x_from_next": above[0::2],
        "x_from_previous": below[1::2],
        "y_from_previous": below[0::2],
    }
    rest = norms.sum() - norms.trace() - sum(value.sum() for value in named.values())
    count = norms.numel() - len(norms) - sum(len(value) for value in named.values())
    return {name: value.mean().item() for name, value in named.items()} | {
        "others": (rest / count).item()
    }


def first_layer_attention(
    model: SeparateTokensLearner, batch: Batch
) -> Float[Tensor, "sequence sequence"]:
    """Where the tokens look in a softmax first layer, averaged over contexts; rows sum to 1."""
    layer = model.layers[model.order[0]]
    scores = attention_scores(model.tokens(*batch.context), layer.w_query, layer.w_key)
    mask = model.mask(batch.xs.shape[1], batch.x_query.shape[1], causal=model.causal[0])
    scores = (scores * layer.w_query.shape[1] ** -0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).mean((0, 1))


def measured_losses(state: State, config: CopyingTraining) -> dict[str, float]:
    """Validation loss of every trained model, and of the sensitivities at the end."""
    figures = {}
    for setting in config.settings:
        batch = setting.task.sample(config.n_curve, setting.n_context, generator=seeded(CURVE_SEED))
        for seed, model in zip(config.seeds, trained_models(state, setting), strict=True):
            figures[f"{setting.name} {seed}"] = mean_squared_error(model, batch)
    return figures


def trained_models(state: State, setting: CopySetting) -> list[SeparateTokensLearner]:
    """The models of one setting, one for each seed."""
    return models_from(setting.untrained(seeded(0), init_std=1.0), state, f"{setting.name}.")


@recipe("copying", config=CopyingTraining(), measure=measured_losses)
def copying_weights(config: CopyingTraining) -> State:
    """Weights of all settings as ``name.weight``, their histories as ``history.name.curve``."""
    state: State = {}
    for setting in config.settings:
        n = setting.n_context
        batch = setting.task.sample(config.n_curve, n, generator=seeded(CURVE_SEED))
        batch = batch.to(config.device)
        few = Batch(*(tensor[: config.n_jacobian] for tensor in (*batch.context, batch.y_query)))
        curves: list[list[float]] = []

        def measure(model, batch=batch, few=few, curves=curves) -> float:
            loss = mean_squared_error(model, batch)
            curves.append([loss, *neighbour_sensitivity(model, few).values()])
            return loss

        run = train(
            functools.partial(setting.untrained, init_std=config.init_std),
            setting.task,
            TrainingConfig(
                steps=setting.steps,
                batch_size=config.batch_size,
                n_context=n,
                learning_rate=config.learning_rate,
                seeds=config.seeds,
                validate_every=config.validate_every,
            ),
            validate=measure,
            progress=False,
            device=config.device,
        )
        state |= {f"{setting.name}.{name}": tensor for name, tensor in run.state.items()}
        table = torch.tensor(curves).reshape(-1, len(config.seeds), len(CURVES))
        for name, curve in zip(CURVES, table.unbind(2), strict=True):
            state[f"history.{setting.name}.{name}"] = curve.mT.contiguous()
        state[f"history.{setting.name}.steps"] = torch.from_numpy(run.history.validation_steps)
    return state


@dataclass(frozen=True, kw_only=True)
class CopyingConfig:
    """Settings of :func:`copying`; the defaults are the lesson's.

    Attributes:
        training: how the models are trained.
        seeds: one model each; overrides those of ``training``.
        n_validation: tasks on which the finished models are measured.
        device: where to compute.
    """

    training: CopyingTraining = CopyingTraining()
    seeds: tuple[int, ...] = (0, 1, 2)
    n_validation: int = 10_000
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_validation", self.n_validation, at_least=1)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class CopyRun:
    """One setting's outcome. Losses are ``1/2 E (y_hat - y)^2``; one row for each seed.

    A model is held against one step of gradient descent on the tasks on which it was measured.
    The step size is the best over all tasks.

    Attributes:
        steps: updates before each measurement.
        loss: while training, on the tasks of the curves, ``[seeds, measurements]``.
        curve_descent_loss, curve_zero_loss: of one step of gradient descent and of predicting 0,
            on the tasks of the curves.
        x_from_next, x_from_previous, y_from_previous, others: the sensitivities of
            :func:`neighbour_sensitivity`, ``[seeds, measurements]``.
        final_loss: on the validation tasks, ``[seeds]``.
        descent_loss, zero_loss: of one step and of predicting 0, on the validation tasks.
        exact_descent_loss, exact_zero_loss: of one step and of predicting 0 over all tasks, in
            closed form.
        prediction_difference, sensitivity_cosine: against one step, ``[seeds]``.
        target_size: mean ``|y|``, the size that differences refer to.
        attention: of a softmax first layer, ``[seeds, tokens, tokens]``; empty for a linear one.
    """

    steps: Int[np.ndarray, " measurements"]
    loss: Float[np.ndarray, "seeds measurements"]
    x_from_next: Float[np.ndarray, "seeds measurements"]
    x_from_previous: Float[np.ndarray, "seeds measurements"]
    y_from_previous: Float[np.ndarray, "seeds measurements"]
    others: Float[np.ndarray, "seeds measurements"]
    curve_descent_loss: float
    curve_zero_loss: float
    final_loss: Float[np.ndarray, " seeds"]
    descent_loss: float
    zero_loss: float
    exact_descent_loss: float
    exact_zero_loss: float
    prediction_difference: Float[np.ndarray, " seeds"]
    sensitivity_cosine: Float[np.ndarray, " seeds"]
    target_size: float
    attention: Float[np.ndarray, "softmax_seeds tokens tokens"]

    @property
    def loss_ratio(self) -> Float[np.ndarray, " seeds"]:
        """Loss over that of one step on the same tasks."""
        return self.final_loss / self.descent_loss

    @property
    def height(self) -> Float[np.ndarray, "seeds measurements"]:
        """Loss while training, 1 for predicting 0 and 0 for one step on the same tasks."""
        fall = self.curve_zero_loss - self.curve_descent_loss
        return (self.loss - self.curve_descent_loss) / fall

    @property
    def drop(self) -> Float[np.ndarray, " seeds"]:
        """Updates until the loss was halfway between predicting 0 and one step; NaN if never."""
        below = self.height < 0.5
        return np.where(below.any(1), self.steps[below.argmax(1)].astype(float), np.nan)

    @property
    def attention_to_next(self) -> Float[np.ndarray, " seeds"]:
        """Share of an ``x`` token's attention that its own ``y`` receives, first layer."""
        return np.array([np.diagonal(seed, 1)[0::2].mean() for seed in self.attention])

    @property
    def attention_to_previous(self) -> Float[np.ndarray, " seeds"]:
        """Share of a ``y`` token's attention that its own ``x`` receives, first layer."""
        return np.array([np.diagonal(seed, -1)[0::2].mean() for seed in self.attention])


@dataclass(frozen=True, kw_only=True)
class CopyingResult:
    """What came of every setting, by name; the models by the same names."""

    runs: dict[str, CopyRun]
    models: dict[str, tuple[SeparateTokensLearner, ...]] = field(
        repr=False, default_factory=dict, metadata={"stored": False}
    )

    def summary(self) -> str:
        """The result in a few lines, one for each setting."""
        lines = []
        for name, run in self.runs.items():
            rows = {
                "loss": run.final_loss,
                "of one step": run.loss_ratio,
                "cosine": run.sensitivity_cosine,
                "drop at": run.drop,
            }
            parts = "   ".join(
                f"{what} " + " ".join(f"{v:.3g}" for v in values) for what, values in rows.items()
            )
            lines.append(f"{name:<16}{parts}   (one step {run.descent_loss:.4f})")
        return "\n".join(lines)


@experiment(
    "copying",
    paper="vonoswald2023transformers",
    chapter="gradient_descent/beyond_lines",
    configs={
        Scale.LESSON: CopyingConfig(),
        Scale.PAPER: CopyingConfig(
            training=CopyingTraining(
                settings=(CopySetting(name="softmax", d=10, steps=10_000),),
                batch_size=2048,
                learning_rate=1e-3,
                seeds=(0, 1, 2, 3, 4),
                validate_every=100,
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.copying,
)
def copying(config: CopyingConfig) -> CopyingResult:
    """Train two layers on separate tokens and watch the first learn to look at its neighbour."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    with one_thread():
        state = copying_weights(training)
        runs, models = {}, {}
        for setting in training.settings:
            models[setting.name] = tuple(trained_models(state, setting))
            runs[setting.name] = _outcome(setting, models[setting.name], state, config)
    return CopyingResult(runs=runs, models=models)


def _outcome(setting: CopySetting, models, state: State, config: CopyingConfig) -> CopyRun:
    best, n = best_single_step(setting.task, setting.n_context), setting.n_context
    batch = setting.task.sample(config.n_validation, n, generator=seeded(VALIDATION_SEED))
    on_curve = setting.task.sample(config.training.n_curve, n, generator=seeded(CURVE_SEED))
    descent = GradientDescent(best.step_size)
    compared = [agreement(model, descent, batch) for model in models]
    history = {name: state[f"history.{setting.name}.{name}"].numpy() for name in ("steps", *CURVES)}
    attention = np.zeros((0, 1, 1), dtype=np.float32)
    if setting.first == "softmax":
        attention = np.stack([first_layer_attention(m, batch).numpy() for m in models])
    return CopyRun(
        **history,
        curve_descent_loss=mean_squared_error(descent, on_curve),
        curve_zero_loss=on_curve.y_query.square().mean().item() / 2,
        final_loss=np.array([mean_squared_error(model, batch) for model in models]),
        descent_loss=mean_squared_error(descent, batch),
        zero_loss=batch.y_query.square().mean().item() / 2,
        exact_descent_loss=best.loss,
        exact_zero_loss=best.loss_of_zero,
        prediction_difference=np.array([row.prediction_difference for row in compared]),
        sensitivity_cosine=np.array([row.sensitivity_cosine for row in compared]),
        target_size=batch.y_query.abs().mean().item(),
        attention=attention,
    )
