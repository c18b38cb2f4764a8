"""An update made for some queries, used for others.

The update that stands for a context belongs to one query. How wrong is it next to that query, and
far from it? And when one change of the weights is fitted to several queries at once, how many can
it serve exactly, and what is it worth for a query that it was not fitted to? Measured on the
trained blocks of ``token_by_token``, and on the same blocks before training.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.implicit_dynamics.block_regressor import BlockRegressor, without_context
from icl_lessons.implicit_dynamics.experiments.token_by_token import (
    BlockTraining,
    block_regressor_weights,
)
from icl_lessons.implicit_dynamics.figures import query_swap as figures
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update, joint_update
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.zoo import models_from

TEST_SEED = 2_507_161


@dataclass(frozen=True, kw_only=True)
class QuerySwapConfig(BlockTraining):
    """The blocks, and the queries.

    Attributes:
        n_tasks: contexts.
        distances: from the query that an update is made for to the query that it is used for,
            in a random direction; inputs have coordinates of variance 1.
        n_fitted: to how many queries at once one change is fitted.
        n_fresh: other queries that it is then used for.
    """

    n_tasks: int = 100
    distances: tuple[float | int, ...] = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
    n_fitted: tuple[int, ...] = (1, 2, 3, 4, 8, 16)
    n_fresh: int = 10

    def __post_init__(self):
        super().__post_init__()
        for name in ("n_tasks", "n_fresh"):
            check_integer(name, getattr(self, name), at_least=1)
        for m in self.n_fitted:
            check_integer("n_fitted", m, at_least=1)
        for distance in self.distances:
            check_number("distances", distance)

    @property
    def training(self) -> BlockTraining:
        """What the weights depend on."""
        names = BlockTraining.__dataclass_fields__
        return BlockTraining(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class QuerySwapResult:
    """Errors are of the prediction, against the same block with its context; first axis the seed.

    Attributes:
        distances: as configured.
        swapped: mean error of an update at each distance from its query, ``[seeds, distances]``.
        unchanged: mean error of the block with neither context nor update there.
        n_fitted: as configured.
        rank: of the joint update, the largest over contexts, ``[seeds, n_fitted]``.
        own: its error at the queries that it was fitted to, over that of the unchanged block there;
            means over a context's queries, then the median over contexts.
        fresh: the same at other queries.
        untrained_fresh: that of blocks before training.
        loss: ``1/2 E (y_hat - y)^2`` of the joint update at other queries, without the context.
        context_loss: of the block with its context there, ``[seeds]``.
        one_query: mean error at another random query of the update made for one, ``[seeds]``.
        no_update: mean error of the unchanged block there.
    """

    distances: tuple[float | int, ...]
    swapped: Float[np.ndarray, "seeds distances"]
    unchanged: Float[np.ndarray, "seeds distances"]
    n_fitted: tuple[int, ...]
    rank: Float[np.ndarray, "seeds fitted"]
    own: Float[np.ndarray, "seeds fitted"]
    fresh: Float[np.ndarray, "seeds fitted"]
    untrained_fresh: Float[np.ndarray, "seeds fitted"]
    loss: Float[np.ndarray, "seeds fitted"]
    context_loss: Float[np.ndarray, " seeds"]
    one_query: Float[np.ndarray, " seeds"]
    no_update: Float[np.ndarray, " seeds"]

    def summary(self) -> str:
        """The figures in a few lines."""
        rows = [
            (f"error {r:g} away, of none", f"{self.swapped[:, i]} {self.unchanged[:, i]}")
            for i, r in enumerate(self.distances)
        ] + [
            (f"fitted to {m}: own, fresh, rank", f"{self.own[:, i]} {self.fresh[:, i]} {rank:g}")
            for i, (m, rank) in enumerate(zip(self.n_fitted, self.rank.max(0), strict=True))
        ]
        return "\n".join(f"{name:36s}{value}" for name, value in rows)


def _median_share(got: Tensor, unchanged: Tensor, expected: Tensor) -> Tensor:
    """Error over that without an update, for each context; the median over contexts."""
    error, none = ((p - expected).abs().mean((1, 2)) for p in (got, unchanged))
    return (error / none).median()


def _joint(config: QuerySwapConfig, model: BlockRegressor, generator: torch.Generator) -> dict:
    """One change of the weights for several queries: its rank, and what it is worth."""
    batch = config.task.sample(
        config.n_tasks, config.n_context, generator=generator, dtype=torch.float64
    )
    most = max(config.n_fitted)
    shape = (config.n_tasks, most + config.n_fresh, config.d)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    context = model.tokens(*batch.context)[0]  # one query a task: [task, token, width]
    tokens = model.tokens(batch.xs, batch.ys, inputs)[1].view(*shape[:2], -1)
    weight = model.block.dense_weight
    expected = model(batch.xs, batch.ys, inputs)
    targets = inputs[:, most:] @ batch.weights.mT
    unchanged = without_context(model, inputs, weight.expand(config.n_tasks, -1, -1))
    measured: dict[str, list] = {"rank": [], "own": [], "fresh": [], "loss": []}
    for m in config.n_fitted:
        change = joint_update(model.block, context, tokens[:, :m])
        got = without_context(model, inputs, weight + change)
        for name, which in (("own", slice(0, m)), ("fresh", slice(most, None))):
            seen = (p[:, which] for p in (got, unchanged, expected))
            measured[name].append(_median_share(*seen))
        measured["loss"].append(0.5 * (got[:, most:] - targets).square().mean())
        measured["rank"].append(torch.linalg.matrix_rank(change, rtol=1e-9).max().double())
    stacked = {name: torch.stack(values) for name, values in measured.items()}
    return stacked | {"context_loss": 0.5 * (expected[:, most:] - targets).square().mean()}


def _swapped(config: QuerySwapConfig, model: BlockRegressor, generator: torch.Generator) -> dict:
    """The update made for one query, used for another."""
    batch = config.task.sample(
        config.n_tasks, config.n_context, generator=generator, dtype=torch.float64
    )
    update = implicit_update(model.block, *model.tokens(*batch.context))
    direction = torch.randn(batch.x_query.shape, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    away = [batch.x_query + distance * direction for distance in config.distances]
    asked = torch.cat([*away, batch.x_query.roll(1, 0)], 1)  # the last: another task's query
    weight = model.block.dense_weight
    expected = model(batch.xs, batch.ys, asked)
    changed = without_context(model, asked, weight + update.weight)
    unchanged = without_context(model, asked, weight.expand(config.n_tasks, -1, -1))
    swapped, none = ((p - expected).abs().mean((0, 2)) for p in (changed, unchanged))
    return {
        "swapped": swapped[:-1],
        "unchanged": none[:-1],
        "one_query": swapped[-1],
        "no_update": none[-1],
    }


@experiment(
    "query_swap",
    paper="dherin2025learning",
    chapter="implicit_dynamics/weight_update",
    configs={
        Scale.LESSON: QuerySwapConfig(),
        Scale.PAPER: QuerySwapConfig(n_context=100, steps=100_000, n_tasks=1000),
    },
    figure=figures.query_swap,
)
def query_swap(config: QuerySwapConfig) -> QuerySwapResult:
    """The update made for one query or for several, used for others."""
    state = block_regressor_weights(config.training)
    measured = []
    with one_thread(), torch.no_grad():
        for seed, trained in zip(
            config.seeds, models_from(config.build(seeded(0)), state), strict=True
        ):
            trained, untrained = trained.double(), config.untrained(seed).double()
            measured.append(
                _swapped(config, trained, seeded(TEST_SEED))
                | _joint(config, trained, seeded(TEST_SEED + 1))
                | {
                    "untrained_fresh": _joint(config, untrained, seeded(TEST_SEED + 1))["fresh"],
                }
            )
    stacked = {name: np.stack([m[name].numpy() for m in measured]) for name in measured[0]}
    return QuerySwapResult(distances=config.distances, n_fitted=config.n_fitted, **stacked)
