"""Transformers trained where a cue tells the target: their training, and their weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from icl_lessons.measures.agreement import squared_error
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.spurious_feature import SpuriousFeature
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, models_from, recipe

MEASURE_SEED = 1_906_001
MODEL_LAWS = ("corr", "mixed")  # what the Transformers are trained on


@dataclass(frozen=True, kw_only=True)
class CueTraining:
    """What the trained weights depend on.

    Attributes:
        d: core inputs; the cue comes on top.
        n_context: examples in a context.
        width, layers, heads, mlp_ratio: of the Transformers.
        steps: updates under ``"corr"`` and under ``"mixed"``.
        batch_size, learning_rate, clip: of the training, on every prefix of a context.
        seeds: one model for each law and seed.
    """

    d: int = 3
    n_context: int = 12
    width: int = 32
    layers: int = 2
    heads: int = 4
    mlp_ratio: float = 1.0
    steps: tuple[int, int] = (500, 1200)
    batch_size: int = 32
    learning_rate: float = 5e-3
    clip: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "width", "layers", "heads", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        if len(self.steps) != len(MODEL_LAWS):
            raise ValueError(f"steps: {len(self.steps)} numbers; one for each of {MODEL_LAWS}")
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    def task(self, mode: str) -> SpuriousFeature:
        """The task in one mode."""
        return SpuriousFeature(d=self.d, mode=mode)

    def build(self, generator: torch.Generator) -> Transformer:
        """A Transformer before training: a token for each example, attention by softmax."""
        shape = TransformerConfig(
            d=self.d + 1,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
        )
        return Transformer(shape, generator=generator)


def trained_models(state: State, config: CueTraining, law: str) -> list[Transformer]:
    """The models of one training law, one for each seed."""
    return models_from(config.build(seeded(0)), state, f"{law}.")


def _measure(state: State, config: CueTraining) -> dict[str, float]:
    """Error of every model where the cue follows and where it is free."""
    errors = {}
    with one_thread():
        for mode in ("corr", "dec"):
            batch = config.task(mode).sample(1024, config.n_context, generator=seeded(MEASURE_SEED))
            for law in MODEL_LAWS:
                models = trained_models(state, config, law)
                for seed, model in zip(config.seeds, models, strict=True):
                    errors[f"{law} {seed} on {mode}"] = squared_error(model, batch)
    return errors


@recipe("goal_misgeneralization", config=CueTraining(), measure=_measure)
def cue_weights(config: CueTraining) -> State:
    """Transformers for each law, named ``corr.*`` and ``mixed.*``, one row for each seed."""
    state: dict[str, Tensor] = {}
    for law, steps in zip(MODEL_LAWS, config.steps, strict=True):
        run = train(
            config.build,
            config.task(law),
            TrainingConfig(
                steps=steps,
                batch_size=config.batch_size,
                n_context=config.n_context,
                learning_rate=config.learning_rate,
                schedule="linear_decay",
                clip=config.clip,
                seeds=config.seeds,
            ),
            loss="prefixes",
            progress=False,
            device=config.device,
        )
        state |= {f"{law}.{name}": tensor for name, tensor in run.state.items()}
    return state
