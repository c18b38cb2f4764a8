"""The models that objective surgery is done on: their training, and their weights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.mesa_optimization.inner_losses import ObjectiveStack
from icl_lessons.mesa_optimization.surgery import TrainedLayer, read_trained
from icl_lessons.models.attention import SelfAttention
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, models_from, recipe

MEASURE_SEED = 1_310_003


@dataclass(frozen=True, kw_only=True)
class SurgeryTraining:
    """What the trained weights depend on.

    Attributes:
        d, m, n_context: of the contexts of the linear layer.
        layer_batch, layer_steps, layer_learning_rate: of its training.
        transformer_d, transformer_context: of the contexts of the Transformer, of one target.
        width, blocks, heads, mlp_ratio: its shape.
        batch_size, steps, learning_rate: of its training, on every prefix of a context.
        seeds: one of each for every seed.
    """

    d: int = 4
    m: int = 2
    n_context: int = 20
    layer_batch: int = 256
    layer_steps: int = 1500
    layer_learning_rate: float = 1e-2
    transformer_d: int = 3
    transformer_context: int = 12
    width: int = 32
    blocks: int = 2
    heads: int = 4
    mlp_ratio: float = 2.0
    batch_size: int = 64
    steps: int = 1500
    learning_rate: float = 3e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "m", "n_context", "layer_batch", "layer_steps", "transformer_d"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("transformer_context", "width", "blocks", "heads", "batch_size", "steps"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("layer_learning_rate", "learning_rate"):
            check_number(name, getattr(self, name), positive=True)

    @property
    def task(self) -> LinearRegression:
        """The contexts of the linear layer: standard normal inputs and weights, no noise."""
        return LinearRegression(d=self.d, m=self.m, n_query=4)

    @property
    def transformer_task(self) -> LinearRegression:
        """The contexts of the Transformer: the same law, one target."""
        return LinearRegression(d=self.transformer_d)

    def untrained_layer(self, generator: torch.Generator) -> "OneLayer":
        """One head of linear attention with small random matrices."""
        width = self.d + self.m
        return OneLayer(SelfAttention(width, init_std=0.1, generator=generator), self.d)

    def untrained_transformer(self, generator: torch.Generator) -> Transformer:
        """A softmax Transformer with a token for each example."""
        shape = TransformerConfig(
            d=self.transformer_d,
            width=self.width,
            layers=self.blocks,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
        )
        return Transformer(shape, generator=generator)


class OneLayer(nn.Module):
    """One linear attention layer on tokens ``(x, y)``, read at the query's empty target slot.

    Keys are the context alone, so the output needs the context only through ``sum_i e_i e_i^T``.
    """

    def __init__(self, attention: SelfAttention, d: int):
        super().__init__()
        self.attention, self.d = attention, d

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        context = torch.cat([xs, ys], -1)
        compare = self.attention.key_query()[0][:, : self.d]  # the query's other slots are empty
        write = self.attention.projection_value()[0][self.d :]
        return x_query @ compare.mT @ (context.mT @ context) @ write.mT


def trained_layers(state: State, config: SurgeryTraining) -> list[TrainedLayer]:
    """The linear layers, one for each seed, in the form in which they are edited."""
    models = models_from(config.untrained_layer(seeded(0)), state, "layer.")
    return [read_trained(model.attention, config.d, config.n_context) for model in models]


def trained_transformers(state: State, config: SurgeryTraining) -> list[Transformer]:
    """The Transformers, one for each seed."""
    return models_from(config.untrained_transformer(seeded(0)), state, "transformer.")


def _measure(state: State, config: SurgeryTraining) -> dict[str, float]:
    figures = {}
    with one_thread(), torch.no_grad():
        batch = config.task.sample(2000, config.n_context, generator=seeded(MEASURE_SEED))
        for seed, layer in zip(config.seeds, trained_layers(state, config), strict=True):
            figures[f"layer {seed}"] = mean_squared_error(ObjectiveStack([layer]), batch)
        batch = config.transformer_task.sample(
            1000, config.transformer_context, generator=seeded(MEASURE_SEED)
        )
        for seed, model in zip(config.seeds, trained_transformers(state, config), strict=True):
            figures[f"transformer {seed}"] = mean_squared_error(model, batch)
    return figures


@recipe("surgery", config=SurgeryTraining(), measure=_measure)
def surgery_weights(config: SurgeryTraining) -> State:
    """The weights, named ``layer.*`` and ``transformer.*``, one row for each seed."""
    layer = train(
        config.untrained_layer,
        config.task,
        TrainingConfig(
            steps=config.layer_steps,
            batch_size=config.layer_batch,
            n_context=config.n_context,
            learning_rate=config.layer_learning_rate,
            schedule="linear_decay",
            clip=1.0,
            seeds=config.seeds,
        ),
        progress=False,
        device=config.device,
    )
    transformer = train(
        config.untrained_transformer,
        config.transformer_task,
        TrainingConfig(
            steps=config.steps,
            batch_size=config.batch_size,
            n_context=config.transformer_context,
            learning_rate=config.learning_rate,
            schedule="linear_decay",
            clip=1.0,
            seeds=config.seeds,
        ),
        loss="prefixes",
        progress=False,
        device=config.device,
    )
    return {f"layer.{name}": value for name, value in layer.state.items()} | {
        f"transformer.{name}": value for name, value in transformer.state.items()
    }
