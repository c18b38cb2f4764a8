"""The figures of orders and their entropy; each takes a result."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.prompt_entropy import PromptEntropyResult

MARKERS = "osD^vPX*"


def draw_orders(ax: Axes, result: "PromptEntropyResult") -> None:
    """Accuracy of every order, a column of points for each set of demonstrations."""
    place, ticks = 0.0, []
    for task in range(len(result.tasks)):
        columns = result.accuracy[task].reshape(-1, result.accuracy.shape[-1])
        for column in columns:
            ax.vlines(
                place, column.min(), column.max(), color=COLORS["grid"], linewidth=3, zorder=1
            )
            ax.plot([place] * len(column), column, "_", color=COLORS["language_models"], zorder=2)
            place += 1
        ticks.append(place - (len(columns) + 1) / 2)
        place += 2
    ax.set_xticks(ticks, [task.replace(" ", "\n") for task in result.tasks])
    ax.set(ylabel="accuracy", ylim=(-0.03, 1.05), xlabel="sets of four demonstrations, by task")


def draw_selection(ax: Axes, result: "PromptEntropyResult", score: str = "global_entropy") -> None:
    """Accuracy of the orders that entropy keeps, against that of all orders; a point for a set."""
    kept = result.selected(score)
    for task, marker in zip(range(len(result.tasks)), MARKERS, strict=False):
        ax.plot(
            result.accuracy[task].mean(-1).ravel(),
            kept[task].ravel(),
            linestyle="",
            marker=marker,
            markerfacecolor="none",
            label=result.tasks[task],
        )
    ends = np.array([-0.03, 1.05])
    ax.plot(ends, ends, color=COLORS["exact"], linewidth=0.8)
    names = {"global_entropy": "GlobalE", "local_entropy": "LocalE"}
    ax.set(xlabel="accuracy, mean of all orders", ylabel=f"kept by {names[score]}",
           xlim=ends, ylim=ends)  # fmt: skip


def prompt_entropy(result: "PromptEntropyResult") -> Figure:
    """What orders do, and what choosing by entropy gains."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), width_ratios=(1.7, 1))
    draw_orders(axes[0], result)
    draw_selection(axes[1], result)
    axes[1].legend(fontsize=8)
    return fig
