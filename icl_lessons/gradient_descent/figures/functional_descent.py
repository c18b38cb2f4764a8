"""The figures of functional gradient descent; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, draw_matrix, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.functional_descent import (
        FunctionalDescentResult,
    )

LOOKS = {
    "linear": (COLORS["bayesian"], (0, (1, 1.4))),
    "arc-cosine": (COLORS["implicit_dynamics"], (0, (5, 2))),
    "RBF": (COLORS["gradient_descent"], "-"),
    "exponential": (COLORS["mesa_optimization"], (0, (3, 1, 1, 1))),
    "softmax": (COLORS["other"], (0, (5, 1, 1, 1))),
}


def draw_table(ax: Axes, result: "FunctionalDescentResult") -> None:
    """Mean error of every kernel of the attention (columns) on data of every kernel (rows)."""
    table = np.concatenate([result.table.mean(0), result.bayes.mean(0)[:, None]], 1)
    draw_matrix(
        ax,
        np.maximum(table, 1e-9),
        row_labels=result.data_kernels,
        column_labels=(*result.attention_kernels, "Bayes"),
        decimals=2,
        blocks=(),
    )
    edge = len(result.attention_kernels)
    ax.plot([edge, edge], [0, len(table)], color=COLORS["other"], linewidth=1.1)
    ax.tick_params(axis="x", rotation=45)
    ax.set(xlabel="attention computes with", ylabel="data drawn with")


def draw_depth(ax: Axes, result: "FunctionalDescentResult", data: str = "RBF") -> None:
    """Error against depth on data of one kernel, every kernel of the attention, and Bayes."""
    row = result.data_kernels.index(data)
    for j, name in enumerate(result.attention_kernels):
        if name == "exponential" and np.allclose(result.error[:, row, j], result.error[:, row, 2]):
            continue  # the same curve as RBF on inputs of one length
        color, style = LOOKS[name]
        band(
            ax, result.depths, result.error[:, row, j], color=color, label=name,
            linestyle=style, linewidth=2,
        )  # fmt: skip
    ax.axhline(result.bayes[:, row].mean(), label="Bayes", **LINE_STYLES["exact"])
    ax.set(xlabel="layers", ylabel="error over that of 0", ylim=(0, 1), xticks=result.depths)
    ax.legend(loc="best", ncols=2)


def functional_descent(result: "FunctionalDescentResult") -> Figure:
    """The table and the curves over depth."""
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(11.5, 3.6))
    draw_table(axes[0], result)
    axes[0].set_title(f"Error after {result.table_depth} layers")
    for ax, data in zip(axes[1:], ("arc-cosine", "RBF"), strict=True):
        draw_depth(ax, result, data)
        ax.set_title(f"Data of the {data} kernel")
    return fig
