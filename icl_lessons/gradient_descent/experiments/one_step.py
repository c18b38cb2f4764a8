"""The experiment on one linear attention layer and one step of gradient descent."""

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from icl_lessons.declare import experiment
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.figures import one_step as figures
from icl_lessons.gradient_descent.one_step import (
    LinearSelfAttentionLearner,
    gradient_descent_attention,
)
from icl_lessons.gradient_descent.population_loss import (
    attention_population_loss,
    best_single_step,
    single_step_loss,
)
from icl_lessons.gradient_descent.trained_layer import (
    interpolated,
    line_search_step,
    loss_at_scales,
    rescaled_products,
    untrained_layer,
)
from icl_lessons.measures.agreement import Agreement, agreement, mean_squared_error
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task
from icl_lessons.training import TrainingConfig, train

VALIDATION_SEED, LINE_SEARCH_SEED, SHIFT_SEED = 1_000_003, 1_000_033, 1_000_037


@dataclass(frozen=True, kw_only=True)
class OneLayerOneStepConfig:
    """Settings of :func:`one_layer_one_step`; the defaults are the lesson's.

    Attributes:
        d, n_context, half_range: the task: inputs ``U(-half_range, half_range)^d``.
        batch_size, steps, learning_rate, betas, clip, schedule: of the sampled training.
        init_std: of every matrix at the start.
        seeds: one model each.
        n_validation: tasks on which everything is measured; as many others fix the step size.
        validate_every: steps between measurements.
        population_steps, population_learning_rate: of the training on the closed-form loss.
        mixtures: points between trained (0) and constructed (1) weights.
        input_scales, task_scales: shifts away from the training law.
        device: where to compute.
    """

    d: int = 10
    n_context: int = 10
    half_range: float = 0.5
    batch_size: int = 512
    steps: int = 800
    learning_rate: float = 6e-3
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float | None = 10.0
    schedule: str = "linear_decay"
    init_std: float = 0.0135
    seeds: tuple[int, ...] = (0, 1, 2)
    n_validation: int = 10_000
    validate_every: int = 50
    population_steps: int = 400
    population_learning_rate: float = 1e-2
    mixtures: tuple[float, ...] = tuple(i / 10 for i in range(11))
    input_scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    task_scales: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "batch_size", "steps", "n_validation", "population_steps"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("half_range", "learning_rate", "init_std", "population_learning_rate"):
            check_number(name, getattr(self, name), positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def task(self) -> LinearRegression:
        """The regression tasks of this experiment."""
        return von_oswald_task(self.d, half_range=self.half_range)


@dataclass(frozen=True, kw_only=True)
class OneLayerOneStepResult:
    """What came of it. Losses are ``1/2 E (y_hat - y)^2``; arrays have one row for each seed.

    Attributes:
        steps: updates before each measurement.
        loss, prediction_difference, sensitivity_cosine, model_difference: of the sampled run,
            ``[seeds, measurements]``, against the best single step, on the validation tasks.
        descent_loss: of that step on the same tasks.
        step_size: by line search on other tasks.
        best_loss, best_step_size, zero_loss: in closed form.
        population_steps: updates before each measurement of the run on the closed-form loss.
        population_loss: exact loss of that run, ``[seeds, measurements]``.
        target_size: mean ``|y|`` of the validation queries, the size that differences refer to.
        mixtures: points between trained (0) and constructed (1) weights.
        interpolated, averaged: loss there, with and without bringing the trained weights to the
            construction's scale, ``[seeds, mixtures]``.
        input_scales, task_scales: shifts of the law.
        trained_input_shift, descent_input_shift: loss at each input scale.
        trained_task_shift, descent_task_shift: loss at each task scale.
        expected_input_shift: the closed form of the step's loss at each input scale.
        key_query, projection_value: trained products at the construction's scale, for each seed.
    """

    steps: Int[np.ndarray, " measurements"]
    loss: Float[np.ndarray, "seeds measurements"]
    prediction_difference: Float[np.ndarray, "seeds measurements"]
    sensitivity_cosine: Float[np.ndarray, "seeds measurements"]
    model_difference: Float[np.ndarray, "seeds measurements"]
    descent_loss: float
    step_size: float
    best_loss: float
    best_step_size: float
    zero_loss: float
    population_steps: Int[np.ndarray, " logged"]
    population_loss: Float[np.ndarray, "seeds logged"]
    target_size: float
    mixtures: Float[np.ndarray, " mixtures"]
    interpolated: Float[np.ndarray, "seeds mixtures"]
    averaged: Float[np.ndarray, "seeds mixtures"]
    input_scales: Float[np.ndarray, " input_scales"]
    trained_input_shift: Float[np.ndarray, "seeds input_scales"]
    descent_input_shift: Float[np.ndarray, " input_scales"]
    expected_input_shift: Float[np.ndarray, " input_scales"]
    task_scales: Float[np.ndarray, " task_scales"]
    trained_task_shift: Float[np.ndarray, "seeds task_scales"]
    descent_task_shift: Float[np.ndarray, " task_scales"]
    key_query: Float[np.ndarray, "seeds width width"]
    projection_value: Float[np.ndarray, "seeds width width"]
    models: tuple[LinearSelfAttentionLearner, ...] = field(
        repr=False, default=(), metadata={"stored": False}
    )

    @property
    def loss_ratio(self) -> Float[np.ndarray, " seeds"]:
        """Trained loss over that of the best step, both on the validation tasks."""
        return self.loss[:, -1] / self.descent_loss

    def summary(self) -> str:
        """The result in a few lines."""
        rows = [
            ("loss, 1/2 E (y_hat - y)^2", self.loss[:, -1]),
            ("loss over that of one step", self.loss_ratio),
            ("prediction difference", self.prediction_difference[:, -1]),
            ("sensitivity cosine", self.sensitivity_cosine[:, -1]),
            ("model difference", self.model_difference[:, -1]),
            ("loss halfway, rescaled", self.interpolated[:, len(self.mixtures) // 2]),
            ("loss halfway, as they are", self.averaged[:, len(self.mixtures) // 2]),
            ("closed form over best", self.population_loss[:, -1] / self.best_loss),
        ]
        lines = [
            f"one step of gradient descent: loss {self.descent_loss:.4f} "
            f"(exact {self.best_loss:.4f}), step size {self.step_size:.3f} "
            f"(exact {self.best_step_size:.3f}); predicting 0: {self.zero_loss:.4f}"
        ]
        lines += [f"{name:<28}" + "  ".join(f"{v:8.4f}" for v in row) for name, row in rows]
        return "\n".join(lines)


def population_objective(
    model: LinearSelfAttentionLearner, task: LinearRegression, n_context: int
) -> torch.Tensor:
    """The exact expected loss of a one-layer model: what the sampled loss estimates."""
    layer = model.layers[0]
    return attention_population_loss(
        layer.key_query()[0], layer.projection_value()[0], task, n_context
    )


def _population_run(config: OneLayerOneStepConfig):
    return train(
        functools.partial(untrained_layer, d=config.d, init_std=config.init_std),
        None,
        TrainingConfig(
            steps=config.population_steps,
            learning_rate=config.population_learning_rate,
            seeds=config.seeds,
        ),
        loss=functools.partial(population_objective, task=config.task, n_context=config.n_context),
        progress=False,
        device="cpu",
    )


@experiment(
    "one_layer_one_step",
    paper="vonoswald2023transformers",
    chapter="gradient_descent/one_layer_one_step",
    configs={
        Scale.LESSON: OneLayerOneStepConfig(),
        Scale.PAPER: OneLayerOneStepConfig(
            batch_size=2048,
            steps=5000,
            learning_rate=1e-3,
            schedule="constant",
            seeds=(0, 1, 2, 3, 4),
            validate_every=100,
        ),
    },
    figure=figures.one_layer_one_step,
)
def one_layer_one_step(
    config: OneLayerOneStepConfig, *, progress: bool = False
) -> OneLayerOneStepResult:
    """Train one linear attention layer and compare it with one step of gradient descent."""
    task, n = config.task, config.n_context
    with one_thread():
        validation = task.sample(config.n_validation, n, generator=seeded(VALIDATION_SEED))
        other = task.sample(config.n_validation, n, generator=seeded(LINE_SEARCH_SEED))
        validation, other = validation.to(config.device), other.to(config.device)
        step_size = line_search_step(other)
        descent = GradientDescent(step_size)
        construction = gradient_descent_attention(
            config.d, 1, n, step_size, dtype=torch.float32
        ).to(config.device)

        measured: list[Agreement] = []

        def measure(model: LinearSelfAttentionLearner) -> float:
            measured.append(agreement(model, descent, validation))
            return mean_squared_error(model, validation)

        run = train(
            functools.partial(untrained_layer, d=config.d, init_std=config.init_std),
            task,
            TrainingConfig(
                steps=config.steps,
                batch_size=config.batch_size,
                n_context=n,
                learning_rate=config.learning_rate,
                betas=config.betas,
                clip=config.clip,
                schedule=config.schedule,
                seeds=config.seeds,
                validate_every=config.validate_every,
            ),
            validate=measure,
            progress=progress,
            device=config.device,
        )
        population = _population_run(config)

        models = [model.to(config.device) for model in run.models()]
        mixtures = np.array(config.mixtures)

        def mixed_losses(rescale: bool) -> np.ndarray:
            return np.array(
                [
                    [
                        mean_squared_error(
                            interpolated(model, construction, float(t), rescale=rescale), validation
                        )
                        for t in mixtures
                    ]
                    for model in models
                ]
            )

        shifted: dict[str, Any] = {
            "task": task,
            "n_context": n,
            "batch_size": config.n_validation,
            "seed": SHIFT_SEED,
            "device": config.device,
        }

        def at_input_scales(learner) -> np.ndarray:
            return loss_at_scales(learner, input_scales=config.input_scales, **shifted)[:, 0]

        def at_task_scales(learner) -> np.ndarray:
            return loss_at_scales(learner, task_scales=config.task_scales, **shifted)[0]

        with torch.no_grad():
            descent_loss = mean_squared_error(descent, validation)
            products = [rescaled_products(model) for model in models]
            best = best_single_step(task, n)
            seeds = len(config.seeds)
            return OneLayerOneStepResult(
                steps=run.history.validation_steps,
                loss=run.history.validation.T,
                **{
                    name: np.array([getattr(row, name) for row in measured]).reshape(-1, seeds).T
                    for name in Agreement._fields
                },
                descent_loss=descent_loss,
                step_size=step_size,
                best_loss=best.loss,
                best_step_size=best.step_size,
                zero_loss=best.loss_of_zero,
                population_steps=population.history.steps,
                population_loss=population.history.loss.T,
                target_size=validation.y_query.abs().mean().item(),
                mixtures=mixtures,
                interpolated=mixed_losses(True),
                averaged=mixed_losses(False),
                input_scales=np.array(config.input_scales),
                trained_input_shift=np.array([at_input_scales(model) for model in models]),
                descent_input_shift=at_input_scales(descent),
                expected_input_shift=np.array(
                    [single_step_loss(task, n, step_size, a) for a in config.input_scales]
                ),
                task_scales=np.array(config.task_scales),
                trained_task_shift=np.array([at_task_scales(model) for model in models]),
                descent_task_shift=at_task_scales(descent),
                key_query=np.stack([kq.cpu().numpy() for kq, _, _ in products]),
                projection_value=np.stack([pv.cpu().numpy() for _, pv, _ in products]),
                models=tuple(model.to("cpu") for model in models),
            )
