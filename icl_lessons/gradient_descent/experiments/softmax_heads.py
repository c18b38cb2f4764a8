"""The experiment on softmax attention: one head, two heads, two layers, and LayerNorm."""

import dataclasses
import functools
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.declare import experiment
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.figures import softmax_heads as figures
from icl_lessons.gradient_descent.one_step import LinearSelfAttentionLearner
from icl_lessons.gradient_descent.population_loss import best_single_step, single_step_loss
from icl_lessons.gradient_descent.softmax_heads import (
    CentredDescent,
    NormalisedAttentionLearner,
    SoftmaxAttentionLearner,
    best_centred_step,
    best_output_scales,
    score_matrices,
    softmax_average,
)
from icl_lessons.gradient_descent.trained_layer import loss_at_scales
from icl_lessons.measures.agreement import mean_squared_error, sensitivity_cosine
from icl_lessons.models.attention import SelfAttention
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task
from icl_lessons.training import TrainingConfig, train
from icl_lessons.types import Batch
from icl_lessons.zoo import models_from, recipe

VALIDATION_SEED, SHIFT_SEED = 1_000_003, 1_000_037
KINDS = ("one_head", "two_heads", "two_layers", "layer_norm")


@dataclass(frozen=True, kw_only=True)
class SoftmaxTraining:
    """What the weights depend on; the defaults are the lesson's.

    Attributes:
        d, n_context, half_range: the task: inputs ``U(-half_range, half_range)^d``.
        batch_size, steps, learning_rate, betas, clip, schedule: of the training;
            ``two_layers_learning_rate`` of the two layers, which need a larger one.
        init_std: of every matrix at the start.
        validate_every, n_validation: steps between measurements, and contexts they are made on.
        seeds: one model of each kind each.
    """

    d: int = 10
    n_context: int = 10
    half_range: float = 0.5
    batch_size: int = 512
    steps: int = 2000
    learning_rate: float = 3e-3
    two_layers_learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float | None = 1.0
    schedule: str = "linear_decay"
    init_std: float = 0.3
    validate_every: int = 200
    n_validation: int = 20_000
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "batch_size", "steps", "n_validation"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_context", self.n_context, at_least=2)
        for name in ("half_range", "learning_rate", "two_layers_learning_rate", "init_std"):
            check_number(name, getattr(self, name), positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def task(self) -> LinearRegression:
        """The regression tasks of this experiment."""
        return von_oswald_task(self.d, half_range=self.half_range)

    def learner(self, kind: str, generator: torch.Generator | None = None) -> nn.Module:
        """An untrained learner: softmax with ``one_head``, ``two_heads`` or ``two_layers`` of one
        head; or a linear layer behind ``layer_norm``."""

        def layer(heads: int, attention: str) -> SelfAttention:
            width = self.d + 1
            return SelfAttention(
                width, heads, kind=attention, init_std=self.init_std, generator=generator
            )

        if kind == "layer_norm":
            linear = LinearSelfAttentionLearner([layer(1, "linear")], self.d)
            return NormalisedAttentionLearner(linear)
        heads, layers = {"one_head": (1, 1), "two_heads": (2, 1), "two_layers": (1, 2)}[kind]
        return SoftmaxAttentionLearner([layer(heads, "softmax") for _ in range(layers)], self.d)

    def validation(self) -> Batch:
        """The contexts that losses are measured on, each with a query and its mirror image.

        A softmax head is not odd in its query as a linear one is: with both, whether its scores
        are positive or negative makes no difference.
        """
        batch = self.task.sample(
            self.n_validation, self.n_context, generator=seeded(VALIDATION_SEED)
        )
        x, y = batch.x_query, batch.y_query
        return dataclasses.replace(
            batch, x_query=torch.cat([x, -x], 1), y_query=torch.cat([y, -y], 1)
        )


def _losses(state: dict[str, Tensor], config: SoftmaxTraining) -> dict[str, float]:
    batch = config.validation()
    return {
        f"{kind}, seed {seed}": mean_squared_error(model, batch)
        for kind in KINDS
        for seed, model in zip(
            config.seeds, models_from(config.learner(kind), state, f"{kind}."), strict=True
        )
    }


@recipe("softmax_heads", config=SoftmaxTraining(), measure=_losses)
def softmax_weights(config: SoftmaxTraining) -> dict[str, Tensor]:
    """Train the four kinds of learner; their losses while training stand under ``history.``."""
    tensors = {}
    for kind in KINDS:
        two_layers = kind == "two_layers"
        run = train(
            functools.partial(config.learner, kind),
            config.task,
            TrainingConfig(
                steps=config.steps,
                batch_size=config.batch_size,
                n_context=config.n_context,
                learning_rate=(
                    config.two_layers_learning_rate if two_layers else config.learning_rate
                ),
                betas=config.betas,
                clip=config.clip,
                schedule=config.schedule,
                seeds=config.seeds,
                validate_every=config.validate_every,
            ),
            validate=config.validation(),
            progress=False,
            device=config.device,
        )
        tensors |= {f"{kind}.{name}": value for name, value in run.state.items()}
        tensors[f"history.{kind}"] = torch.from_numpy(run.history.validation.T).float()
        tensors["history.steps"] = torch.from_numpy(run.history.validation_steps)
    return tensors


@dataclass(frozen=True, kw_only=True)
class SoftmaxHeadsConfig:
    """Settings of :func:`softmax_heads`.

    Attributes:
        training: of the learners.
        score_scales: ``eps`` at which the best output scales of one head and of two are computed.
        input_scales: shifts away from the training law.
        seeds, device: of the training, and where to compute.
    """

    training: SoftmaxTraining = SoftmaxTraining()
    score_scales: tuple[float | int, ...] = (0.1, 0.3, 0.6, 1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 18, 25)
    input_scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for scale in (*self.score_scales, *self.input_scales):
            check_number("score_scales and input_scales", scale, positive=True)


@dataclass(frozen=True, kw_only=True)
class SoftmaxHeadsResult:
    """What came of it. Losses are ``1/2 E (y_hat - y)^2``; arrays have one row for each seed.

    Attributes:
        steps: updates before each measurement.
        paths: loss then, ``{kind: [seeds, measurements]}``.
        losses: after training, ``{kind: [seeds]}``.
        descent_cosine, centred_cosine: sensitivity cosine with the best step and with the best
            centred step, ``{kind: [seeds]}``.
        descent_loss, centred_loss: of those two steps on the validation tasks.
        best_loss, best_step_size: of the best step in closed form.
        best_centred_loss, best_centred_step_size: of the best centred step.
        zero_loss: in closed form.
        score_scales: ``eps``.
        best_one_head, best_two_heads: loss with scores ``eps x_i . x_q`` (and ``-eps``) and the
            output scales that are best on the validation tasks.
        output_scales: of two trained heads, ``eta_h = [P_h W_V,h]_yy``, ``[seeds, heads]``.
        products: ``eta_h W_KQ,h`` among input coordinates, scale of the softmax included,
            ``[seeds, heads, d, d]``. Minus their sum is the step taken to first order.
        input_scales: shifts of the law.
        input_shift: loss there, ``{kind: [seeds, input_scales]}``.
        descent_input_shift: of the best step, in closed form; ``zero_input_shift``: of 0.
    """

    steps: Int[np.ndarray, " measurements"]
    paths: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]
    descent_cosine: dict[str, np.ndarray]
    centred_cosine: dict[str, np.ndarray]
    descent_loss: float
    centred_loss: float
    best_loss: float
    best_step_size: float
    best_centred_loss: float
    best_centred_step_size: float
    zero_loss: float
    score_scales: Float[np.ndarray, " score_scales"]
    best_one_head: Float[np.ndarray, " score_scales"]
    best_two_heads: Float[np.ndarray, " score_scales"]
    output_scales: Float[np.ndarray, "seeds heads"]
    products: Float[np.ndarray, "seeds heads d d"]
    input_scales: Float[np.ndarray, " input_scales"]
    input_shift: dict[str, np.ndarray]
    descent_input_shift: Float[np.ndarray, " input_scales"]
    zero_input_shift: Float[np.ndarray, " input_scales"]
    models: dict[str, tuple[nn.Module, ...]] = field(
        repr=False, default_factory=dict, metadata={"stored": False}
    )

    @property
    def off_diagonal(self) -> Float[np.ndarray, "seeds heads"]:
        """Mean size of the entries of each head's product off the diagonal."""
        return _mean_off_diagonal(self.products)

    @property
    def off_diagonal_of_sum(self) -> Float[np.ndarray, " seeds"]:
        """The same of the two heads' sum."""
        return _mean_off_diagonal(self.products.sum(1))

    @property
    def first_order_step_size(self) -> Float[np.ndarray, " seeds"]:
        """The step size that the heads' sum stands for: minus its mean diagonal."""
        return -self.products.sum(1).diagonal(axis1=-2, axis2=-1).mean(-1)

    def summary(self) -> str:
        """The result in a few lines."""
        lines = [
            f"loss, 1/2 E (y_hat - y)^2; one step {self.descent_loss:.4f} (exact "
            f"{self.best_loss:.4f}), centred {self.centred_loss:.4f} (exact "
            f"{self.best_centred_loss:.4f}), predicting 0 {self.zero_loss:.4f}"
        ]
        for kind in self.losses:
            numbers = "  ".join(f"{v:.4f}" for v in self.losses[kind])
            cosines = "  ".join(f"{v:.3f}" for v in self.descent_cosine[kind])
            lines.append(f"{kind:<12}{numbers}   cosine {cosines}")
        rows = [
            ("output scales", self.output_scales.flatten()),
            ("off-diagonal, each head", self.off_diagonal.flatten()),
            ("off-diagonal, sum", self.off_diagonal_of_sum),
            (f"step size ({self.best_centred_step_size:.2f})", self.first_order_step_size),
        ]
        lines += [f"{name:<26}" + "  ".join(f"{v:7.3f}" for v in row) for name, row in rows]
        return "\n".join(lines)


def _mean_off_diagonal(matrices: np.ndarray) -> np.ndarray:
    off = ~np.eye(matrices.shape[-1], dtype=bool)
    return np.abs(matrices[..., off]).mean(-1)


def _best_heads(
    batch: Batch, score_scales: tuple[float | int, ...]
) -> tuple[Float[np.ndarray, " scales"], Float[np.ndarray, " scales"]]:
    """The loss of the best one head and the best two of each score scale, in float64."""
    xs, ys, x_query, y_query = (
        value.double() for value in (batch.xs, batch.ys, batch.x_query, batch.y_query)
    )
    scores = x_query @ xs.mT
    one, two = [], []
    for scale in score_scales:
        heads = [softmax_average(sign * scale * scores, ys).flatten() for sign in (1, -1)]
        one.append(best_output_scales(heads[0][:, None], y_query.flatten())[1])
        two.append(best_output_scales(torch.stack(heads, 1), y_query.flatten())[1])
    return np.array(one), np.array(two)


@experiment(
    "softmax_heads",
    paper="vonoswald2023transformers",
    chapter="gradient_descent/beyond_lines",
    configs={
        Scale.LESSON: SoftmaxHeadsConfig(),
        Scale.PAPER: SoftmaxHeadsConfig(
            training=SoftmaxTraining(
                batch_size=2048,
                steps=20_000,
                learning_rate=1e-3,
                two_layers_learning_rate=1e-3,
                clip=10.0,
                schedule="constant",
                validate_every=500,
                seeds=(0, 1, 2, 3, 4),
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.softmax_heads,
)
def softmax_heads(config: SoftmaxHeadsConfig) -> SoftmaxHeadsResult:
    """Train softmax attention of one head, two heads and two layers beside one gradient step."""
    training = dataclasses.replace(config.training, seeds=config.seeds, device=config.device)
    task, n = training.task, training.n_context
    step, centred = best_single_step(task, n), best_centred_step(task, n)
    learners = {
        "descent_cosine": GradientDescent(step.step_size),
        "centred_cosine": CentredDescent(centred.step_size),
    }
    with one_thread():
        state = softmax_weights(training)
        models = {kind: models_from(training.learner(kind), state, f"{kind}.") for kind in KINDS}
        batch = training.validation()
        one_head, two_heads = _best_heads(batch, config.score_scales)

        def shifted(model) -> np.ndarray:
            return loss_at_scales(
                model,
                task,
                n,
                input_scales=config.input_scales,
                batch_size=min(training.n_validation, 8000),
                seed=SHIFT_SEED,
            )[:, 0]

        few = Batch(*(value[:4000] for value in (*batch.context, batch.y_query)))
        cosines = {
            name: {
                kind: np.array([sensitivity_cosine(model, other, few) for model in models[kind]])
                for kind in KINDS
            }
            for name, other in learners.items()
        }
        with torch.no_grad():
            layers = [model.layers[0] for model in models["two_heads"]]
            scales = torch.stack([layer.projection_value()[:, -1, -1] for layer in layers])
            scores = torch.stack([score_matrices(layer)[:, : task.d, : task.d] for layer in layers])
            return SoftmaxHeadsResult(
                steps=state["history.steps"].numpy(),
                paths={kind: state[f"history.{kind}"].numpy() for kind in KINDS},
                losses={
                    kind: np.array([mean_squared_error(model, batch) for model in models[kind]])
                    for kind in KINDS
                },
                **cosines,
                descent_loss=mean_squared_error(learners["descent_cosine"], batch),
                centred_loss=mean_squared_error(learners["centred_cosine"], batch),
                best_loss=step.loss,
                best_step_size=step.step_size,
                best_centred_loss=centred.loss,
                best_centred_step_size=centred.step_size,
                zero_loss=step.loss_of_zero,
                score_scales=np.array(config.score_scales, dtype=float),
                best_one_head=one_head,
                best_two_heads=two_heads,
                output_scales=scales.numpy(),
                products=(scales[..., None, None] * scores).numpy(),
                input_scales=np.array(config.input_scales),
                input_shift={
                    kind: np.stack([shifted(model) for model in models[kind]]) for kind in KINDS
                },
                descent_input_shift=np.array(
                    [single_step_loss(task, n, step.step_size, a) for a in config.input_scales]
                ),
                zero_input_shift=step.loss_of_zero * np.array(config.input_scales) ** 2,
                models={kind: tuple(models[kind]) for kind in KINDS},
            )
