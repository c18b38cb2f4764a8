"""Experiments on kinds of misalignment: outer and inner, approximate, and suboptimality."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.declare import experiment
from icl_lessons.measures.agreement import squared_error
from icl_lessons.mesa_optimization.figures import pseudo_alignment as figures
from icl_lessons.mesa_optimization.goal_misgeneralization import fitted_layer
from icl_lessons.mesa_optimization.pseudo_alignment import (
    best_of_rank,
    best_step_size,
    decaying_covariance,
    descent_errors,
    error_by_direction,
    labelled_by_cue,
    metric_loss,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.spurious_feature import SpuriousFeature
from icl_lessons.training import TrainingConfig, train
from icl_lessons.types import Batch
from icl_lessons.zoo import State, models_from, recipe

FIT_SEED, TEST_SEED = 1_906_500, 1_906_600
PAGE = "mesa_optimization/learned_optimizers"

# --- outer and inner ----------------------------------------------------------------------------

# What a learner is trained on: the law of its prompts, and whether the instrument reads the cue.
LEARNERS = {
    "aligned": ("dec", False),
    "inner misalignment": ("corr", False),
    "inner, telling data": ("mixed", False),
    "outer misalignment": ("dec", True),
    "outer, telling data": ("mixed", True),
}


@dataclass(frozen=True, kw_only=True)
class OuterAndInnerConfig:
    """Settings of :func:`outer_and_inner`.

    Attributes:
        d, n_context: core inputs and examples.
        n_fit, n_test: prompts for fitting each layer, and for each error.
        seeds: one layer for each learner and seed.
    """

    d: int = 4
    n_context: int = 20
    n_fit: int = 10_000
    n_test: int = 5000
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "n_fit", "n_test"):
            check_integer(name, getattr(self, name), at_least=1)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class OuterAndInnerResult:
    """Losses ``E squared error`` (no half); targets and cues have variances of about 1.

    Attributes:
        learners: the rows.
        paid, wanted: the base objective, and the error against what the designers want, on fresh
            prompts of the law of training.
        paid_deployed, wanted_deployed: the same where the cue is free.
    """

    learners: tuple[str, ...]
    paid: Float[np.ndarray, "learners seeds"]
    wanted: Float[np.ndarray, "learners seeds"]
    paid_deployed: Float[np.ndarray, "learners seeds"]
    wanted_deployed: Float[np.ndarray, "learners seeds"]

    @property
    def outer_gap(self) -> Float[np.ndarray, "learners seeds"]:
        """Wanted less paid, in training: what the objective leaves out."""
        return self.wanted - self.paid

    @property
    def inner_gap(self) -> Float[np.ndarray, "learners seeds"]:
        """Paid when deployed less paid in training: what training did not pin down."""
        return self.paid_deployed - self.paid

    def of(self, name: str, learner: str) -> Float[np.ndarray, " seeds"]:
        """One array's row for a learner."""
        return getattr(self, name)[self.learners.index(learner)]

    def summary(self) -> str:
        """The table, means over seeds."""
        lines = [f"{'':<22}    paid  wanted |    paid  wanted  deployed"]
        for i, name in enumerate(self.learners):
            cells = (self.paid, self.wanted, self.paid_deployed, self.wanted_deployed)
            numbers = [f"{cell[i].mean():8.3f}" for cell in cells]
            lines.append(f"{name:<22}{''.join(numbers[:2])} |{''.join(numbers[2:])}")
        return "\n".join(lines)


@experiment(
    "outer_and_inner",
    paper="hubinger2019risks",
    chapter=PAGE,
    configs={
        Scale.LESSON: OuterAndInnerConfig(),
        Scale.PAPER: OuterAndInnerConfig(d=20, n_context=100, n_fit=20_000),
    },
    figure=figures.outer_and_inner,
)
def outer_and_inner(config: OuterAndInnerConfig) -> OuterAndInnerResult:
    """Two ways of missing what is wanted: paying for the wrong thing, or not pinning it down."""
    names = ("paid", "wanted", "paid_deployed", "wanted_deployed")
    table: dict[str, list] = {name: [] for name in names}
    with one_thread():
        for law, by_cue in LEARNERS.values():
            rows = [_learner(config, law, by_cue, seed) for seed in config.seeds]
            for name, values in zip(names, np.array(rows).T, strict=True):
                table[name].append(values)
    return OuterAndInnerResult(
        learners=tuple(LEARNERS), **{name: np.array(rows) for name, rows in table.items()}
    )


def _learner(config: OuterAndInnerConfig, law: str, by_cue: bool, seed: int) -> list[float]:
    def prompts(mode: str, count: int, start: int) -> tuple[Batch, Batch]:
        """As the instrument labels them, and the same contexts with the wanted targets."""
        task = SpuriousFeature(d=config.d, mode=mode)
        wanted = task.sample(count, config.n_context, generator=seeded(start), dtype=torch.float64)
        paid = labelled_by_cue(wanted) if by_cue else wanted
        return paid, replace(paid, y_query=wanted.y_query)

    layer = fitted_layer(prompts(law, config.n_fit, FIT_SEED + seed)[0])
    tests = *prompts(law, config.n_test, TEST_SEED), *prompts("dec", config.n_test, TEST_SEED + 1)
    return [squared_error(layer, batch) for batch in tests]


# --- approximate --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RankTraining:
    """What the trained metrics depend on.

    Attributes:
        d, n_context: of the task.
        power: the variance of input ``j`` is in proportion to ``j^-power``.
        ranks: of the metrics.
        steps, learning_rate: of the training, on the exact expected loss.
        seeds: one metric for each rank and seed.
    """

    d: int = 8
    n_context: int = 20
    power: float = 1.5
    ranks: tuple[int, ...] = (1, 2, 3, 5, 8)
    steps: int = 1000
    learning_rate: float = 0.03
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "steps"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("power", self.power)
        if not self.ranks or not all(1 <= rank <= self.d for rank in self.ranks):
            raise ValueError(f"ranks: got {self.ranks}; use numbers from 1 to d = {self.d}")
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Of the inputs in training, float64."""
        return decaying_covariance(self.d, self.power)


class LowRankMetric(nn.Module):
    """``M = A B`` with ``A [d, rank]`` and ``B [rank, d]``: keys and queries of few dimensions."""

    def __init__(self, d: int, rank: int, generator: torch.Generator):
        super().__init__()
        self.left = nn.Parameter(0.5 * torch.randn(d, rank, generator=generator))
        self.right = nn.Parameter(0.5 * torch.randn(rank, d, generator=generator))

    def forward(self) -> Float[Tensor, "d d"]:
        """The metric."""
        return self.left @ self.right


def _measure_ranks(state: State, config: RankTraining) -> dict[str, float]:
    return {
        f"rank {rank} seed {seed}": metric_loss(matrix, config.covariance, config.n_context).item()
        for rank in config.ranks
        for seed, matrix in zip(config.seeds, trained_metrics(state, config, rank), strict=True)
    }


def trained_metrics(state: State, config: RankTraining, rank: int) -> list[Tensor]:
    """The trained metrics of one rank, one for each seed, in float64."""
    template = LowRankMetric(config.d, rank, seeded(0))
    return [model().double() for model in models_from(template, state, f"{rank}.")]


@recipe("approximate_alignment", config=RankTraining(), measure=_measure_ranks)
def rank_weights(config: RankTraining) -> State:
    """Factors of every rank, as ``rank.left`` and ``rank.right``, a row for each seed."""
    covariance, state = config.covariance.float(), {}
    for rank in config.ranks:
        run = train(
            lambda generator, rank=rank: LowRankMetric(config.d, rank, generator),
            None,
            TrainingConfig(
                steps=config.steps,
                learning_rate=config.learning_rate,
                schedule="cosine",
                seeds=config.seeds,
            ),
            loss=lambda model: metric_loss(model(), covariance, config.n_context),
            progress=False,
            device=config.device,
        )
        state |= {f"{rank}.{name}": tensor for name, tensor in run.state.items()}
    return state


@dataclass(frozen=True, kw_only=True)
class ApproximateAlignmentConfig:
    """Settings of :func:`approximate_alignment`.

    Attributes:
        training: of the metrics, but for the seeds.
        seeds: one metric for each rank and seed.
    """

    training: RankTraining = RankTraining()
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class ApproximateAlignmentResult:
    """Exact expected losses ``E squared error`` (no half); predicting 0 has loss 1.

    Attributes:
        ranks: of the trained metrics; ``all_ranks`` from 0 to ``d``.
        loss: of the trained metrics under the law of training.
        best: the least loss that a rank allows, for ``all_ranks``.
        deployed: of the trained metrics where all inputs have the same variance;
            ``best_deployed``: of the metrics of ``best``.
        direction_error: of the trained metrics, for each input; 1 where nothing is learnt of it.
    """

    ranks: Int[np.ndarray, " ranks"]
    all_ranks: Int[np.ndarray, " all_ranks"]
    loss: Float[np.ndarray, "ranks seeds"]
    best: Float[np.ndarray, " all_ranks"]
    deployed: Float[np.ndarray, "ranks seeds"]
    best_deployed: Float[np.ndarray, " all_ranks"]
    direction_error: Float[np.ndarray, "ranks seeds d"]

    @property
    def gain(self) -> Float[np.ndarray, "ranks seeds"]:
        """Of what the full rank gains over predicting 0 in training, the share that is reached."""
        return (1 - self.loss) / (1 - self.best[-1])

    def summary(self) -> str:
        """One line for each rank, means over seeds."""
        return "\n".join(
            f"rank {rank}: loss {self.loss[i].mean():.4f} (least {self.best[rank]:.4f}, "
            f"{100 * self.gain[i].mean():.0f} % of the gain), deployed "
            f"{self.deployed[i].mean():.3f}"
            for i, rank in enumerate(self.ranks)
        )


@experiment(
    "approximate_alignment",
    paper="hubinger2019risks",
    chapter=PAGE,
    configs={
        Scale.LESSON: ApproximateAlignmentConfig(),
        Scale.PAPER: ApproximateAlignmentConfig(
            training=RankTraining(
                d=32, n_context=100, ranks=(1, 2, 4, 8, 16, 32), steps=10_000, learning_rate=0.01
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.approximate_alignment,
)
def approximate_alignment(config: ApproximateAlignmentConfig) -> ApproximateAlignmentResult:
    """Inner objectives that cannot hold the base objective: metrics of low rank."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    n, d, sigma = training.n_context, training.d, training.covariance
    even = sigma.trace() / d * torch.eye(d, dtype=torch.float64)
    with one_thread():
        state = rank_weights(training)
        best = [best_of_rank(sigma, n, rank) for rank in range(d + 1)]
        trained = [trained_metrics(state, training, rank) for rank in training.ranks]

    def each(measure) -> np.ndarray:
        return np.array([[measure(matrix) for matrix in row] for row in trained])

    return ApproximateAlignmentResult(
        ranks=np.array(training.ranks),
        all_ranks=np.arange(d + 1),
        loss=each(lambda matrix: metric_loss(matrix, sigma, n).item()),
        best=np.array([loss for _, loss in best]),
        deployed=each(lambda matrix: metric_loss(matrix, even, n).item()),
        best_deployed=np.array([metric_loss(matrix, even, n).item() for matrix, _ in best]),
        direction_error=each(lambda matrix: error_by_direction(matrix, sigma, n).numpy()),
    )


# --- suboptimality ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SuboptimalityConfig:
    """Settings of :func:`suboptimality_alignment`.

    Attributes:
        d, n_context: core inputs and examples.
        noise_std: of the noise on every label, which the cue repeats inside a context.
        cue_scale: of the cue; small, so that descent learns it late.
        trained_steps: of descent in training, where the step size is chosen.
        sizes: among which; descent has to stay stable on every prompt for the most steps.
        steps: at which the same learner is measured.
        n_fit, n_test: prompts for choosing, and for each error.
        seeds: one choice each, on prompts of its own.
    """

    d: int = 4
    n_context: int = 20
    noise_std: float = 0.5
    cue_scale: float = 0.1
    trained_steps: int = 8
    sizes: tuple[float, ...] = tuple(round(0.05 * k, 2) for k in range(1, 11))
    steps: tuple[int, ...] = (0, 1, 2, 3, 5, 8, 13, 20, 35, 60, 100, 180, 300, 550, 1000, 3000)
    n_fit: int = 500
    n_test: int = 1000
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "trained_steps", "n_fit", "n_test"):
            check_integer(name, getattr(self, name), at_least=1)
        if self.trained_steps not in self.steps:
            raise ValueError(f"steps: {self.trained_steps}, those of training, are not among them")
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    def task(self, mode: str) -> SpuriousFeature:
        """Prompts whose cue, inside the context, repeats the label with its noise."""
        return SpuriousFeature(
            d=self.d,
            mode=mode,
            noise_std=self.noise_std,
            cue_scale=self.cue_scale,
            cue_noise=0.0,
        )


@dataclass(frozen=True, kw_only=True)
class SuboptimalityResult:
    """What the same inner learner does with more steps. Errors without the half.

    Attributes:
        steps: of descent; ``trained_steps`` those of training.
        step_size: that each seed chose.
        error: ``E (y_hat - w . x_q)^2`` where the query's cue is free, as in training.
        context_loss: ``E 1/N sum_i (y_hat_i - y_i)^2``, the inner objective, on the same prompts.
        without_cue: the error of the same descent on the core inputs alone.
    """

    steps: Int[np.ndarray, " steps"]
    trained_steps: int
    step_size: Float[np.ndarray, " seeds"]
    error: Float[np.ndarray, "seeds steps"]
    context_loss: Float[np.ndarray, "seeds steps"]
    without_cue: Float[np.ndarray, "seeds steps"]

    def at(self, name: str, steps: int) -> Float[np.ndarray, " seeds"]:
        """One curve's values at a number of steps."""
        return getattr(self, name)[:, list(self.steps).index(steps)]

    def summary(self) -> str:
        """Errors and inner objective at a few numbers of steps, means over seeds."""
        shown = sorted({1, self.trained_steps, *self.steps[[len(self.steps) // 2, -1]].tolist()})
        return "\n".join(
            f"{count:>5} steps: error {self.at('error', count).mean():.3f}, inner objective "
            f"{self.at('context_loss', count).mean():.4f}, without the cue "
            f"{self.at('without_cue', count).mean():.3f}"
            for count in shown
        )


@experiment(
    "suboptimality_alignment",
    paper="hubinger2019risks",
    chapter=PAGE,
    configs={
        Scale.LESSON: SuboptimalityConfig(),
        Scale.PAPER: SuboptimalityConfig(d=20, n_context=100),
    },
    figure=figures.suboptimality_alignment,
)
def suboptimality_alignment(config: SuboptimalityConfig) -> SuboptimalityResult:
    """The same inner objective with more steps of the same descent: what too few had hidden."""
    rows: dict[str, list] = {"step_size": [], "error": [], "context_loss": [], "without_cue": []}
    task, how = config.task("querydec"), {"dtype": torch.float64}
    with one_thread():
        for seed in config.seeds:
            prompts = task.sample(
                config.n_fit, config.n_context, generator=seeded(FIT_SEED + seed), **how
            )
            size = best_step_size(prompts, config.trained_steps, config.sizes)
            test = task.sample(
                config.n_test, config.n_context, generator=seeded(TEST_SEED + seed), **how
            )
            core = Batch(
                test.xs[..., :-1],
                test.ys,
                test.x_query[..., :-1],
                test.y_query,
                test.weights[..., :-1],
            )
            error, context = descent_errors(test, size, config.steps)
            without, _ = descent_errors(core, size, config.steps)
            for name, value in zip(rows, (size, error, context, without), strict=True):
                rows[name].append(np.asarray(value))
    return SuboptimalityResult(
        steps=np.array(config.steps),
        trained_steps=config.trained_steps,
        **{name: np.array(values) for name, values in rows.items()},
    )
