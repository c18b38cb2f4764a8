"""Losses of softmax, linear and mesa blocks on raw states; a figure takes a result alone."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.sequence_hybrids import SequenceHybridsResult

HUES = ("other", "gradient_descent", "implicit_dynamics", "mesa_optimization", "language_models")
TEXTBOOK = COLORS["bayesian"]


def draw_losses(ax: Axes, result: "SequenceHybridsResult") -> None:
    """Loss of every prediction along the sequence."""
    t = np.arange(1, result.losses.shape[2] + 1)
    for name, losses, hue in zip(result.names, result.losses, HUES, strict=False):
        band(ax, t, losses, color=COLORS[hue], label=name, **LINE_STYLES["trained"])
    ax.plot(
        t, result.least_squares, color=TEXTBOOK, label="least squares", **LINE_STYLES["textbook"]
    )
    ax.axhline(result.noise_floor, label="noise", **LINE_STYLES["exact"])
    ax.set(
        xlabel="states seen, t", ylabel="loss, ½ E |ŝ − s|² (log)", yscale="log", ylim=(None, 12)
    )
    plain_log_ticks(ax)
    ax.set_xticks([1, *range(5, len(t) + 1, 5)])
    ax.legend(loc="upper right", ncols=2, fontsize=8)


def sequence_hybrids(result: "SequenceHybridsResult") -> Figure:
    """The losses on a sheet of their own."""
    use_style()
    fig, ax = plt.subplots(figsize=(5.4, 3.6))
    draw_losses(ax, result)
    ax.set_title("Blocks on raw states")
    return fig
