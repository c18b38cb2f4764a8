"""Models fine-tuned on their outputs: their training, and their weights."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from icl_lessons.mesa_optimization.output_fine_tuning import (
    FineTuned,
    InnerThenReadout,
    PoisonedLabels,
    Reward,
    Trains,
    lost_reward,
)
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, models_from, recipe

MEASURE_SEED = 1_906_301
PRESSURES = (1.0, 3.0, 10.0, 30.0)
# What is done to the pretrained model: which weights move, and what the reward punishes with.
REWARDED: dict[str, tuple[Trains, float]] = {
    **{f"punish {p:g}": ("all", p) for p in PRESSURES},
    "readout frozen": ("inner", 1.0),
    "inner frozen": ("readout", 1.0),
}
POISONED: dict[str, Trains] = {"poisoned": "all", "poisoned, readout frozen": "inner"}
TREATMENTS = (*REWARDED, *POISONED)
# Of the Transformers, as many further steps without a reward: the loss that they were trained on,
# and the same at the query alone, which is all that a reward looks at.
CONTINUED = {"no reward": "prefixes", "no reward, query": "query"}


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What the trained weights depend on.

    Attributes:
        d, n_context: of the task; tasks have ``E |w|^2 = 1``.
        hidden: units of the readout's hidden layer.
        steps, learning_rate: of pretraining.
        tuning_steps, tuning_rate: of fine-tuning on the reward, and on poisoned labels.
        batch_size: of each.
        poison_std: noise on the one label.
        floor: of the reward.
        seeds: one model each, and every treatment of it.
    """

    d: int = 5
    n_context: int = 20
    hidden: int = 16
    steps: int = 1200
    learning_rate: float = 5e-3
    tuning_steps: int = 1000
    tuning_rate: float = 1e-3
    batch_size: int = 128
    poison_std: float = 20.0
    floor: float = -0.5
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "hidden", "steps", "tuning_steps", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("poison_std", self.poison_std)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def task(self) -> LinearRegression:
        """Clean regression, targets of variance 1."""
        return LinearRegression(d=self.d, task_scale=self.d**-0.5)

    def build(self, generator: torch.Generator) -> nn.Module:
        """A model before training."""
        return InnerThenReadout(self.d, self.hidden, generator=generator)

    def settings(self, *, tuning: bool) -> TrainingConfig:
        """Of pretraining or of fine-tuning."""
        return TrainingConfig(
            steps=self.tuning_steps if tuning else self.steps,
            batch_size=self.batch_size,
            n_context=self.n_context,
            learning_rate=self.tuning_rate if tuning else self.learning_rate,
            schedule="linear_decay",
            clip=1.0,
            seeds=self.seeds,
        )

    def tuned(
        self, models: Sequence[nn.Module], trains: Trains, punish: float | None
    ) -> dict[str, torch.Tensor]:
        """Weights after fine-tuning on the reward, or with ``None`` on poisoned labels."""
        starts = iter(models)

        def start(_: torch.Generator) -> FineTuned:
            model = next(starts)
            return FineTuned(copy.deepcopy(model), copy.deepcopy(model), trains)

        poisoned = punish is None
        reward = None if poisoned else Reward(floor=self.floor, punish=punish)
        state = train(
            start,
            PoisonedLabels(self.task, self.poison_std) if poisoned else self.task,
            self.settings(tuning=True),
            loss="query" if poisoned else functools.partial(lost_reward, reward=reward),
            progress=False,
            device=self.device,
        ).state
        own = {k: v for k, v in state.items() if k.startswith("model.")}
        return {name.removeprefix("model."): tensor for name, tensor in own.items()}

    def continued(self, models: Sequence[nn.Module], loss: str) -> dict[str, torch.Tensor]:
        """Weights after as many steps of the same optimiser on a loss of pretraining."""
        starts = iter(models)
        return train(
            lambda _: copy.deepcopy(next(starts)).requires_grad_(True),
            self.task,
            self.settings(tuning=True),
            loss=loss,
            progress=False,
            device=self.device,
        ).state


@dataclass(frozen=True, kw_only=True)
class TransformerTuning(FineTuning):
    """The same for a softmax Transformer, all of whose weights move.

    Attributes:
        width, layers, heads, mlp_ratio: of the Transformers.
    """

    d: int = 3
    n_context: int = 12
    width: int = 28
    layers: int = 2
    heads: int = 4
    mlp_ratio: float = 1.0
    steps: int = 800
    tuning_steps: int = 300
    batch_size: int = 32

    def build(self, generator: torch.Generator) -> nn.Module:
        """A Transformer before training."""
        shape = TransformerConfig(
            d=self.d,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
        )
        return Transformer(shape, generator=generator)


def models_of(state: State, config: FineTuning, treatment: str) -> list[nn.Module]:
    """The models after a treatment, or ``"before"`` any; one for each seed."""
    return models_from(config.build(seeded(0)), state, f"{treatment}.")


def _measure(state: State, config: FineTuning) -> dict[str, float]:
    """Share of forbidden outputs and mean square of the outputs, for every model."""
    batch = config.task.sample(4096, config.n_context, generator=seeded(MEASURE_SEED))
    reward, figures = Reward(floor=config.floor), {}
    with torch.no_grad(), one_thread():
        for treatment in dict.fromkeys(name.split(".")[0] for name in state):
            for seed, model in zip(config.seeds, models_of(state, config, treatment), strict=True):
                output = model(*batch.context)
                figures[f"{treatment} {seed}: mean square"] = output.square().mean().item()
                figures[f"{treatment} {seed}: reward"] = reward(output, batch.y_query).item()
    return figures


def _pretrained(config: FineTuning, loss: str) -> State:
    return train(
        config.build,
        config.task,
        config.settings(tuning=False),
        loss=loss,
        progress=False,
        device=config.device,
    ).state


def _with_prefix(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


@recipe("output_fine_tuning", config=FineTuning(), measure=_measure)
def fine_tuned_weights(config: FineTuning) -> State:
    """Weights before, and after every treatment, as ``treatment.name``, a row for each seed."""
    pretrained = _pretrained(config, "query")
    models = models_from(config.build(seeded(0)), pretrained)
    state = _with_prefix("before", pretrained)
    for name, (trains, punish) in REWARDED.items():
        state |= _with_prefix(name, config.tuned(models, trains, punish))
    for name, trains in POISONED.items():
        state |= _with_prefix(name, config.tuned(models, trains, None))
    return state


@recipe("output_fine_tuning_transformers", config=TransformerTuning(), measure=_measure)
def transformer_weights(config: TransformerTuning) -> State:
    """Transformers before fine-tuning and after two rewards."""
    pretrained = _pretrained(config, "prefixes")
    models = models_from(config.build(seeded(0)), pretrained)
    state = _with_prefix("before", pretrained)
    for punish in (PRESSURES[0], PRESSURES[-1]):
        state |= _with_prefix(f"punish {punish:g}", config.tuned(models, "all", punish))
    return state


@recipe("output_fine_tuning_drift", config=TransformerTuning(), measure=_measure)
def drift_weights(config: TransformerTuning) -> State:
    """The same Transformers after as many further steps without a reward."""
    models, state = models_of(transformer_weights(config), config, "before"), {}
    for name, loss in CONTINUED.items():
        state |= _with_prefix(name, config.continued(models, loss))
    return state
