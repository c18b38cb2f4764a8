"""The figures of linear attention's training; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from icl_lessons.figures import COLORS, LINE_STYLES, label_line, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.plateau_ranks import PlateauRanksResult
    from icl_lessons.implicit_dynamics.experiments.training_plateaus import TrainingPlateausResult

TRAINED = COLORS["implicit_dynamics"]
# One direction each: a hue and a mark, for readers who see no hue.
HUES = [
    COLORS[name] for name in ("implicit_dynamics", "gradient_descent", "bayesian", "development")
]
MARKS = "osD^v<>P"
# Of a legend that has to stand on lines: the page's own ground below it.
ON_LINES = {"frameon": True, "facecolor": COLORS["page"], "edgecolor": "none", "framealpha": 1}


def _plateau_lines(ax: Axes, plateaus: np.ndarray, x: float) -> None:
    for m, level in enumerate(plateaus):
        ax.axhline(level, **LINE_STYLES["exact"], alpha=0.6)
        label_line(ax, x, level, f"{m}", COLORS["exact"], fontsize=8.5, ha="right", va="bottom")


def draw_losses(ax: Axes, result: "TrainingPlateausResult") -> None:
    """Loss over time, merged heads and separate ones, every seed, with the theory's plateaus."""
    ax.set(xscale="log", xlim=(0.2, result.times[-1]), ylim=(0, 1.08))
    _plateau_lines(ax, result.plateaus, result.times[-1])
    for j, (merged, separate) in enumerate(zip(result.merged_losses, result.losses, strict=True)):
        first = {"alpha": 1.0 if j == 0 else 0.45}
        ax.plot(result.merged_times, merged, color=COLORS["other"], label=None if j else "merged",
                linestyle=(0, (5, 2)), linewidth=1.8, **first)  # fmt: skip
        ax.plot(result.times, separate, color=TRAINED, label=None if j else "separate",
                linewidth=2.0, **first)  # fmt: skip
    ax.set(xlabel="training time, in τ", ylabel="loss, E (ŷ − y)²")
    ax.legend(loc="lower left", title="key and query", **ON_LINES)


def draw_strengths(ax: Axes, result: "TrainingPlateausResult") -> None:
    """M's diagonal in the eigenbasis, one seed: direction by direction; reduced ones dashed."""
    dashed = {**LINE_STYLES["construction"], "color": COLORS["exact"], "linewidth": 1.1}
    last = result.times[-1]
    for d, (hue, mark) in enumerate(zip(HUES, MARKS, strict=False)):
        share = result.strengths[0, :, d] / result.ends[d]
        ax.plot(result.times, share, color=hue, linewidth=2.2, alpha=0.85)
        begun = result.times[(share > 0.5).argmax()]
        ax.plot([begun], [0.5], mark, color=hue, markersize=6,
                label=f"λ = {result.eigenvalues[d]:g}")  # fmt: skip
        reduced = result.reduced_strengths[0, :, d] / result.ends[d]
        ax.plot(result.times, reduced, label=None if d else "reduced", **dashed)
    first = result.times[(result.strengths[0, :, 0] / result.ends[0] > 0.01).argmax()]
    ax.set(xscale="log", xlim=(first / 30, last), ylim=(-0.04, 1.12))
    ax.set(xlabel="training time, in τ", ylabel="strength in M over ρ/λ")
    ax.legend(loc="center left", fontsize=8.5)


def draw_merged_strengths(ax: Axes, result: "TrainingPlateausResult") -> None:
    """The same for merged heads, one seed: all directions leave together."""
    for d, (hue, mark) in enumerate(zip(HUES, MARKS, strict=False)):
        share = result.merged_strengths[0, :, d] / result.ends[d]
        ax.plot(result.merged_times, share, color=hue, linewidth=2.2)
        half = (share > 0.5).argmax()
        ax.plot([result.merged_times[half]], [share[half]], mark, color=hue, markersize=6,
                label=f"λ = {result.eigenvalues[d]:g}")  # fmt: skip
    ax.set(xlim=(0, result.merged_times[-1] / 2), ylim=(-0.04, 1.12))
    ax.set(xlabel="training time, in τ", ylabel="strength in M over ρ/λ")
    ax.legend(loc="lower right", fontsize=8.5)


def draw_sizes(ax: Axes, result: "TrainingPlateausResult") -> None:
    """How many drops the curve has, by the size of the start: every seed a dot."""
    offsets = np.linspace(-0.06, 0.06, result.counts.shape[1])
    for offset, counts, mark in zip(offsets, result.counts.T, MARKS, strict=False):
        ax.plot(result.sizes, counts + offset, mark, color=TRAINED, markersize=5)
    ax.plot(result.sizes, result.counts.mean(1), color=TRAINED, linewidth=1.2)
    ax.axhline(len(result.eigenvalues), **LINE_STYLES["exact"])
    ax.set(xscale="log", ylim=(0, len(result.eigenvalues) + 0.5))
    ax.set(xlabel="size of the start", ylabel="drops of the loss")


def draw_escape(ax: Axes, result: "TrainingPlateausResult") -> None:
    """Time of the first drop by the size of the start: as 1/w, and as its logarithm."""
    small = result.sizes <= 0.1
    sizes, drops = result.sizes[small], result.first_drop[small].mean(1)
    ax.plot(sizes, drops, "o", color=TRAINED, markersize=6)
    ax.plot(sizes, drops[0] * sizes[0] / sizes, **LINE_STYLES["exact"])
    label_line(ax, sizes[0] / 2, drops[0], "separate: 1 / w", TRAINED, ha="right")
    merged = result.merged_drop.mean(1)
    ax.plot(result.merged_sizes, merged, "s", color=COLORS["other"], markersize=5)
    rate = 1 / np.linalg.norm(result.eigenvalues**2)
    line = merged[0] + rate * np.log(result.merged_sizes[0] / result.merged_sizes)
    ax.plot(result.merged_sizes, line, **LINE_STYLES["exact"])
    label_line(ax, result.merged_sizes[0], merged[0] * 1.5, "merged: ln 1 / w", COLORS["other"])
    ax.set(
        xscale="log", yscale="log", xlabel="size of the start, w", ylabel="time of first drop, in τ"
    )
    plain_log_ticks(ax)


def draw_early_stops(ax: Axes, result: "TrainingPlateausResult") -> None:
    """Test loss of the layer at each plateau, by the noise of the test labels."""
    components = np.arange(len(result.plateaus))
    losses = np.nanmean(result.noise_losses, 2)
    shown = [i for i, noise in enumerate(result.noises) if noise in (0, 4, 8)]
    for i, mark, style in zip(shown, MARKS, ("-", (0, (5, 2)), (0, (1, 1.4))), strict=False):
        ax.plot(components, losses[i], marker=mark, color=TRAINED, linestyle=style)
        best = int(losses[i].argmin())
        ax.plot(
            [best], [losses[i, best]], marker=mark, color=COLORS["gradient_descent"], markersize=9
        )
        name = f"noise {result.noises[i]:g}"
        label_line(ax, components[-1] + 0.1, losses[i, -1], name, TRAINED)
    ax.set(xlabel="components at the plateau", ylabel="test loss, E (ŷ − w·x)²", ylim=(0, None))
    ax.set(xticks=components, xlim=(-0.2, components[-1] + 1.1))


def training_plateaus(result: "TrainingPlateausResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(10.8, 6.0))
    for ax, draw, title in zip(
        axes.flat,
        (
            draw_losses,
            draw_strengths,
            draw_merged_strengths,
            draw_sizes,
            draw_escape,
            draw_early_stops,
        ),
        (
            "One drop, or several",
            "Separate: one at a time",
            "Merged: together",
            "Large starts wash it out",
            "How long it waits",
            "Stopping early, noisy labels",
        ),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig


def draw_ranks(ax: Axes, result: "PlateauRanksResult", rank: int = 1) -> None:
    """Loss of heads of one rank from the smallest start, every seed, with the theory's plateaus."""
    run = result.smallest(rank)
    times, first = result.times[run], min(r.drops[0] for r in result.rests[run])
    for m, level in enumerate(result.plateaus):
        visited = m % rank == 0
        line = {**LINE_STYLES["exact"], "alpha": 0.9 if visited else 0.25}
        ax.axhline(level, **line)
    for j, loss in enumerate(result.losses[run]):
        ax.plot(times, loss, color=TRAINED, alpha=0.45 if j else 1.0, linewidth=2.0)
    ax.set(xscale="log", xlim=(first / 2, times[-1]), ylim=(0, 1.08))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="training time, in τ", ylabel="loss, E (ŷ − y)²")


def draw_rank_counts(ax: Axes, result: "PlateauRanksResult") -> None:
    """How many rests, by rank and start; the line is one for every R directions."""
    d = len(result.plateaus) - 1
    sizes = sorted(set(result.sizes), reverse=True)
    for mark, size in zip(MARKS, sizes, strict=False):
        runs = [i for i, other in enumerate(result.sizes) if other == size]
        ranks = np.array([result.ranks[i] for i in runs])
        for j, counts in enumerate(result.drops()[runs].T):
            at = ranks * (1 + 0.05 * (j - 1) + 0.02 * sizes.index(size))
            ax.plot(at, counts, mark, color=HUES[sizes.index(size)], markersize=5.5,
                    label=None if j else f"start {size:g}")  # fmt: skip
    ranks = np.array(sorted(set(result.ranks)))
    ax.plot(ranks, d / ranks, **LINE_STYLES["exact"])
    ax.set(xscale="log", xlabel="rank of key and query, R", ylabel="rests before the last")
    ax.set(ylim=(0, d + 0.8))
    ax.set_xticks(ranks, [f"{rank}" for rank in ranks])
    ax.minorticks_off()
    ax.legend(loc="upper right")


def plateau_ranks(result: "PlateauRanksResult") -> Figure:
    """One panel for each rank, and the counts."""
    use_style()
    ranks = sorted(set(result.ranks))
    fig, axes = plt.subplots(1, len(ranks) + 1, figsize=(3.0 * (len(ranks) + 1), 3.0))
    for ax, rank in zip(axes, ranks, strict=False):
        draw_ranks(ax, result, rank)
        ax.set_title(f"Rank {rank}")
    draw_rank_counts(axes[-1], result)
    axes[-1].set_title("Rests")
    return fig
