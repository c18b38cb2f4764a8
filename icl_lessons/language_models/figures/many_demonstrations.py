"""The figure of descent on many demonstrations."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.many_demonstrations import (
        ManyDemonstrationsResult,
    )

CONTEXT, DESCENT = COLORS["language_models"], COLORS["gradient_descent"]
PANEL = (2.6, 2.6)


def draw_many_demonstrations(ax: Axes, result: "ManyDemonstrationsResult", task: int) -> None:
    """Accuracy on one task by number of demonstrations, a thin line for each seed."""
    places = np.arange(len(result.n_demonstrations))
    look = {"color": DESCENT, "linewidth": 1.2, "marker": "o", "markersize": 4}
    for seed, row in enumerate(result.last()[task].T):
        ax.plot(places, row, label="descent, each seed" if seed == 0 else None, **look)
    fresh = result.last("queries not among the demonstrations")[task].T
    look = {**LINE_STYLES["textbook"], "color": COLORS["development"], "linewidth": 1.5}
    for seed, row in enumerate(fresh):
        ax.plot(places, row, label="on queries it was not told" if seed == 0 else None, **look)
    ceiling = result.ceiling[task].T
    for seed, row in enumerate(ceiling):
        ax.scatter(
            places,
            row,
            marker="_",
            s=120,
            color=COLORS["exact"],
            linewidth=0.9,
            zorder=3,
            label="queries whose label was told" if seed == 0 else None,
        )
    first = (
        result.n_demonstrations.index(result.n_in_context)
        if (result.n_in_context in result.n_demonstrations)
        else 0
    )
    ax.scatter(
        np.full(result.in_context.shape[1], places[first] - 0.12),
        result.in_context[task],
        marker="D",
        s=26,
        facecolor="none",
        color=CONTEXT,
        zorder=4,
        label=f"in context, {result.n_in_context} demonstrations",
    )
    ax.set_xticks(places, result.n_demonstrations)
    ax.set(
        xlim=(-0.35, places[-1] + 0.35),
        ylim=(-0.03, 1.07),
        xlabel="demonstrations",
        title=result.tasks[task],
    )


def many_demonstrations(result: "ManyDemonstrationsResult") -> Figure:
    """A panel for each task."""
    use_style()
    tasks = len(result.tasks)
    size = (PANEL[0] * tasks, PANEL[1] + 0.6)
    fig, axes = plt.subplots(1, tasks, figsize=size, sharey=True, squeeze=False)
    for task, ax in enumerate(axes[0]):
        draw_many_demonstrations(ax, result, task)
    axes[0, 0].set_ylabel("accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8.5)
    return fig
