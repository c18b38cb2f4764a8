"""Keys and queries of higher rank: a rest only where a new head has to leave.

One value weight serves all ``R`` pairs of a head. Once it has grown, the head's other pairs follow
in a time that depends on the size of the start through a logarithm; a new head takes a time like
its inverse. So the count falls to one rest for every ``R`` directions as the start shrinks.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.implicit_dynamics.figures import training_plateaus as figures
from icl_lessons.implicit_dynamics.plateau_detector import Rests, find_rests
from icl_lessons.implicit_dynamics.training_plateaus import (
    gradient_flow,
    plateau_losses,
    random_heads,
    rising_spectrum,
    stack_heads,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.zoo import State, recipe

START_SEED = 2_521_000


@dataclass(frozen=True, kw_only=True)
class PlateauRanksConfig:
    """Settings of :func:`plateau_ranks`, all of which its curves depend on.

    Attributes:
        d: coordinates of an input; the covariance's eigenvalues are as ``d, ..., 1``, sum 1.
        n_context: examples in a context.
        heads: of the layer, one more than is needed at rank 1.
        runs: the rank of a head's key-query product, the standard deviation of the start and the
            length of training in ``tau``.
        step_size: of Euler's method.
        moments: kept of every curve.
        seeds: a start each.
    """

    d: int = 8
    n_context: int = 31
    heads: int = 9
    runs: tuple[tuple[int, float, float], ...] = (
        (1, 1e-2, 110_000.0),
        (1, 1e-3, 1_000_000.0),
        (2, 1e-2, 25_000.0),
        (2, 1e-3, 200_000.0),
        (4, 1e-2, 8000.0),
        (4, 1e-3, 40_000.0),
        (4, 1e-4, 350_000.0),
    )
    step_size: float = 4.0
    moments: int = 2500
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "heads", "moments"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("step_size", self.step_size, positive=True)
        for rank, size, length in self.runs:
            check_integer("runs", rank, at_least=1)
            check_number("runs", size, positive=True)
            check_number("runs", length, positive=True)


@dataclass(frozen=True, kw_only=True)
class PlateauRanksResult:
    """Losses are ``E (y_hat - y)^2`` without a half.

    Attributes:
        plateaus: the theory's losses at 0, ..., D components.
        ranks, sizes: of the runs, and of their starts.
        times: ``[runs, moments]``, in units of ``tau``.
        losses: ``[runs, seeds, moments]``.
        rests: what the detector finds, by run and seed.
    """

    plateaus: Float[np.ndarray, " rests"]
    ranks: tuple[int, ...]
    sizes: tuple[float, ...]
    times: Float[np.ndarray, "runs moments"]
    losses: Float[np.ndarray, "runs seeds moments"]
    rests: tuple[tuple[Rests, ...], ...] = field(metadata={"stored": False})

    def drops(self) -> Float[np.ndarray, "runs seeds"]:
        """How many rests each curve has before the last: as many as it has drops."""
        return np.array([[float(len(found.drops)) for found in run] for run in self.rests])

    def smallest(self, rank: int) -> int:
        """The run of this rank with the smallest start.

        Raises:
            ValueError: no run has this rank.
        """
        runs = [i for i, other in enumerate(self.ranks) if other == rank]
        if not runs:
            raise ValueError(f"rank: got {rank}; use one of {sorted(set(self.ranks))}")
        return min(runs, key=lambda i: self.sizes[i])

    def summary(self) -> str:
        """The counts in a few lines."""
        lines = [f"{'rank':>6}{'start':>8}  rests before the last, by seed"]
        for rank, size, counts in zip(self.ranks, self.sizes, self.drops(), strict=True):
            lines.append(f"{rank:6d}{size:8g}  {counts.astype(int).tolist()}")
        return "\n".join(lines)


def _measure(state: State, config: PlateauRanksConfig) -> dict[str, float]:
    return {
        f"mean loss {rank}, {size:g}": losses.mean().item()
        for (rank, size, _), losses in zip(config.runs, state["losses"], strict=True)
    }


@recipe("plateau_ranks", config=PlateauRanksConfig(), measure=_measure)
def plateau_ranks_curves(config: PlateauRanksConfig) -> State:
    """The loss curves: ``losses`` ``[runs, seeds, moments]``, ``times`` ``[runs, moments]``."""
    covariance = torch.diag(rising_spectrum(config.d))
    losses, times = [], []
    with one_thread():
        for rank, size, length in config.runs:
            every = max(1, round(length / config.step_size / (config.moments - 1)))
            starts = [seeded(START_SEED + seed) for seed in config.seeds]
            heads = [
                random_heads("separate", config.heads, config.d, size, generator, rank)
                for generator in starts
            ]
            flow = gradient_flow(
                stack_heads(heads),
                covariance,
                config.n_context,
                steps=every * (config.moments - 1),
                step_size=config.step_size,
                keep_every=every,
            )
            losses.append(flow.losses.T)
            times.append(flow.times)
    return {"losses": torch.stack(losses).float(), "times": torch.stack(times).float()}


@experiment(
    "plateau_ranks",
    paper="zhang2025training",
    chapter="implicit_dynamics/training_dynamics",
    configs={
        Scale.LESSON: PlateauRanksConfig(),
        Scale.PAPER: PlateauRanksConfig(
            runs=tuple(
                (rank, size, length / size)
                for rank, length in ((1, 1200.0), (2, 250.0), (4, 80.0))
                for size in (1e-2, 1e-3, 1e-4)
            ),
            moments=10_000,
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.plateau_ranks,
)
def plateau_ranks(config: PlateauRanksConfig) -> PlateauRanksResult:
    """With keys and queries of rank R, training rests once for every R directions, in the limit."""
    state = plateau_ranks_curves(config)
    times, losses = (state[name].double().numpy() for name in ("times", "losses"))
    rests = tuple(
        tuple(find_rests(at, loss) for loss in seeds)
        for at, seeds in zip(times, losses, strict=True)
    )
    theory = plateau_losses(rising_spectrum(config.d), config.n_context)
    return PlateauRanksResult(
        plateaus=theory.numpy(),
        ranks=tuple(rank for rank, _, _ in config.runs),
        sizes=tuple(size for _, size, _ in config.runs),
        times=times,
        losses=losses,
        rests=rests,
    )
