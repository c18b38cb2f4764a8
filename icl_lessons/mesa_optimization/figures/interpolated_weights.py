"""The figures of one trained layer beside the construction; each takes a result alone."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, draw_matrix, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.interpolated_weights import (
        InterpolatedWeightsResult,
    )

TRAINED = COLORS["mesa_optimization"]
TEXTBOOK = COLORS["bayesian"]
SLOTS = ("ŝ", "$s_t$", "$s_{t-1}$")


def _draw_product(ax: Axes, matrix) -> None:
    d = len(matrix) // len(SLOTS)
    draw_matrix(ax, matrix, numbers=False, color=TRAINED, blocks=(d, 2 * d))
    centres = [d * (i + 0.5) for i in range(len(SLOTS))]
    ax.set_xticks(centres, SLOTS)
    ax.set_yticks(centres, SLOTS)


def draw_key_query(ax: Axes, result: "InterpolatedWeightsResult") -> None:
    """``W_K^T W_Q`` of the first seed: rows for the key, columns for the query."""
    _draw_product(ax, result.key_query[0])


def draw_projection_value(ax: Axes, result: "InterpolatedWeightsResult") -> None:
    """``P W_V`` of the first seed: rows for what is written, columns for what is read."""
    _draw_product(ax, result.projection_value[0])


def draw_between(ax: Axes, result: "InterpolatedWeightsResult") -> None:
    """Loss between the trained and the constructed weights."""
    label = "between the two"
    band(ax, result.shares, result.between, color=TRAINED, label=label, **LINE_STYLES["trained"])
    ax.axhline(
        result.descent_loss, color=TEXTBOOK, label="one step, best size", **LINE_STYLES["textbook"]
    )
    low, high = result.between.min(), max(result.between.max(), result.descent_loss)
    ax.set(
        xlabel="from trained (0) to constructed (1)",
        ylabel="loss from the second prediction on",
        ylim=(low - 0.5 * (high - low), high + 0.5 * (high - low)),
    )
    ax.legend(loc="lower right")


def interpolated_weights(result: "InterpolatedWeightsResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.3))
    for ax, draw, title in zip(
        axes,
        (draw_key_query, draw_projection_value, draw_between),
        ("Keys and queries, trained", "What is read and written", "Between the two"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
