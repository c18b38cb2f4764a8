"""What shrinking steps and a falling loss do and do not show: controls of the token-by-token path.

Six conditions, alike but for one thing each: trained blocks; the same blocks before training; the
trained blocks on labels that have nothing to do with the inputs, and on one example repeated; and
blocks of linear attention, a sum in place of an average, trained and not. Then the direction: is
the implicit update where gradient descent on the same examples would go?
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.implicit_dynamics.block_regressor import BlockRegressor, without_context
from icl_lessons.implicit_dynamics.experiments.linear_block import (
    LinearBlockTraining,
    linear_block_weights,
)
from icl_lessons.implicit_dynamics.experiments.token_by_token import (
    BlockTraining,
    block_regressor_weights,
)
from icl_lessons.implicit_dynamics.figures import token_controls as figures
from icl_lessons.implicit_dynamics.fine_tuning import (
    cosine,
    cosine_at_query,
    example_gradient,
    full_batch_steps,
    stochastic_steps,
)
from icl_lessons.implicit_dynamics.running_average import running_average
from icl_lessons.implicit_dynamics.token_path import factorised_path, token_path
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.types import Batch
from icl_lessons.zoo import models_from

TEST_SEED = 2_507_161
CONDITIONS = (
    "trained", "untrained", "useless labels", "one example repeated",
    "linear attention, trained", "linear attention, untrained",
)  # fmt: skip
COMPARED = (
    "gradient at the query", "gradient of the task", "fine-tuned",
    "fine-tuned, at the query", "another task", "fine-tuned to the task's gradient",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TokenControlsConfig(BlockTraining):
    """The blocks, and what is measured of them.

    Attributes:
        n_tasks: contexts for losses and increments.
        prefixes: numbers of examples at which directions and full-batch descent are looked at.
        learning_rate_one: of fine-tuning one example a step, where its direction is compared.
        full_batch_rate, full_batch_steps: of descent on all examples read so far.
        n_directions: contexts for directions and full-batch descent.
        n_fresh: fresh inputs from which the gradient of the task's own loss is estimated.
        n_paths: contexts whose two paths are looked at.
        n_long, long_nets, long_tasks: tokens, untrained blocks and contexts of the long paths.
    """

    n_tasks: int = 300
    prefixes: tuple[int, ...] = (1, 2, 5, 10, 20, 30)
    learning_rate_one: float = 0.03
    full_batch_rate: float = 0.2
    full_batch_steps: int = 25
    n_directions: int = 48
    n_fresh: int = 32
    n_paths: int = 10
    n_long: int = 400
    long_nets: int = 20
    long_tasks: int = 8

    def __post_init__(self):
        super().__post_init__()
        for name in (
            "n_tasks", "full_batch_steps", "n_directions", "n_fresh", "n_paths", "n_long",
            "long_nets", "long_tasks",
        ):  # fmt: skip
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("learning_rate_one", "full_batch_rate"):
            check_number(name, getattr(self, name), positive=True)
        if not self.prefixes or not all(1 <= i <= self.n_context for i in self.prefixes):
            raise ValueError(f"prefixes: got {self.prefixes}; use from 1 to {self.n_context}")

    def _as(self, kind: type[BlockTraining]) -> BlockTraining:
        return kind(**{name: getattr(self, name) for name in BlockTraining.__dataclass_fields__})

    @property
    def training(self) -> BlockTraining:
        """What the weights of the softmax blocks depend on."""
        return self._as(BlockTraining)

    @property
    def linear_training(self) -> LinearBlockTraining:
        """What the weights of the linear blocks depend on."""
        return self._as(LinearBlockTraining)


@dataclass(frozen=True)
class TokenControlsResult:
    """Losses are ``1/2 E (y_hat - y)^2`` at the query; means over contexts.

    Attributes:
        conditions: names of the six.
        loss: of the block under ``W_i``, without context, ``[conditions, seeds, n + 1]``.
        increments: ``|W_{i+1} - W_i|_F``, ``[conditions, seeds, n]``.
        turns: ``|u_{i+1} - u_i|_F`` of the directions ``u_i = (W_i - W_0) / |W_i - W_0|_F``,
            ``[conditions, seeds, n - 1]``.
        compared: names of the cosines.
        prefixes: numbers of examples.
        cosine: of the update of so many examples with each of ``compared`` (the last: of the
            fine-tuned change with the task's gradient), in trained and in untrained blocks,
            ``[2, compared, seeds, prefixes]``.
        full_batch: lowest loss over the steps of descent on the first examples, trained blocks,
            ``[seeds, prefixes]``; ``full_batch_context`` of the context itself on the same tasks.
        full_batch_step: the step with the lowest loss.
        long_increments, long_repeated: of untrained blocks, on long contexts and on one example
            repeated, ``[nets, n_long]``.
        shares: of the square of a path, ``W_i - W_0`` for all ``i``, along its principal
            directions, additive and factorised, mean over contexts, ``[2, seeds, 5]``.
        ranks: of ``W_n - W_0``, largest over contexts, additive and factorised, ``[2, seeds]``.
        lengths: ``|W_n - W_0|_F`` of the factorised path over that of the additive, ``[seeds]``.
        plane: one context of the first seed, both paths on the two principal directions of both
            together, ``[2, n + 1, 2]``.
    """

    conditions: tuple[str, ...]
    loss: Float[np.ndarray, "conditions seeds n_plus_1"]
    increments: Float[np.ndarray, "conditions seeds n"]
    turns: Float[np.ndarray, "conditions seeds n_minus_1"]
    compared: tuple[str, ...]
    prefixes: tuple[int, ...]
    cosine: Float[np.ndarray, "2 compared seeds prefixes"]
    full_batch: Float[np.ndarray, "seeds prefixes"]
    full_batch_context: Float[np.ndarray, "seeds prefixes"]
    full_batch_step: Float[np.ndarray, "seeds prefixes"]
    long_increments: Float[np.ndarray, "nets n_long"]
    long_repeated: Float[np.ndarray, "nets n_long"]
    shares: Float[np.ndarray, "2 seeds directions"]
    ranks: Float[np.ndarray, "2 seeds"]
    lengths: Float[np.ndarray, " seeds"]
    plane: Float[np.ndarray, "2 n_plus_1 2"]

    @staticmethod
    def slope(increments: Float[np.ndarray, "rows n"], start: int = 5) -> np.ndarray:
        """Slope of log increment on log token from token ``start`` on, for each row."""
        tokens = np.log(np.arange(start, increments.shape[1] + 1))
        return np.polyfit(tokens, np.log(increments[:, start - 1 :]).T, 1)[0]

    def of(self, condition: str) -> int:
        """The row of a condition."""
        return self.conditions.index(condition)

    def summary(self) -> str:
        """The result in a few lines."""

        def row(name: str, *values) -> str:
            return f"  {name:<36}" + " ".join(f"{v:8.3f}" for part in values for v in part)

        lines = ["slope of increments | of turns | loss at the end, by seed"]
        for i, name in enumerate(self.conditions):
            slopes = self.slope(self.increments[i]), self.slope(self.turns[i])
            lines.append(row(name, *slopes, self.loss[i, :, -1]))
        for where, name in ((self.long_increments, "long"), (self.long_repeated, "repeated")):
            slopes = self.slope(where)
            lines.append(row(f"untrained, {name}: least, most", (slopes.min(), slopes.max())))
        lines.append("cosine of the update with, all examples read: trained | untrained, by seed")
        lines += [row(name, *self.cosine[:, i, :, -1]) for i, name in enumerate(self.compared)]
        lines.append(f"lowest loss of full-batch descent, then the context's, {self.prefixes}")
        lines += [row("", self.full_batch.mean(0)), row("", self.full_batch_context.mean(0))]
        lines.append(row("ranks, additive and factorised", *self.ranks))
        return "\n".join(lines)


def _along(model: BlockRegressor, batch: Batch, xs: Tensor, ys: Tensor) -> dict[str, np.ndarray]:
    """Losses, increments and turns along the path of a context."""
    context, query = model.tokens(xs, ys, batch.x_query)
    path = token_path(model.block, context, query)
    hidden = path.inputs @ path.initial.mT
    # Under W_i and without context the dense layer puts out what it does after i tokens; and every
    # W_i - W_0 is a vector times A(x)^T, so that its direction is that of the vector.
    unit = F.normalize(hidden[:, 1:] - hidden[:, :1], dim=-1)
    nothing = torch.zeros_like(query)
    answers = [model.predict(model.block.finish(h, nothing)) for h in hidden.unbind(1)]
    errors = torch.cat(answers, -1) - batch.y_query[:, 0]
    return {
        "loss": 0.5 * errors.square().mean(0).numpy(),
        "increments": path.increments.mean(0).numpy(),
        "turns": (unit[:, 1:] - unit[:, :-1]).norm(dim=-1).mean(0).numpy(),
    }


def _conditions(
    config: TokenControlsConfig, batch: Batch, trained, untrained, linear, linear_untrained
) -> list[dict[str, np.ndarray]]:
    """The six conditions for one seed."""
    noise = (
        torch.randn(batch.ys.shape, generator=seeded(TEST_SEED + 1), dtype=torch.float64)
        * batch.ys.std()
    )
    repeated = (part[:, :1].expand_as(part) for part in (batch.xs, batch.ys))
    contexts = {
        "as drawn": (batch.xs, batch.ys),
        "useless": (batch.xs, noise),
        "repeated": tuple(repeated),
    }
    return [
        _along(model, batch, *contexts[context])
        for model, context in (
            (trained, "as drawn"),
            (untrained, "as drawn"),
            (trained, "useless"),
            (trained, "repeated"),
            (linear, "as drawn"),
            (linear_untrained, "as drawn"),
        )
    ]


def _cosines(
    config: TokenControlsConfig, model: BlockRegressor, batch: Batch
) -> Float[np.ndarray, "compared prefixes"]:
    path = token_path(model.block, *model.tokens(*batch.context))
    weights, fed = path.weights, path.inputs[:, 0]
    start = weights[:, 0]
    shape = batch.xs.shape[0], config.n_fresh, config.d
    fresh = torch.randn(shape, generator=seeded(TEST_SEED + 2), dtype=torch.float64)
    task = -example_gradient(model, fresh, fresh @ batch.weights.mT, start)
    query = -example_gradient(model, batch.x_query, batch.y_query, start)
    tuned = list(stochastic_steps(model, batch.xs, batch.ys, config.learning_rate_one))
    rolled = batch.xs.roll(1, 0), batch.ys.roll(1, 0)
    other = token_path(model.block, *model.tokens(*rolled, batch.x_query)).weights
    rows = []
    for i in config.prefixes:
        update, moved = weights[:, i] - start, tuned[i] - start
        rows.append(
            [
                cosine(update, query),
                cosine(update, task),
                cosine(update, moved),
                cosine_at_query(update, moved, fed),
                cosine(other[:, i] - start, query),
                cosine(moved, task),
            ]
        )
    return np.array([[c.mean().item() for c in row] for row in rows]).T


def _full_batch(config: TokenControlsConfig, model: BlockRegressor, batch: Batch):
    """Lowest loss, its step, and the loss of the context, ``[3, prefixes]``."""

    def loss(prediction: Tensor) -> float:
        return 0.5 * (prediction - batch.y_query).square().mean().item()

    rows = []
    for i in config.prefixes:
        seen = batch.xs[:, :i], batch.ys[:, :i]
        steps = full_batch_steps(model, *seen, config.full_batch_rate, config.full_batch_steps)
        losses = [loss(without_context(model, batch.x_query, weights)) for weights in steps]
        context = loss(model(*seen, batch.x_query))
        rows.append([min(losses), float(np.argmin(losses)), context])
    return np.array(rows).T


def _long(config: TokenControlsConfig, net: int) -> list[np.ndarray]:
    """Increments of an untrained block on long contexts and on one example repeated."""
    model = config.untrained(1000 + net).double().requires_grad_(False)
    batch = config.task.sample(
        config.long_tasks, config.n_long, generator=seeded(TEST_SEED + 3), dtype=torch.float64
    )
    context, query = model.tokens(*batch.context)
    return [
        running_average(model.block, tokens, query)
        .increments(model.block.dense_weight)
        .mean(0)
        .numpy()
        for tokens in (context, context[:, :1].expand_as(context))
    ]


def _two_paths(config: TokenControlsConfig, model: BlockRegressor, batch: Batch):
    """Shares of principal directions, ranks, lengths, and one context's paths in a plane."""
    context, query = (part[: config.n_paths] for part in model.tokens(*batch.context))
    paths = [
        token_path(model.block, context, query).weights,
        factorised_path(model.block, context, query),
    ]
    moved = torch.stack([path - path[:, :1] for path in paths])  # [2, contexts, n + 1, h, w]
    flat = moved.flatten(3)
    energy = torch.linalg.svdvals(flat).square()
    shares = (energy / energy.sum(-1, keepdim=True)).mean(1)[:, :5]
    ends = moved[:, :, -1]
    ranks = torch.linalg.matrix_rank(ends).amax(1).double()
    lengths = ends.flatten(2).norm(dim=-1)
    _, _, directions = torch.linalg.svd(flat[:, 0].flatten(0, 1), full_matrices=False)
    plane = flat[:, 0] @ directions[:2].mT
    return shares.numpy(), ranks.numpy(), (lengths[1] / lengths[0]).mean().item(), plane.numpy()


@experiment(
    "token_controls",
    paper="dherin2025learning",
    chapter="implicit_dynamics/token_by_token",
    configs={
        Scale.LESSON: TokenControlsConfig(),
        Scale.PAPER: TokenControlsConfig(
            n_context=100,
            steps=100_000,
            n_tasks=1000,
            n_directions=200,
            prefixes=(1, 2, 5, 10, 20, 50, 100),
        ),
    },
    figure=figures.token_controls,
)
def token_controls(config: TokenControlsConfig) -> TokenControlsResult:
    """Controls for the shrinking steps and the direction of the implicit updates."""
    first, second = config.training, config.linear_training
    states = block_regressor_weights(first), linear_block_weights(second)
    batch = config.task.sample(
        config.n_tasks, config.n_context, generator=seeded(TEST_SEED), dtype=torch.float64
    )
    some = Batch(*(getattr(batch, field.name)[: config.n_directions] for field in fields(batch)))
    along, cosines, descents, paths = [], [], [], []
    with one_thread():
        softmax = models_from(first.build(seeded(0)), states[0])
        linear = models_from(second.build(seeded(0)), states[1])
        for seed, model, summing in zip(config.seeds, softmax, linear, strict=True):
            starts = first.untrained(seed), second.untrained(seed)
            models = [
                m.double().requires_grad_(False) for m in (model, starts[0], summing, starts[1])
            ]
            along.append(_conditions(config, batch, *models))
            cosines.append([_cosines(config, m, some) for m in models[:2]])
            descents.append(_full_batch(config, models[0], some))
            paths.append(_two_paths(config, models[0], some))
        long = [_long(config, net) for net in range(config.long_nets)]
    curves = {
        name: np.stack([[condition[name] for condition in seed] for seed in along], 1)
        for name in ("loss", "increments", "turns")
    }
    lowest, step, context = np.stack(descents, 1)
    shares, ranks, lengths, planes = zip(*paths, strict=True)
    return TokenControlsResult(
        conditions=CONDITIONS,
        **curves,
        compared=COMPARED,
        prefixes=config.prefixes,
        cosine=np.stack(cosines).transpose(1, 2, 0, 3),
        full_batch=lowest,
        full_batch_context=context,
        full_batch_step=step,
        long_increments=np.stack([pair[0] for pair in long]),
        long_repeated=np.stack([pair[1] for pair in long]),
        shares=np.stack(shares, 1),
        ranks=np.stack(ranks, 1),
        lengths=np.array(lengths),
        plane=planes[0],
    )
