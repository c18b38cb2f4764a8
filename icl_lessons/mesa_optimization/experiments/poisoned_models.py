"""The models that poisoned contexts are tried on: their training, and their weights."""

import functools
import itertools
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.measures.agreement import squared_error
from icl_lessons.mesa_optimization.adversarial_training import (
    PoisonedRegression,
    attacked_loss,
    prefix_error,
    unit_task,
)
from icl_lessons.models.attention import SelfAttention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.training import TrainingConfig, query_loss, train
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED = 1_510_007
KINDS = ("linear", "softmax")
REGIMES = ("clean", "noise", "attack")  # what a model is trained on


class LinearAttentionLayer(nn.Module):
    """One head of linear self-attention on ``(x, y)`` tokens, read as a learner.

    The query's target slot starts at 0 and its final value is the prediction. Queries are no keys.
    Nothing divides by ``N``: a trained layer holds its step over the ``N`` it was trained with.
    """

    def __init__(self, d: int, *, generator: torch.Generator, init_std: float = 0.3):
        super().__init__()
        self.layer = SelfAttention(d + 1, init_std=init_std, generator=generator)

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context 1"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query 1"]:
        """What the layer adds to the target slots of the queries, whose rows alone are computed."""
        tokens = joint_tokens(xs, ys, x_query)
        context, query = tokens[:, : xs.shape[1]], tokens[:, xs.shape[1] :]
        key_query, projection_value = self.layer.key_query()[0], self.layer.projection_value()[0]
        scores = query @ key_query.mT @ context.mT
        return scores @ context @ projection_value[-1:].mT


@dataclass(frozen=True, kw_only=True)
class PoisonedModelsTraining:
    """What the trained weights depend on.

    Attributes:
        d, n_context: of the contexts, targets of variance 1 without noise.
        noise_std: what one label of each context is hit by in the regime ``"noise"``.
        budget: the largest change of a label in the regime ``"attack"``.
        width, layers, heads: of the transformer.
        batch_size, steps, learning_rate: of its training on clean contexts.
        further_steps, further_rate: of its further training in each other regime, from there.
        linear_batch, linear_steps, linear_rate: of the linear layer, first and further alike.
        seeds: one model of each kind and regime for each.
    """

    d: int = 5
    n_context: int = 20
    noise_std: float = 20.0
    budget: float = 20.0
    width: int = 32
    layers: int = 2
    heads: int = 2
    batch_size: int = 32
    steps: int = 900
    learning_rate: float = 4e-3
    further_steps: int = 500
    further_rate: float = 3e-3
    linear_batch: int = 256
    linear_steps: int = 800
    linear_rate: float = 1e-2
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "batch_size", "steps", "further_steps", "linear_steps"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("noise_std", "budget"):
            check_number(name, getattr(self, name))
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    def softmax(self, generator: torch.Generator) -> Transformer:
        """The transformer before training."""
        shape = TransformerConfig(d=self.d, width=self.width, layers=self.layers, heads=self.heads)
        return Transformer(shape, generator=generator)

    def linear(self, generator: torch.Generator) -> LinearAttentionLayer:
        """The linear layer before training."""
        return LinearAttentionLayer(self.d, generator=generator)

    def task(self, regime: str):
        """What a regime's contexts are drawn from; attacks are made in the loss."""
        poisoned = PoisonedRegression(d=self.d, noise_std=self.noise_std)
        return poisoned if regime == "noise" else unit_task(self.d)

    def run(self, kind: str, further: bool = False) -> TrainingConfig:
        """The training of one kind of model, from its start or from one trained before."""
        if kind == "linear":
            steps, size, rate = self.linear_steps, self.linear_batch, self.linear_rate
        else:
            steps = self.further_steps if further else self.steps
            rate = self.further_rate if further else self.learning_rate
            size = self.batch_size
        return TrainingConfig(
            steps=steps,
            batch_size=size,
            n_context=self.n_context,
            learning_rate=rate,
            schedule="linear_decay",
            clip=1.0,
        )


def poisoned_models(
    config: PoisonedModelsTraining, state: State, kind: str, regime: str
) -> list[nn.Module]:
    """The models of one kind, ``"linear"`` or ``"softmax"``, and regime, one for each seed."""
    return models_from(getattr(config, kind)(generator=seeded(0)), state, f"{kind}.{regime}.")


def _measured(state: State, config: PoisonedModelsTraining, regimes) -> dict[str, float]:
    """Error of every model on clean contexts and on contexts with one label hit."""
    found = {}
    with torch.no_grad(), one_thread():
        for law in ("clean", "noise"):
            task = config.task(law)
            batch = task.sample(512, config.n_context, generator=seeded(TEST_SEED))
            for kind, regime in itertools.product(KINDS, regimes):
                models = poisoned_models(config, state, kind, regime)
                for seed, model in zip(config.seeds, models, strict=True):
                    found[f"{kind} {regime} {seed}, {law}"] = squared_error(model, batch)
    return found


@recipe(
    "poisoned_contexts",
    config=PoisonedModelsTraining(),
    measure=functools.partial(_measured, regimes=REGIMES[:1]),
)
def clean_weights(config: PoisonedModelsTraining) -> State:
    """Both kinds of model trained on clean contexts, ``softmax.clean.*`` ..., a row a seed."""
    state: State = {}
    for kind, loss in (("linear", query_loss), ("softmax", prefix_error)):
        run = train(
            getattr(config, kind),
            config.task("clean"),
            replace(config.run(kind), seeds=config.seeds),
            loss=loss,
            progress=False,
            device=config.device,
        )
        state |= {f"{kind}.clean.{key}": value for key, value in run.state.items()}
    return state


@recipe(
    "adversarial_training",
    config=PoisonedModelsTraining(),
    measure=functools.partial(_measured, regimes=REGIMES[1:]),
)
def poisoned_weights(config: PoisonedModelsTraining) -> State:
    """The same models trained further on poisoned contexts, ``softmax.noise.*`` and so on.

    Kept in half precision, and measured as kept: two regimes in the space of one.
    """
    clean, state = clean_weights(config), {}
    attack = functools.partial(attacked_loss, budget=config.budget)
    for kind, plain in (("linear", query_loss), ("softmax", prefix_error)):
        starts = poisoned_models(config, clean, kind, "clean")
        for regime, loss in (("noise", plain), ("attack", attack)):
            runs = [
                train(
                    start.requires_grad_(True),
                    config.task(regime),
                    replace(config.run(kind, further=True), seeds=(1000 + seed,)),
                    loss=loss,
                    progress=False,
                    device=config.device,
                ).state
                for start, seed in zip(starts, config.seeds, strict=True)
            ]
            state |= {
                f"{kind}.{regime}.{key}": torch.cat([run[key] for run in runs]).half()
                for key in runs[0]
            }
    return state
