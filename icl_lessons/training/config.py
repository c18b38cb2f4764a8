"""The settings of a training run, and the learning rate they give each step."""

import math
from dataclasses import dataclass
from typing import Literal

from icl_lessons.runtime import check_choice, check_integer, check_number

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "linear_decay", "cosine", "triangle")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained. Step ``t`` (from 0) is the one that makes update ``t + 1``.

    Attributes:
        steps: updates of the weights.
        batch_size: fresh contexts in each step, for each seed.
        n_context: examples in each context.
        learning_rate: of the optimizer, before ``schedule`` and ``warmup``.
        optimizer: ``"adam"`` or ``"adamw"``, which differ in what weight decay means.
        betas: decay rates of Adam's two averages.
        epsilon: Adam's guard against division by 0.
        weight_decay: 0 or more.
        schedule: factor on the learning rate over the run. ``"constant"``: 1. ``"linear_decay"``: 1
            for the first half, then linearly to 0. ``"cosine"``: half a cosine from 1 to 0.
            ``"triangle"``: linearly up for the first half and down for the second.
        warmup: steps over which a second factor rises linearly to 1.
        clip: largest norm of the gradient of one model (each seed by itself); ``None`` for none.
        seeds: one model each, all trained as one program. A seed decides its model's start and its
            data, whatever other seeds are trained beside it.
        log_every: the history keeps the loss of every so manyth step.
        validate_every: steps between validations, where ``train`` is given one.
        checkpoint_every: steps between checkpoints, where ``train`` is given a folder.
        target_loss: stop when every seed's loss is at or below it: the validation, where there is
            one, otherwise the loss of a logged step. ``None`` for never.
        patience: stop when for so many such looks no seed has improved on its best. ``None`` for
            never.
        sample_on_device: draw the data on the device of the model instead of the CPU; another
            stream of the same law, and faster on a GPU.
    """

    steps: int
    batch_size: int = 64
    n_context: int = 10
    learning_rate: float | int = 1e-3
    optimizer: Literal["adam", "adamw"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float | int = 1e-8
    weight_decay: float | int = 0.0
    schedule: Literal["constant", "linear_decay", "cosine", "triangle"] = "constant"
    warmup: int = 0
    clip: float | int | None = None
    seeds: tuple[int, ...] = (0,)
    log_every: int = 1
    validate_every: int = 100
    checkpoint_every: int = 1000
    target_loss: float | int | None = None
    patience: int | None = None
    sample_on_device: bool = False

    def __post_init__(self):
        for name in (
            "steps",
            "batch_size",
            "n_context",
            "log_every",
            "validate_every",
            "checkpoint_every",
        ):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("warmup", self.warmup, at_least=0)
        check_number("learning_rate", self.learning_rate, positive=True)
        check_number("epsilon", self.epsilon, positive=True)
        check_number("weight_decay", self.weight_decay)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        if self.clip is not None:
            check_number("clip", self.clip, positive=True)
        if self.patience is not None:
            check_integer("patience", self.patience, at_least=1)
        if self.target_loss is not None and not math.isfinite(self.target_loss):
            raise ValueError(f"target_loss: got {self.target_loss!r}; use a finite number or None")
        object.__setattr__(self, "betas", tuple(self.betas))
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: got {self.betas}; use two numbers from 0 up to, not with, 1")
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")
        for seed in self.seeds:
            check_integer("seeds", seed, at_least=0)
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} holds one twice; each would give the same model")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step ``step``, from 0."""
        done = step / self.steps
        factor = {
            "constant": 1.0,
            "linear_decay": min(1.0, 2 * (1 - done)),
            "cosine": 0.5 * (1 + math.cos(math.pi * done)),
            "triangle": min(2 * (step + 1) / self.steps, 2 * (1 - done), 1.0),
        }[self.schedule]
        if step < self.warmup:
            factor *= (step + 1) / self.warmup
        return self.learning_rate * factor
