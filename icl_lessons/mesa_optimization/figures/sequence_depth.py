"""The figures of linear attention on sequences; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.sequence_depth import SequenceDepthResult

HUES = ("mesa_optimization", "gradient_descent", "implicit_dynamics", "language_models")
TEXTBOOK = COLORS["bayesian"]


def draw_positions(ax: Axes, result: "SequenceDepthResult") -> None:
    """Loss of every prediction along the sequence."""
    t = np.arange(1, result.losses.shape[2] + 1)
    for name, losses, hue in zip(result.names, result.losses, HUES, strict=False):
        band(ax, t, losses, color=COLORS[hue], label=name, **LINE_STYLES["trained"])
    ax.plot(t, result.descent, color=TEXTBOOK, label="one step", **LINE_STYLES["textbook"])
    ax.plot(
        t,
        result.least_squares,
        color=TEXTBOOK,
        label="least squares",
        **LINE_STYLES["construction"],
    )
    ax.axhline(result.noise_floor, label="noise", **LINE_STYLES["exact"])
    ax.set(
        xlabel="states seen, t", ylabel="loss, ½ E |ŝ − s|² (log)", yscale="log", ylim=(None, 20)
    )
    plain_log_ticks(ax)
    ax.legend(loc="upper right", ncols=2, fontsize=8)


def draw_depth(ax: Axes, result: "SequenceDepthResult") -> None:
    """Loss by depth, beside solvers that do as many multiplications with the data."""
    layers = [(int(name.split()[0]), name) for name in result.names if name.split()[0].isdigit()]
    for i, (depth, name) in enumerate(layers):
        seeds = result.mean(name)
        ax.plot(
            [depth] * len(seeds),
            seeds,
            "o",
            color=COLORS["mesa_optimization"],
            label="trained layers, each seed" if i == 0 else None,
        )
    depths = np.array(result.solver_steps) + 1  # the read-out is a layer too
    for values, label, style in (
        (result.mean("shared"), "solver, one step size", "textbook"),
        (result.mean("own"), "solver, own step sizes", "construction"),
    ):
        ax.plot(depths, values, color=TEXTBOOK, label=label, **LINE_STYLES[style])
    ax.axhline(result.mean("least_squares"), label="least squares", **LINE_STYLES["exact"])
    ax.set(xlabel="layers", ylabel="loss from the second prediction on", ylim=(0, None))
    ax.legend(loc="upper right")


def sequence_depth(result: "SequenceDepthResult") -> Figure:
    """Both panels on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4))
    draw_positions(axes[0], result)
    axes[0].set_title("Along the sequence")
    draw_depth(axes[1], result)
    axes[1].set_title("By depth")
    return fig
