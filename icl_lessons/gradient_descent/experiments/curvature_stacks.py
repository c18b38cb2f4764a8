"""Stacks of linear attention layers: how they are trained, and where their weights are kept."""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from icl_lessons.gradient_descent.curvature import LinearStack, untrained_stack
from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task
from icl_lessons.training import TrainingConfig, train
from icl_lessons.types import Batch
from icl_lessons.zoo import State, models_from, recipe

VALIDATION_SEED = 1_000_003


@dataclass(frozen=True)
class Stack:
    """One architecture and how long it is trained.

    Attributes:
        layers: how often the tokens are moved.
        shared: by one layer again and again, or by layers of their own.
        steps: updates.
        learning_rate: of Adam.
        clip: largest norm of the gradient. A context with a large eigenvalue has a loss far above
            the others'; the released code clips one or two layers at 0.001, which makes every
            gradient count alike under Adam, and the paper names 10.
        token_clip: limit on the tokens' entries after each layer.
        init_std: of every matrix at the start. A single layer never reads the inputs that it has
            moved, so the weights that move them stay as they started: small, in the paper.
    """

    layers: int
    shared: bool
    steps: int
    learning_rate: float
    clip: float | None = 1e-3
    token_clip: float | None = None
    init_std: float = 0.05

    def __post_init__(self):
        check_integer("layers", self.layers, at_least=1)
        check_integer("steps", self.steps, at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        check_number("init_std", self.init_std)

    @property
    def name(self) -> str:
        """Such as ``"2 layers, shared"``."""
        if self.layers == 1:
            return "1 layer"
        return f"{self.layers} layers, {'shared' if self.shared else 'separate'}"

    def build(self, generator: torch.Generator, *, d: int) -> LinearStack:
        """The stack before training."""
        return untrained_stack(
            generator,
            d=d,
            layers=self.layers,
            shared=self.shared,
            init_std=self.init_std,
            clip=self.token_clip,
        )


@dataclass(frozen=True, kw_only=True)
class StackTraining:
    """What the weights depend on; the defaults are the lesson's.

    Attributes:
        d, n_context, half_range: the task: inputs ``U(-half_range, half_range)^d``.
        stacks: the architectures.
        batch_size, betas, schedule: of the training.
        seeds: one model of each architecture for each.
        n_validation: tasks on which everything is measured.
        measurements: how often the loss is measured while training.
        device: where to compute.
    """

    d: int = 10
    n_context: int = 10
    half_range: float = 0.5
    stacks: tuple[Stack, ...] = (
        Stack(1, True, 800, 5e-3, init_std=0.0135),
        Stack(2, True, 1500, 5e-3),
        Stack(2, False, 2000, 5e-3),
        Stack(3, False, 3000, 3e-3, clip=10.0),
    )
    batch_size: int = 512
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: str = "linear_decay"
    seeds: tuple[int, ...] = (0, 1, 2)
    n_validation: int = 10_000
    measurements: int = 25
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "batch_size", "n_validation", "measurements"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("half_range", self.half_range, positive=True)
        for name in ("seeds", "stacks"):
            if not getattr(self, name):
                raise ValueError(f"{name}: got none; give at least one")

    @property
    def task(self) -> LinearRegression:
        """The regression tasks of this experiment."""
        return von_oswald_task(self.d, half_range=self.half_range)

    def validation(self) -> Batch:
        """The tasks on which everything is measured."""
        generator = seeded(VALIDATION_SEED)
        return self.task.sample(self.n_validation, self.n_context, generator=generator)


def _validation_losses(state: State, config: StackTraining) -> dict[str, float]:
    """Mean loss over seeds of each stack."""
    batch = config.validation()
    with torch.no_grad(), one_thread():
        return {
            stack.name: float(
                np.mean([mean_squared_error(m, batch) for m in stack_models(state, config, stack)])
            )
            for stack in config.stacks
        }


@recipe("curvature", config=StackTraining(), measure=_validation_losses)
def trained_stacks(config: StackTraining) -> State:
    """Train every stack for every seed; their weights, and their losses over training."""
    state: State = {}
    validation = config.validation()
    for stack in config.stacks:
        run = train(
            functools.partial(stack.build, d=config.d),
            config.task,
            TrainingConfig(
                steps=stack.steps,
                batch_size=config.batch_size,
                n_context=config.n_context,
                learning_rate=stack.learning_rate,
                betas=config.betas,
                clip=stack.clip,
                schedule=config.schedule,
                seeds=config.seeds,
                validate_every=max(1, stack.steps // config.measurements),
            ),
            validate=validation,
            progress=False,
            device=config.device,
        )
        state |= {f"{stack.name}/{name}": value for name, value in run.state.items()}
        state[f"{stack.name}/history/steps"] = torch.from_numpy(run.history.validation_steps)
        state[f"{stack.name}/history/loss"] = torch.from_numpy(run.history.validation.T.copy())
    return state


def stack_models(state: State, config: StackTraining, stack: Stack) -> list[LinearStack]:
    """The trained stacks of one architecture, one for each seed."""
    template = stack.build(seeded(0), d=config.d)
    return models_from(template, state, f"{stack.name}/")
