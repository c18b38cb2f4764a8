"""The figures of constructed sequence models; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.overlapping_pairs import OverlappingPairsResult
    from icl_lessons.mesa_optimization.experiments.sequence_construction import (
        SequenceConstructionsResult,
    )

OWN, PLAIN = COLORS["mesa_optimization"], COLORS["gradient_descent"]
METHODS = {
    "descent": ("gradient steps", COLORS["gradient_descent"], "textbook"),
    "stacked": ("causal steps, stacked", COLORS["other"], "construction"),
    "richardson": ("Prop. 2, Richardson", COLORS["mesa_optimization"], "construction"),
    "chebyshev": ("Prop. 2, Chebyshev", COLORS["implicit_dynamics"], "construction"),
}


def draw_solver_errors(ax: Axes, result: "SequenceConstructionsResult") -> None:
    """Relative error of the preconditioned query, layer by layer."""
    layers = np.arange(result.richardson.shape[1])
    dashed = LINE_STYLES["construction"]
    band(ax, layers, result.richardson, color=OWN, label="Richardson", **dashed)
    fast = COLORS["implicit_dynamics"]
    band(ax, layers, result.chebyshev, color=fast, label="Chebyshev", **dashed)
    beyond = result.beyond.mean(0)
    ax.plot(layers, beyond, color=PLAIN, linewidth=1.2, label="step 10 % above the limit")
    ax.set(
        xlabel="preconditioning layers",
        ylabel="relative error (log)",
        yscale="log",
        ylim=(1e-6, 1e3),
    )
    ax.legend(loc="upper right", fontsize=8.5)


def draw_positions(ax: Axes, result: "SequenceConstructionsResult") -> None:
    """Richardson's error at every position, for several numbers of layers."""
    positions = np.arange(1, result.by_position.shape[2] + 1)
    for i, (layers, shade) in enumerate(
        zip(result.shown, np.linspace(0.35, 1, len(result.shown)), strict=True)
    ):
        row = result.by_position[:, i].mean(0)
        ax.plot(positions, row, color=OWN, alpha=shade, linewidth=1.6)
        if i % 2 == 0:
            ax.annotate(
                f"{layers}",
                (positions[-1], row[-1]),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=OWN,
            )
    ax.set(xlabel="position", ylabel="relative error (log)", yscale="log", ylim=(1e-2, 10))
    ax.set_title("Richardson, by number of layers")


def draw_depth(ax: Axes, result: "SequenceConstructionsResult") -> None:
    """Loss by depth, each method with the best step sizes for its depth."""
    places = np.arange(len(result.depths))
    for (name, color, style), rows in zip(METHODS.values(), result.loss, strict=True):
        band(ax, places, rows, color=color, label=name, **LINE_STYLES[style])
    ax.axhline(result.least_squares_loss.mean(), label="least squares", **LINE_STYLES["exact"])
    ax.set_xticks(places, [str(depth) for depth in result.depths])
    ax.set(
        xlabel="steps, or preconditioning layers",
        ylabel="loss (log)",
        yscale="log",
        ylim=(0.35 * result.least_squares_loss.mean(), None),
    )
    plain_log_ticks(ax)
    ax.legend(loc="lower left", fontsize=8)


def sequence_constructions(result: "SequenceConstructionsResult") -> Figure:
    """Solver errors, where they are, and what depth buys."""
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(10.8, 3.2))
    draw_solver_errors(axes[0], result)
    draw_positions(axes[1], result)
    draw_depth(axes[2], result)
    return fig


def draw_early_ascent(ax: Axes, result: "OverlappingPairsResult") -> None:
    """Least squares on the right pairs, on all neighbours, and with a separator between pairs."""
    for name, text, color, style in (
        ("overlapping", "all neighbours", PLAIN, "construction"),
        ("separated", "with an empty token between", COLORS["other"], "construction"),
        ("proper", "the pairs alone", OWN, "textbook"),
    ):
        rows = getattr(result, name)
        band(ax, result.queries, rows, color=color, label=text, **LINE_STYLES[style])
    ax.axhline(0.5, label="predicting 0", **LINE_STYLES["exact"])
    ax.set(xlabel="query", ylabel="loss per coordinate", ylim=(0, None))
    ax.legend(loc="upper right", fontsize=8.5)


def draw_peaks(ax: Axes, result: "OverlappingPairsResult") -> None:
    """The query at which the loss is largest, against the number of coordinates."""
    for row in result.peak:
        ax.plot(result.dimensions, row, "o", color=PLAIN, alpha=0.6)
    ax.plot(
        result.dimensions,
        result.dimensions / 2 + 1,
        label="as many pairs as coordinates",
        **LINE_STYLES["exact"],
    )
    ax.set(xlabel="coordinates", ylabel="query of the peak")
    ax.legend(loc="upper left", fontsize=8.5)


def overlapping_pairs(result: "OverlappingPairsResult") -> Figure:
    """The early ascent, and where its peak lies."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 2.9))
    draw_early_ascent(axes[0], result)
    draw_peaks(axes[1], result)
    return fig
