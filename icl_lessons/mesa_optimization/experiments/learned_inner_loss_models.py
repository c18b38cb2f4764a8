"""The models whose inner loss is read: layers with a free value map, and two Transformers."""

import functools
from dataclasses import dataclass

import torch

from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.mesa_optimization.learned_inner_loss import (
    LearnedObjective,
    NoisyLabels,
    negative_cosine,
)
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import check_integer, check_number, seeded
from icl_lessons.training import TrainingConfig, query_loss, train
from icl_lessons.types import Batch, Learner
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED = 1_000_099
SETTINGS = ("gaussian", "outliers", "outliers_2d", "cosine")


@dataclass(frozen=True, kw_only=True)
class LearnedInnerLossTraining:
    """How the models are trained; what their weights depend on and nothing else.

    Attributes:
        d, n_context: the task.
        noise_std, outlier_share, outlier_std: of labels (outliers where a setting has them).
        layers, hidden: of the layers with a trained value map.
        width, heads: of the softmax Transformer, two blocks.
        steps, transformer_steps: updates of either.
        batch_size, transformer_batch_size, learning_rate: for all models.
        seeds: one model each.
        device: where to compute.
    """

    d: int = 4
    n_context: int = 20
    noise_std: float = 0.3
    outlier_share: float = 0.2
    outlier_std: float = 5.0
    layers: int = 3
    hidden: int = 16
    width: int = 32
    heads: int = 4
    steps: int = 1200
    transformer_steps: int = 900
    batch_size: int = 128
    transformer_batch_size: int = 64
    learning_rate: float = 3e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "layers", "hidden", "width", "heads", "steps"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("noise_std", "outlier_share", "outlier_std", "learning_rate"):
            check_number(name, getattr(self, name))
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    def task(self, setting: str) -> NoisyLabels:
        """The tasks of a setting; of the Transformers, those of ``gaussian``."""
        outliers = setting.startswith("outliers")
        return NoisyLabels(
            d=self.d,
            m=2 if setting in ("outliers_2d", "cosine") else 1,
            noise_std=self.noise_std,
            outlier_share=self.outlier_share if outliers else 0.0,
            outlier_std=self.outlier_std,
        )

    def untrained(self, name: str, generator: torch.Generator) -> LearnedObjective | Transformer:
        """The model of a setting, or a Transformer, at its start."""
        if name in SETTINGS:
            return LearnedObjective(self.task(name).m, self.layers, self.hidden, generator)
        shape = {"layers": 2, "heads": self.heads, "width": self.width}
        if name == "linear_attention":
            shape = {"layers": 1, "heads": 1, "width": 16, "attention": "linear"}
            shape |= {"mlp_ratio": 0, "layer_norm": None}
        return Transformer(TransformerConfig(d=self.d, **shape), generator=generator)


def base_loss(setting: str):
    """What a setting is trained on: ``1/2 |y_hat - y|^2`` at the queries, or minus the cosine."""
    return negative_cosine if setting == "cosine" else query_loss


def measured_loss(setting: str, learner: Learner, batch: Batch) -> float:
    """The same for any learner."""
    if setting == "cosine":
        return negative_cosine(learner, batch).item()
    return mean_squared_error(learner, batch)


def held_out(config: LearnedInnerLossTraining, setting: str, contexts: int) -> Batch:
    """Contexts on which finished models are measured."""
    return config.task(setting).sample(contexts, config.n_context, generator=seeded(TEST_SEED))


@torch.no_grad()
def measured_losses(state: State, config: LearnedInnerLossTraining) -> dict[str, float]:
    """Loss of every trained model on 1000 contexts."""
    return {
        f"{name} {seed}": measured_loss(name, model, held_out(config, name, 1000))
        for name in (*SETTINGS, "linear_attention", "softmax")
        for seed, model in zip(config.seeds, trained_models(state, config, name), strict=True)
    }


def trained_models(state: State, config: LearnedInnerLossTraining, name: str) -> list:
    """The models of that name, one for each seed."""
    return models_from(config.untrained(name, seeded(0)), state, f"{name}.")


@recipe("learned_inner_loss", config=LearnedInnerLossTraining(), measure=measured_losses)
def learned_inner_loss_weights(config: LearnedInnerLossTraining) -> State:
    """Weights of all models as ``name.weight``."""
    state: State = {}
    for name in (*SETTINGS, "linear_attention", "softmax"):
        own = name in SETTINGS
        run = train(
            functools.partial(config.untrained, name),
            config.task(name),
            TrainingConfig(
                steps=config.steps if own else config.transformer_steps,
                batch_size=config.batch_size if own else config.transformer_batch_size,
                n_context=config.n_context,
                learning_rate=config.learning_rate,
                schedule="linear_decay",
                warmup=50,
                clip=1.0,
                seeds=config.seeds,
            ),
            loss=base_loss(name),
            progress=False,
            device=config.device,
        )
        state |= {f"{name}.{key}": tensor for key, tensor in run.state.items()}
    return state
