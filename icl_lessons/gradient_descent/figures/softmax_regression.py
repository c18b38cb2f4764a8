"""The figures of softmax regression; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.softmax_regression import (
        SoftmaxRegressionResult,
    )

DESCENT, ATTENTION = COLORS["gradient_descent"], COLORS["mesa_optimization"]


def draw_bounds(ax: Axes, result: "SoftmaxRegressionResult") -> None:
    """Bounds over the movement that they bound, medians over draws."""
    for values, label, color, style in (
        (result.paper_bound_ratio, "paper's", COLORS["other"], (0, (1, 1.4))),
        (result.descent_bound_ratio, "½ |A| |x′ − x|", DESCENT, "-"),
        (result.attention_bound_ratio, "½ |A′ − A| |x|", ATTENTION, (0, (5, 2))),
    ):
        band(
            ax, result.radii, np.median(values, -1), color=color, label=label,
            linestyle=style, linewidth=2,
        )  # fmt: skip
    ax.axhline(1, label="tight", **LINE_STYLES["exact"])
    ax.set(xlabel="norm R of data and weights", ylabel="bound over movement (log)", yscale="log")
    ax.legend(loc="upper left")


def draw_cosines(ax: Axes, result: "SoftmaxRegressionResult", radius: int = 1) -> None:
    """Angles between the two movements, all seeds, for one radius (by index)."""
    ax.hist(result.cosine[:, radius].ravel(), bins=40, range=(-1, 1), color=ATTENTION, alpha=0.6)
    ax.axvline(1, label="equal direction", **LINE_STYLES["exact"])
    ax.set(
        xlabel="cosine of the two movements",
        ylabel=f"draws at R = {result.radii[radius]:g}",
        xlim=(-1.05, 1.05),
    )
    ax.legend(loc="upper left")


def draw_gains(ax: Axes, result: "SoftmaxRegressionResult") -> None:
    """How often either movement lowers the loss."""
    for values, label, color, style in (
        (result.descent_gain, "step on the weights", DESCENT, "-"),
        (result.attention_gain, "layer on the data", ATTENTION, (0, (5, 2))),
    ):
        band(
            ax, result.radii, (values > 0).mean(-1), color=color, label=label,
            linestyle=style, linewidth=2,
        )  # fmt: skip
    ax.axhline(0.5, label="chance", **LINE_STYLES["exact"])
    ax.set(xlabel="norm R of data and weights", ylabel="share with lower loss", ylim=(0, 1.05))
    ax.legend(loc="center left", bbox_to_anchor=(0, 0.7))


def softmax_regression(result: "SoftmaxRegressionResult") -> Figure:
    """Bounds, angles and losses."""
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(10.8, 3.2))
    for ax, draw, title in zip(
        axes,
        (draw_bounds, draw_cosines, draw_gains),
        ("How loose the bounds are", "Do they point the same way?", "Do they lower the loss?"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
