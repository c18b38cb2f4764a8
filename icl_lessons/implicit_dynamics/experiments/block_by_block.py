"""A stack that learned regression in context, read as weight updates in every block.

What Innocenti and Achour plot of their stacks, each beside the same stack before training: how the
updates of positions and of blocks resemble one another, the rank of their sum, and how far a stack
with updates and without its context is from the stack with it.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.implicit_dynamics.block_by_block import (
    alignment,
    last_with_others,
    pairs,
    regression_stack,
    run_updated,
    stack_path,
    stack_streams,
    stack_update,
)
from icl_lessons.implicit_dynamics.contextual_blocks import TransformerBlock, block_output
from icl_lessons.implicit_dynamics.figures import block_by_block as figures
from icl_lessons.implicit_dynamics.rank_one_update import ImplicitUpdate, update_between
from icl_lessons.implicit_dynamics.token_path import token_path
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.training import TrainingConfig, train
from icl_lessons.training.loop import START, stream
from icl_lessons.types import Batch
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED = 2_512_112


@dataclass(frozen=True, kw_only=True)
class StackTraining:
    """What the weights of the trained stacks depend on.

    Attributes:
        d: coordinates of an input; tasks and inputs are standard normal, without noise.
        n_context: examples in a training context.
        width, layers, heads, activation, layer_norm: of the transformer (pair layout, no
            positions).
        loss: ``"prefixes"``, at every example, or ``"query"``.
        steps, batch_size, learning_rate, schedule, clip: of Adam.
        seeds: one stack each.
    """

    d: int = 2
    n_context: int = 20
    width: int = 24
    layers: int = 4
    heads: int = 4
    activation: Literal["relu2", "gelu", "relu"] = "relu2"
    layer_norm: Literal["pre"] | None = "pre"
    loss: Literal["prefixes", "query"] = "prefixes"
    steps: int = 600
    batch_size: int = 32
    learning_rate: float = 4e-3
    schedule: Literal["constant", "linear_decay", "cosine", "triangle"] = "linear_decay"
    clip: float | None = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "width", "layers", "heads", "steps", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide width {self.width}")

    def build(self, generator: torch.Generator) -> Transformer:
        """A stack before training."""
        names = ("d", "width", "layers", "heads", "activation", "layer_norm")
        shape = TransformerConfig(**{name: getattr(self, name) for name in names})
        return Transformer(shape, generator=generator)

    @property
    def task(self) -> LinearRegression:
        """The tasks."""
        return LinearRegression(d=self.d)


# Width 3 for the three numbers of a token, five blocks, and the training of the published code;
# there the MLP has a second hidden layer, and no read-in stands before the first block.
INNOCENTI = {
    "n_context": 50,
    "width": 3,
    "layers": 5,
    "heads": 3,
    "activation": "gelu",
    "layer_norm": None,
    "loss": "query",
    "steps": 100,
    "batch_size": 128,
    "learning_rate": 0.05,
    "schedule": "constant",
    "clip": None,
}


def _measure(state: State, config: StackTraining) -> dict[str, float]:
    batch = config.task.sample(1024, config.n_context, generator=seeded(TEST_SEED))
    with torch.no_grad(), one_thread():
        models = models_from(config.build(seeded(0)), state)
        return {
            f"loss {seed}": 0.5 * (model(*batch.context) - batch.y_query).square().mean().item()
            for seed, model in zip(config.seeds, models, strict=True)
        }


def _train(config: StackTraining) -> State:
    names = ("steps", "batch_size", "n_context", "learning_rate", "schedule", "clip", "seeds")
    settings = TrainingConfig(**{name: getattr(config, name) for name in names})
    run = train(config.build, config.task, settings, loss=config.loss, progress=False,
                device=config.device)  # fmt: skip
    return run.state


@recipe("block_by_block", config=StackTraining(), measure=_measure)
def stack_weights(config: StackTraining) -> State:
    """Trained stacks, one row for each seed."""
    return _train(config)


@recipe("innocenti_stacks", config=StackTraining(**INNOCENTI), measure=_measure)
def innocenti_weights(config: StackTraining) -> State:
    """Stacks of the size of Innocenti and Achour's, one row for each seed."""
    return _train(config)


@dataclass(frozen=True, kw_only=True)
class BlockByBlockConfig(StackTraining):
    """The stacks, and what is measured of them.

    Attributes:
        n_tasks: contexts, with one query each.
    """

    n_tasks: int = 40

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_tasks", self.n_tasks, at_least=1)

    @property
    def training(self) -> StackTraining:
        """What the weights depend on."""
        names = StackTraining.__dataclass_fields__
        return StackTraining(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class StackMeasures:
    """Of one group of stacks. Every alignment is ``<D_i, D_j> / (|D_i| |D_j|)``, mean over tasks.

    Attributes:
        loss: ``1/2 E (y_hat - y)^2`` with the context, ``[seeds]``.
        loss_alone: of the query without it.
        residual, residual_single: largest relative error of the streams of the stack with updates
            and without context, in float64 and in float32, ``[seeds]``.
        squared_single: mean squared difference of what leaves the last block, in float32.
        relative_size: median of ``|Delta|_F / |W|_F`` at the query, ``[seeds, layers]``.
        blocks: alignment of the query's updates in different blocks, ``[seeds, layers, layers]``.
        to_query: alignment of the positions' updates, each relative to the query alone, the last
            position being the query's own, ``[seeds, layers, n + 1, n + 1]``.
        tokens_alone: that of the examples where none sees any other: what tokens share by
            themselves, ``[seeds, layers, n, n]``.
        to_first: as ``to_query``, relative to the first example alone, whose own update is 0;
            positions from the second on, ``[seeds, layers, n, n]``.
        to_self: the same, each relative to its own token alone, so that only the context counts.
        spectrum: singular values of the sum of the updates ``to_self``, over the largest, mean
            over tasks, ``[seeds, layers, width]``.
        rank_to_query: largest second singular value of the sum of those ``to_query`` over the
            first, ``[seeds, layers]``.
        increments: mean ``|Delta_{i+1} - Delta_i|_F`` as the stack reads its context token by
            token, ``[seeds, layers, n]``.
        increments_fixed: of each block by itself: the query's stream below it stays as the whole
            context has made it.
    """

    loss: Float[np.ndarray, " seeds"]
    loss_alone: Float[np.ndarray, " seeds"]
    residual: Float[np.ndarray, " seeds"]
    residual_single: Float[np.ndarray, " seeds"]
    squared_single: Float[np.ndarray, " seeds"]
    relative_size: Float[np.ndarray, "seeds layers"]
    blocks: Float[np.ndarray, "seeds layers layers"]
    to_query: Float[np.ndarray, "seeds layers n_plus_1 n_plus_1"]
    tokens_alone: Float[np.ndarray, "seeds layers n n"]
    to_first: Float[np.ndarray, "seeds layers n n"]
    to_self: Float[np.ndarray, "seeds layers n n"]
    spectrum: Float[np.ndarray, "seeds layers width"]
    rank_to_query: Float[np.ndarray, "seeds layers"]
    increments: Float[np.ndarray, "seeds layers n"]
    increments_fixed: Float[np.ndarray, "seeds layers n"]

    def slopes(self, increments: Float[np.ndarray, "seeds layers n"]) -> np.ndarray:
        """Slope of log increment on log token, from the fifth on, ``[seeds, layers]``."""
        tokens = np.log(np.arange(5, increments.shape[-1] + 1))
        logs = np.log(increments[..., 4:]).reshape(-1, len(tokens))
        return np.polyfit(tokens, logs.T, 1)[0].reshape(increments.shape[:2])


@dataclass(frozen=True)
class BlockByBlockResult:
    """The stacks after training and before it.

    Attributes:
        trained, untrained: what was measured of each.
    """

    trained: StackMeasures
    untrained: StackMeasures
    models: list = field(repr=False, metadata={"stored": False})

    def summary(self) -> str:
        """The figures in a few lines, blocks from below, mean over seeds."""

        def listed(values: np.ndarray) -> str:
            return " ".join(f"{value:6.2f}" for value in np.atleast_1d(values.mean(0)))

        rows = []
        for name, m in (("trained", self.trained), ("untrained", self.untrained)):
            rows += [
                (f"{name}: loss with context, alone", f"{listed(m.loss)} {listed(m.loss_alone)}"),
                ("  largest residual, float64", f"{m.residual.max():.1e}"),
                ("  largest residual, float32", f"{m.residual_single.max():.1e}"),
                ("  relative size", listed(m.relative_size)),
                ("  examples' alignment to the query", listed(pairs(m.to_query[..., :-1, :-1]))),
                ("  the query's with the examples'", listed(last_with_others(m.to_query))),
                ("  the same without any context", listed(pairs(m.tokens_alone))),
                ("  examples' alignment to the first", listed(pairs(m.to_first[..., :-1, :-1]))),
                ("  the query's with the examples'", listed(last_with_others(m.to_first))),
                ("  all positions' alignment to self", listed(pairs(m.to_self))),
                ("  slope of increments", listed(m.slopes(m.increments))),
                ("  slope, stream below fixed", listed(m.slopes(m.increments_fixed))),
            ]
        return "\n".join(f"{name:36s}{value}" for name, value in rows)


def _singular_values(updates: list[ImplicitUpdate]) -> Float[Tensor, "batch width"]:
    values = torch.linalg.svdvals(sum(update.weight for update in updates))
    return values / values[:, :1]


def _residual(blocks: list[TransformerBlock], context: Tensor, query: Tensor) -> tuple:
    changes = stack_update(blocks, context, query)
    streams = run_updated(blocks, changes, query)
    squared = (streams[:, -1] - changes.streams[:, -1]).square().mean()
    return relative_error(streams, changes.streams), squared.item()


def _measured(model: Transformer, batch: Batch) -> dict[str, Tensor]:
    single = regression_stack(model.float(), *(part.float() for part in batch.context))
    residual_single, squared_single = _residual(*single)
    blocks, context, query = regression_stack(model.double(), *batch.context)
    tokens = torch.cat([context, query[:, None]], 1)
    n = context.shape[1]
    streams = stack_streams(blocks, tokens)
    alone = query
    for block in blocks:
        alone = block_output(block, context[:, :0], alone)

    def loss(stream: Tensor) -> Tensor:
        error = model.read_out(model.norm(stream)) - batch.y_query[:, 0]
        return 0.5 * error.square().mean()

    layers, at_query = [], []
    for layer, block in enumerate(blocks):
        below = streams[:, layer]
        whole = [block.read(below[:, :i], below[:, i]) for i in range(n + 1)]
        alone_at = [block.read(below[:, :0], below[:, i]) for i in range(n + 1)]
        # The last three are reference_update and implicit_update, every token read once for all.
        tokens_alone = [update_between(block, alone_at[n], reading) for reading in alone_at[:n]]
        to_query = [update_between(block, alone_at[n], reading) for reading in whole]
        to_first = [update_between(block, alone_at[0], reading) for reading in whole[1:]]
        to_self = [
            update_between(block, *readings)
            for readings in zip(alone_at[1:], whole[1:], strict=True)
        ]
        at_query.append(to_self[-1])
        layers.append(
            {
                "relative_size": to_self[-1].relative_size.median(),
                "to_query": alignment(to_query),
                "tokens_alone": alignment(tokens_alone),
                "to_first": alignment(to_first),
                "to_self": alignment(to_self),
                "spectrum": _singular_values(to_self).mean(0),
                "rank_to_query": _singular_values(to_query)[:, 1].max(),
                "increments_fixed": token_path(block, below[:, :n], below[:, n]).increments.mean(0),
            }
        )
    paths = stack_path(blocks, context, query)
    return {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]} | {
        "increments": torch.stack([path.increments.mean(0) for path in paths]),
        "blocks": alignment(at_query),
        "loss": loss(streams[:, -1, n]),
        "loss_alone": loss(alone),
        "residual": torch.tensor(_residual(blocks, context, query)[0]).double(),
        "residual_single": torch.tensor(residual_single).double(),
        "squared_single": torch.tensor(squared_single).double(),
    }


@experiment(
    "block_by_block",
    paper="innocenti2025simple",
    chapter="implicit_dynamics/token_by_token",
    configs={
        Scale.LESSON: BlockByBlockConfig(),
        Scale.PAPER: BlockByBlockConfig(**INNOCENTI, n_tasks=64),
    },
    figure=figures.block_by_block,
)
def block_by_block(config: BlockByBlockConfig) -> BlockByBlockResult:
    """Updates at every position of every block of a stack, trained and untrained."""
    weights = innocenti_weights if innocenti_weights.is_stored(config.training) else stack_weights
    batch = config.task.sample(
        config.n_tasks, config.n_context, generator=seeded(TEST_SEED), dtype=torch.float64
    )
    with one_thread():
        models = models_from(config.build(seeded(0)), weights(config.training))
        fresh = [config.build(stream(seed, START)).requires_grad_(False) for seed in config.seeds]
        groups = []
        for group in (models, fresh):
            rows = [_measured(model, batch) for model in group]
            stacked = {name: np.stack([row[name].numpy() for row in rows]) for name in rows[0]}
            groups.append(StackMeasures(**stacked))
    return BlockByBlockResult(*groups, models=models)
