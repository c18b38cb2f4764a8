"""One block that learned regression in context, read as a weight update for every token.

The experiment of Dherin et al., section 4, with the controls that say what it shows: the same
blocks before training, updates used for another query, fine-tuning at the paper's learning rate and
at the best one, and the context in another order. Further controls are in
:mod:`icl_lessons.implicit_dynamics.experiments.token_controls`.
"""

import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.implicit_dynamics.block_regressor import BlockRegressor, without_context
from icl_lessons.implicit_dynamics.contextual_blocks import AttentionBlockConfig
from icl_lessons.implicit_dynamics.figures import token_by_token as figures
from icl_lessons.implicit_dynamics.fine_tuning import stochastic_steps
from icl_lessons.implicit_dynamics.token_path import TokenPath, token_path
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.training import TrainingConfig, train
from icl_lessons.training.loop import START, stream
from icl_lessons.types import Batch
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED = 2_507_160


@dataclass(frozen=True, kw_only=True)
class BlockTraining:
    """What the weights of the trained blocks depend on.

    Attributes:
        d: coordinates of an input; tasks and inputs are standard normal, without noise.
        n_context: examples in a training context.
        width, hidden, heads: of the block; heads of ``width / heads`` each.
        steps, batch_size, learning_rate: of Adam on ``1/2 (y_hat - y)^2`` at the query.
        seeds: one block each.
    """

    d: int = 2
    n_context: int = 30
    width: int = 32
    hidden: int = 128
    heads: int = 8
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "width", "hidden", "heads", "steps", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide width {self.width}")

    def build(self, generator: torch.Generator) -> BlockRegressor:
        """A block before training."""
        shape = AttentionBlockConfig(
            width=self.width,
            hidden=self.hidden,
            heads=self.heads,
            head_width=self.width // self.heads,
            reads="attention",
            skip=False,
        )
        return BlockRegressor(self.d, shape, generator=generator)

    def untrained(self, seed: int) -> BlockRegressor:
        """The very block that the training of a seed starts from."""
        return self.build(stream(seed, START))

    @property
    def task(self) -> LinearRegression:
        """The tasks."""
        return LinearRegression(d=self.d)


def block_losses(state: State, config: BlockTraining) -> dict[str, float]:
    """Loss of each seed's block on 4096 contexts, by which stored weights are verified."""
    batch = config.task.sample(4096, config.n_context, generator=seeded(TEST_SEED))
    with torch.no_grad(), one_thread():
        models = models_from(config.build(seeded(0)), state)
        return {
            f"loss {seed}": 0.5 * (model(*batch.context) - batch.y_query).square().mean().item()
            for seed, model in zip(config.seeds, models, strict=True)
        }


@recipe("block_regressor", config=BlockTraining(), measure=block_losses)
def block_regressor_weights(config: BlockTraining) -> State:
    """Trained blocks, one row for each seed."""
    settings = TrainingConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        n_context=config.n_context,
        learning_rate=config.learning_rate,
        seeds=config.seeds,
    )
    return train(config.build, config.task, settings, device=config.device).state


@dataclass(frozen=True, kw_only=True)
class TokenByTokenConfig(BlockTraining):
    """The blocks, and what is measured of them.

    Attributes:
        n_tasks: contexts for losses and increments.
        n_first: contexts for the losses after none, one and two examples, which differ little.
        n_fine_tuned: contexts on which a dense matrix is fine-tuned.
        learning_rates: of the fine-tuning, the paper's first.
    """

    n_tasks: int = 150
    n_first: int = 20_000
    n_fine_tuned: int = 150
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)

    def __post_init__(self):
        super().__post_init__()
        for name in ("n_tasks", "n_first", "n_fine_tuned"):
            check_integer(name, getattr(self, name), at_least=1)

    @property
    def training(self) -> BlockTraining:
        """What the weights depend on."""
        names = BlockTraining.__dataclass_fields__
        return BlockTraining(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class TokenByTokenResult:
    """Losses are ``1/2 E (y_hat - y)^2``; the first axis is the seed, the last the token.

    Attributes:
        loss: of the block with its first ``i`` tokens, ``[seeds, n + 1]``.
        residual: largest difference to the block with updated weights and no context, ``[seeds]``.
        single_residual: the same in float32, of mean losses, ``[seeds]``.
        increments, untrained_increments: mean ``|W_{i+1} - W_i|_F``, ``[seeds, n]``.
        relative_size: median of ``|W_n - W_0|_F / |W_0|_F``, ``[seeds]``.
        untrained_loss: ``[seeds, n + 1]``.
        first_losses: after none, one and two examples, on many more contexts, ``[seeds, 3]``.
        fine_tuned: ``[seeds, learning rates, n + 1]``.
        learning_rates: of the fine-tuning.
        swapped: mean error of an update used for another query, ``[seeds]``.
        unswapped: mean error without any update, ``[seeds]``.
        order_end, order_middle: relative difference of the weights after all and after half of the
            tokens when the context is reversed, ``[seeds]``.
    """

    loss: Float[np.ndarray, "seeds n_plus_1"]
    residual: Float[np.ndarray, " seeds"]
    single_residual: Float[np.ndarray, " seeds"]
    increments: Float[np.ndarray, "seeds n"]
    untrained_increments: Float[np.ndarray, "seeds n"]
    relative_size: Float[np.ndarray, " seeds"]
    untrained_loss: Float[np.ndarray, "seeds n_plus_1"]
    first_losses: Float[np.ndarray, "seeds 3"]
    fine_tuned: Float[np.ndarray, "seeds rates n_plus_1"]
    learning_rates: tuple[float, ...]
    swapped: Float[np.ndarray, " seeds"]
    unswapped: Float[np.ndarray, " seeds"]
    order_end: Float[np.ndarray, " seeds"]
    order_middle: Float[np.ndarray, " seeds"]
    models: list = field(repr=False, metadata={"stored": False})

    def slope(self, increments: Float[np.ndarray, "seeds n"], start: int = 4) -> np.ndarray:
        """Slope of log increment on log token, from token ``start + 1`` on, for each seed."""
        tokens = np.log(np.arange(start + 1, increments.shape[1] + 1))
        return np.polyfit(tokens, np.log(increments[:, start:]).T, 1)[0]

    @property
    def best_rate(self) -> Float[np.ndarray, " seeds"]:
        """The learning rate whose fine-tuning ends lowest on these very tasks, for each seed."""
        return np.array(self.learning_rates)[self.fine_tuned[:, :, -1].argmin(1)]

    def summary(self) -> str:
        """The figures in a few lines."""
        rows = [
            ("loss without and with all tokens", f"{self.loss[:, 0]} {self.loss[:, -1]}"),
            (
                "loss after 1 over after 0 examples",
                f"{self.first_losses[:, 1] / self.first_losses[:, 0]}",
            ),
            ("largest residual", f"{self.residual.max():.1e}"),
            ("slope of increments, trained", f"{self.slope(self.increments)}"),
            ("slope of increments, untrained", f"{self.slope(self.untrained_increments)}"),
            ("fine-tuned at the paper's rate", f"{self.fine_tuned[:, 0, -1]}"),
            ("fine-tuned at the best rate", f"{self.fine_tuned[:, :, -1].min(1)}"),
        ]
        return "\n".join(f"{name:36s}{value}" for name, value in rows)


def _half_square(prediction: Tensor, batch: Batch) -> Float[Tensor, " batch"]:
    return 0.5 * (prediction - batch.y_query)[:, 0, 0].square()


def _context_losses(model: BlockRegressor, batch: Batch, n: int) -> Tensor:
    """Losses after the first 0 to ``n`` examples, ``[n + 1, batch]``."""
    return torch.stack(
        [
            _half_square(model(batch.xs[:, :i], batch.ys[:, :i], batch.x_query), batch)
            for i in range(n + 1)
        ]
    )


def _path_losses(model: BlockRegressor, weights: Tensor, batch: Batch) -> Tensor:
    """Losses without context under each weight matrix of a path, ``[n + 1, batch]``."""
    return torch.stack(
        [_half_square(without_context(model, batch.x_query, w), batch) for w in weights.unbind(1)]
    )


def _order(model: BlockRegressor, batch: Batch, path: TokenPath) -> list[Tensor]:
    """Difference to the path of the reversed context after half and after all of its tokens."""
    context, query = model.tokens(*batch.context)
    places = [0, context.shape[1] // 2, context.shape[1]]
    there, back = (
        replace(p, inputs=p.inputs[:, places], biases=p.biases[:, places]).weights
        for p in (path, token_path(model.block, context.flip(1), query))
    )
    change = (there[:, -1] - there[:, 0]).flatten(1).norm(dim=-1)
    return [(there[:, i] - back[:, i]).flatten(1).norm(dim=-1) / change for i in (1, 2)]


def _measured(config: TokenByTokenConfig, model: BlockRegressor, untrained: BlockRegressor):
    def sample(tasks: int, n: int) -> Batch:
        return config.task.sample(tasks, n, generator=seeded(TEST_SEED), dtype=torch.float64)

    batch = sample(config.n_tasks, config.n_context)
    path = token_path(model.block, *model.tokens(*batch.context))
    weights = path.weights
    with_context = _context_losses(model, batch, config.n_context)
    single, rounded = copy.deepcopy(model).float(), batch.to(torch.float32)
    in_single = token_path(single.block, *single.tokens(*rounded.context)).weights
    apart = _context_losses(single, rounded, config.n_context) - _path_losses(
        single, in_single, rounded
    )
    other = batch.x_query.roll(1, 0)
    truth = model(batch.xs, batch.ys, other)
    mixed, alone = (without_context(model, other, weights[:, i]) for i in (-1, 0))
    order_middle, order_end = _order(model, batch, path)
    few = batch.xs[: config.n_fine_tuned], batch.ys[: config.n_fine_tuned]
    asked = batch.x_query[: config.n_fine_tuned], batch.y_query[: config.n_fine_tuned]

    def evaluate(tuned: Tensor) -> Tensor:
        return 0.5 * (without_context(model, asked[0], tuned) - asked[1])[:, 0, 0].square()

    raw = token_path(untrained.block, *untrained.tokens(*batch.context))
    fine_tuned = [
        torch.stack([evaluate(tuned).mean() for tuned in stochastic_steps(model, *few, rate)])
        for rate in config.learning_rates
    ]
    change = (weights[:, -1] - weights[:, 0]).flatten(1).norm(dim=-1)
    return {
        "loss": with_context.mean(1),
        "residual": (with_context - _path_losses(model, weights, batch)).abs().max(),
        "single_residual": apart.mean(1).abs().max(),
        "increments": path.increments.mean(0),
        "untrained_increments": raw.increments.mean(0),
        "relative_size": (change / model.block.dense_weight.norm()).median(),
        "untrained_loss": _context_losses(untrained, batch, config.n_context).mean(1),
        "first_losses": _context_losses(model, sample(config.n_first, 2), 2).mean(1),
        "fine_tuned": torch.stack(fine_tuned),
        "swapped": (mixed - truth).abs().mean(),
        "unswapped": (alone - truth).abs().mean(),
        "order_end": order_end.max(),
        "order_middle": order_middle.mean(),
    }


@experiment(
    "token_by_token",
    paper="dherin2025learning",
    chapter="implicit_dynamics/token_by_token",
    configs={
        Scale.LESSON: TokenByTokenConfig(),
        Scale.PAPER: TokenByTokenConfig(n_context=100, steps=100_000, n_tasks=1000),
    },
    figure=figures.token_by_token,
)
def token_by_token(config: TokenByTokenConfig) -> TokenByTokenResult:
    """The weights that stand for each part of a context: losses, increments, fine-tuning."""
    state = block_regressor_weights(config.training)
    measured, models = [], []
    with one_thread():
        for seed, model in zip(
            config.seeds, models_from(config.build(seeded(0)), state), strict=True
        ):
            model = model.double().requires_grad_(False)
            untrained = config.untrained(seed).double().requires_grad_(False)
            measured.append(_measured(config, model, untrained))
            models.append(model)
    stacked = {name: np.stack([m[name].numpy() for m in measured]) for name in measured[0]}
    return TokenByTokenResult(**stacked, learning_rates=config.learning_rates, models=models)
