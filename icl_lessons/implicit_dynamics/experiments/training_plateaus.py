"""One layer of linear attention trained on its exact expected loss: one drop, or one a direction.

Merged and separate heads from the same small starts, with the reduced equations beside them; what
the layer computes while it rests; and how all of it depends on the size of the start.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment, words
from icl_lessons.implicit_dynamics.experiments.resting_layers import early_stops, regressions
from icl_lessons.implicit_dynamics.figures import training_plateaus as figures
from icl_lessons.implicit_dynamics.plateau_detector import Rests, find_rests
from icl_lessons.implicit_dynamics.training_plateaus import (
    Flow,
    MergedHeads,
    SeparateHeads,
    fixed_point,
    gradient_flow,
    in_random_basis,
    plateau_losses,
    random_heads,
    reduced_flow,
    reduced_losses,
    rising_spectrum,
    shrinkage,
    stack_heads,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded

START_SEED, BASIS_SEED = 2_501_000, 2_502_000
LEARNT = 0.02  # of its end: a direction counts as begun, and its head as aligned


@dataclass(frozen=True, kw_only=True)
class TrainingPlateausConfig:
    """Settings of :func:`training_plateaus`; the defaults are the lesson's.

    Attributes:
        d: coordinates of an input; the covariance's eigenvalues are as ``d, ..., 1``, sum 1.
        n_context: examples in a context.
        merged_heads, separate_heads: of the two layers; separate ones have rank 1.
        merged_init, separate_init: standard deviation of their starts.
        steps, step_size: of Euler's method for separate heads; ``merged_steps`` of half that size.
        sizes: of the start, each with the same random numbers; ``merged_sizes`` likewise.
        starts: further random starts at size ``starts_size``, for the times of the drops.
        n_test: contexts on which the resting layer is compared with regressions.
        noises: variances of the noise on the labels of test contexts.
        seeds: a start and a random basis of eigenvectors each.
    """

    d: int = 4
    n_context: int = 31
    merged_heads: int = 8
    separate_heads: int = 5
    merged_init: float = 1e-3
    separate_init: float = 1e-2
    steps: int = 15_000
    step_size: float = 1.0
    merged_steps: int = 1000
    sizes: tuple[float, ...] = (0.005, 0.01, 0.03, 0.1, 0.3, 1.0)
    merged_sizes: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    starts: int = 24
    starts_size: float = 0.03
    n_test: int = 1000
    noises: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "merged_heads", "separate_heads", "steps", "starts"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("merged_init", "separate_init", "step_size", "starts_size"):
            check_number(name, getattr(self, name), positive=True)
        if self.separate_init not in self.sizes:
            raise ValueError(f"sizes: got {self.sizes}; include separate_init")
        if self.d < 4:
            raise ValueError(
                f"d: got {self.d}; use 4 or more, for tasks in two directions of each end"
            )

    @property
    def eigenvalues(self) -> Float[Tensor, " d"]:
        """Of the covariance, the largest first."""
        return rising_spectrum(self.d)


@dataclass(frozen=True, kw_only=True)
class TrainingPlateausResult:
    """Losses are ``E (y_hat - y)^2`` without a half; times in units of ``tau``.

    Attributes:
        eigenvalues: of the covariance, the largest first; all directions in this order.
        plateaus: the theory's losses at 0, ..., D components.
        times, losses, strengths: of separate heads; ``strengths`` is the diagonal of ``M`` in the
            eigenbasis, ``ends`` what theory says of it once learned (``rho / lambda``).
        merged_times, merged_losses, merged_strengths: of merged heads.
        reduced_losses, reduced_strengths: of one number ``v_d`` for each direction. Its moment is
            fitted: when the direction passes a fiftieth of its final strength for good, ``v_d`` is
            set to the cube root of that; the reduced equation goes on from there, and back to
            ``reduced_start`` at time 0 by ``1/v`` alone.
        rests, merged_rests: what the detector finds, for each seed.
        levels: for each of a seed's rests, the number of components whose plateau is nearest.
        rest_strengths: at the rests, the whole of ``M`` in the eigenbasis, by components; ``nan``
            at plateaus that a seed did not visit.
        final_values: ``|v|`` of every head at the end, the dead last, others by direction.
        expected_values: ``(rho / lambda)^{1/3}``.
        conserved_drift: largest change of ``|k|^2 - v^2`` and ``|q|^2 - v^2``, by seed.
        end_gap: between the two layers' ``M`` at the end, relative, by seed.
        sizes, counts: of separate heads' starts, and how many rests before the last.
        first_drop: time of the first drop by size; ``merged_sizes`` and ``merged_drop`` likewise.
        learned_times: when every direction has half its strength, from many starts; ``nan`` where
            training was too short.
        regression_gap: of the resting layer from principal component regression with as many
            components, mean square over mean square, by components and seed.
        prompt_gap: the same from principal components of the prompt instead.
        prompt_loss: and that learner's own loss.
        noises, noise_losses: of the resting layer when test labels are noisy (target without it).
        task_losses: without noise, when the tasks' weights lie in some directions only.
    """

    eigenvalues: Float[np.ndarray, " d"]
    plateaus: Float[np.ndarray, " rests"]
    ends: Float[np.ndarray, " d"]
    times: Float[np.ndarray, " moments"]
    losses: Float[np.ndarray, "seeds moments"]
    strengths: Float[np.ndarray, "seeds moments d"]
    merged_times: Float[np.ndarray, " merged_moments"]
    merged_losses: Float[np.ndarray, "seeds merged_moments"]
    merged_strengths: Float[np.ndarray, "seeds merged_moments d"]
    reduced_start: Float[np.ndarray, "seeds d"]
    reduced_losses: Float[np.ndarray, "seeds moments"]
    reduced_strengths: Float[np.ndarray, "seeds moments d"]
    rests: tuple[Rests, ...] = field(metadata={"stored": False})
    levels: tuple[tuple[int, ...], ...]
    merged_rests: tuple[Rests, ...] = field(metadata={"stored": False})
    rest_strengths: Float[np.ndarray, "seeds rests d d"]
    final_values: Float[np.ndarray, "seeds heads"]
    expected_values: Float[np.ndarray, " d"]
    conserved_drift: Float[np.ndarray, " seeds"]
    end_gap: Float[np.ndarray, " seeds"]
    sizes: Float[np.ndarray, " sizes"]
    counts: Float[np.ndarray, "sizes seeds"]
    first_drop: Float[np.ndarray, "sizes seeds"]
    merged_sizes: Float[np.ndarray, " merged_sizes"]
    merged_drop: Float[np.ndarray, "merged_sizes seeds"]
    learned_times: Float[np.ndarray, "starts d"]
    regression_gap: Float[np.ndarray, "components seeds"]
    prompt_gap: Float[np.ndarray, "components seeds"]
    prompt_loss: Float[np.ndarray, "components seeds"]
    noises: Float[np.ndarray, " noises"]
    noise_losses: Float[np.ndarray, "noises rests seeds"]
    task_losses: Float[np.ndarray, "tasks rests seeds"]

    def rest_losses(self) -> Float[np.ndarray, "seeds rests"]:
        """Losses at the rests by components, ``nan`` at plateaus that a seed did not visit."""
        table = np.full((len(self.rests), len(self.plateaus)), np.nan)
        for row, found, levels in zip(table, self.rests, self.levels, strict=True):
            row[list(levels)] = found.losses
        return table

    def median_times(self) -> Float[np.ndarray, " d"]:
        """Median over starts of the time at which each direction is learned; not yet is late."""
        return np.median(np.nan_to_num(self.learned_times, nan=np.inf), 0)

    def time_slope(self) -> float:
        """Slope of the logarithms of median time on eigenvalue, over directions."""
        medians = self.median_times()
        seen = np.isfinite(medians)
        return float(np.polyfit(np.log(self.eigenvalues[seen]), np.log(medians[seen]), 1)[0])

    def summary(self) -> str:
        """The result in a few lines."""
        rows = [
            ("losses at the rests, theory", words(self.plateaus)),
            *(("  found, separate heads", words(found.losses)) for found in self.rests),
            *(("  dwells", words(found.dwells)) for found in self.rests),
            *(("  found, merged heads", words(found.losses)) for found in self.merged_rests),
            ("|v| at the end, theory", words(self.expected_values)),
            *(("  found", words(values)) for values in self.final_values),
            ("drift of |k|^2 - v^2", f"{self.conserved_drift}"),
            ("rests before the last, by size", f"{self.counts.tolist()}"),
            ("first drop times size", words((self.first_drop * self.sizes[:, None]).mean(1))),
            ("slope of time on eigenvalue", f"{self.time_slope():.2f}"),
            ("gap from regression", f"{np.nanmax(self.regression_gap):.1e}"),
            ("gap from the prompt's components", words(np.nanmean(self.prompt_gap, 1))),
        ]
        return "\n".join(f"{name:36s}{value}" for name, value in rows)


def _started(config, kind: str, heads: int, size: float, seeds) -> MergedHeads | SeparateHeads:
    starts = [seeded(START_SEED + seed) for seed in seeds]
    return stack_heads([random_heads(kind, heads, config.d, size, g) for g in starts])


def _strengths(flow: Flow, basis: Tensor) -> Float[Tensor, "moments seeds d"]:
    """The diagonal of ``M`` in each seed's eigenbasis."""
    return torch.einsum("sid,msij,sjd->msd", basis, flow.products, basis)


def _numpy(tensor: Tensor) -> np.ndarray:
    """Seeds first, moments second."""
    return tensor.movedim(1, 0).contiguous().numpy()


def _rests(flow: Flow) -> tuple[Rests, ...]:
    return tuple(find_rests(flow.times.numpy(), loss.numpy()) for loss in flow.losses.unbind(1))


def _reduced(config: TrainingPlateausConfig, times: Tensor, strengths: Tensor, ends: Tensor):
    """``v_d`` over time, one path for each seed, fitted where each direction begins."""
    eigenvalues, n = config.eigenvalues, config.n_context
    keep = round((times[1] / config.step_size).item())
    paths = []
    for strength in strengths.unbind(1):
        # For good: a head that is still turning lends other directions some strength and takes
        # it back.
        begun = len(times) - (strength <= LEARNT * ends).int().flip(0).argmax(0)
        begun = begun.clamp(max=len(times) - 1)
        start = strength.gather(0, begun[None])[0] ** (1 / 3)
        steps = 100 * keep  # by then every direction has arrived
        after = reduced_flow(eigenvalues, n, start, steps=steps, step_size=config.step_size)
        since = torch.arange(len(times))[:, None] - begun
        path = after[::keep].gather(0, since.clamp(0, 100))
        before = 1 / (1 / start - eigenvalues.square() * times[1] * since.clamp(max=0))
        paths.append(torch.where(since < 0, before, path))
    values = torch.stack(paths)
    return {
        "reduced_start": values[:, 0].numpy(),
        "reduced_losses": torch.stack([reduced_losses(v, eigenvalues, n) for v in values]).numpy(),
        "reduced_strengths": (values**3).numpy(),
    }


def _sizes(config: TrainingPlateausConfig, covariances: Tensor, main: Flow) -> dict:
    """Counts of rests and times of drops over sizes of the start."""
    counts, drops, merged = [], [], []
    for size in config.sizes:
        if size == config.separate_init:
            found = _rests(main)
        else:
            step = min(config.step_size * 2, 0.02 / size * config.step_size + 0.1)
            steps = round(
                max(1000, config.steps * config.step_size * config.separate_init / size) / step
            )
            heads = _started(config, "separate", config.separate_heads, size, config.seeds)
            options = {"steps": steps, "step_size": step, "keep_every": max(1, round(steps / 4000))}
            found = _rests(gradient_flow(heads, covariances, config.n_context, **options))
        counts.append([float(len(one.drops)) for one in found])
        drops.append([one.drops[0] for one in found])
    for size in config.merged_sizes:
        heads = _started(config, "merged", config.merged_heads, size, config.seeds)
        options = {"steps": config.merged_steps // 2, "step_size": config.step_size / 2}
        found = _rests(gradient_flow(heads, covariances, config.n_context, **options))
        merged.append([one.drops[0] for one in found])
    return {
        "sizes": np.array(config.sizes),
        "counts": np.array(counts),
        "first_drop": np.array(drops),
        "merged_sizes": np.array(config.merged_sizes),
        "merged_drop": np.array(merged),
    }


def _learned_times(config: TrainingPlateausConfig, ends: Tensor) -> Float[np.ndarray, "starts d"]:
    """When each direction has half its strength, from many starts in the eigenbasis."""
    size = config.starts_size
    seeds = range(1000, 1000 + config.starts)
    heads = _started(config, "separate", config.separate_heads, size, seeds)
    steps = round(config.steps * config.separate_init / size)
    flow = gradient_flow(
        heads,
        torch.diag(config.eigenvalues),
        config.n_context,
        steps=steps,
        step_size=config.step_size,
        keep_every=5,
    )
    learned = flow.products.diagonal(dim1=-2, dim2=-1) > ends / 2
    times = flow.times.double()[learned.int().argmax(0)]
    return torch.where(learned.any(0), times, torch.nan).numpy()


@experiment(
    "training_plateaus",
    paper="zhang2025training",
    chapter="implicit_dynamics/training_dynamics",
    configs={
        Scale.LESSON: TrainingPlateausConfig(),
        Scale.PAPER: TrainingPlateausConfig(
            merged_init=1e-6, steps=60_000, step_size=0.5, merged_steps=2000, seeds=(0, 1, 2, 3, 4)
        ),
    },
    figure=figures.training_plateaus,
)
def training_plateaus(config: TrainingPlateausConfig) -> TrainingPlateausResult:
    """Merged heads learn in one drop, separate ones in one for each principal direction."""
    eigenvalues, n = config.eigenvalues, config.n_context
    ends = shrinkage(eigenvalues, n) / eigenvalues
    covariances = torch.stack(
        [in_random_basis(eigenvalues, seeded(BASIS_SEED + seed)) for seed in config.seeds]
    )
    bases = torch.linalg.eigh(covariances).eigenvectors.flip(-1)
    with one_thread():
        started = _started(
            config, "separate", config.separate_heads, config.separate_init, config.seeds
        )
        flow = gradient_flow(
            started, covariances, n, steps=config.steps, step_size=config.step_size, keep_every=10
        )
        merged = gradient_flow(
            _started(config, "merged", config.merged_heads, config.merged_init, config.seeds),
            covariances,
            n,
            steps=config.merged_steps,
            step_size=config.step_size / 2,
        )
        strengths = _strengths(flow, bases)
        found = _rests(flow)
        rest_strengths = np.full((len(found), config.d + 1, config.d, config.d), np.nan)
        theory = plateau_losses(eigenvalues, n).numpy()
        levels, resting = [], []
        for j, (one, basis) in enumerate(zip(found, bases, strict=True)):
            nearest = np.abs(np.log(one.losses[:, None] / theory)).argmin(1)
            levels.append(tuple(nearest.tolist()))
            moments = np.searchsorted(flow.times.double().numpy(), one.times)
            at_rest = flow.products[moments, j]
            resting.append(dict(zip(levels[-1], at_rest, strict=True)))
            rest_strengths[j, nearest] = (basis.T @ at_rest @ basis).numpy()

        def kept(heads: SeparateHeads) -> Tensor:
            sizes = [p.square().sum((-2, -1)) for p in (heads.keys, heads.queries)]
            return torch.stack(sizes) - heads.values.square()

        target = torch.stack([fixed_point(c, n, config.d) for c in covariances])
        gap = (flow.products[-1] - merged.products[-1]).flatten(1).norm(dim=1)
        values = flow.values[-1].abs().numpy()
        dead_last = np.argsort(np.where(values < 0.2, np.inf, values), 1)
        return TrainingPlateausResult(
            eigenvalues=eigenvalues.numpy(),
            plateaus=theory,
            ends=ends.numpy(),
            times=flow.times.double().numpy(),
            losses=_numpy(flow.losses),
            strengths=_numpy(strengths),
            merged_times=merged.times.double().numpy(),
            merged_losses=_numpy(merged.losses),
            merged_strengths=_numpy(_strengths(merged, bases)),
            **_reduced(config, flow.times.double(), strengths, ends),
            rests=found,
            levels=tuple(levels),
            merged_rests=_rests(merged),
            rest_strengths=rest_strengths,
            final_values=np.take_along_axis(values, dead_last, 1),
            expected_values=(ends ** (1 / 3)).numpy(),
            conserved_drift=(kept(flow.heads) - kept(started)).abs().amax((0, 2)).numpy(),
            end_gap=(gap / target.flatten(1).norm(dim=1)).numpy(),
            **_sizes(config, covariances, flow),
            learned_times=_learned_times(config, ends),
            **regressions(covariances, resting, n, n_test=config.n_test),
            **early_stops(covariances, bases, resting, n, noises=config.noises),
        )
