"""The figures of function vectors: effects of heads, accuracy by number of heads."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, band, use_style
from icl_lessons.language_models.figures.task_vectors import draw_levels

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.function_vectors import FunctionVectorsResult

VECTOR, CONTROL = COLORS["language_models"], COLORS["other"]


def draw_effects(ax: Axes, result: "FunctionVectorsResult", seed: int, corruption: str) -> None:
    """Average indirect effect of every head of one seed's model, written in its cell."""
    values = result.average_effects(corruption)[..., seed]
    largest = np.abs(result.average_effects(corruption)).max()
    ax.imshow(values, cmap="PuOr_r", vmin=-largest, vmax=largest, aspect="auto")
    if values.size <= 64:
        for (block, head), value in np.ndenumerate(values):
            ax.text(head, block, f"{value:.2f}", ha="center", va="center", fontsize=8,
                    color="black" if abs(value) < 0.6 * largest else "white")  # fmt: skip
    ax.grid(visible=False)
    ax.set(xlabel="head", ylabel="block", title=f"seed {seed}")
    if values.size <= 64:
        ax.set_xticks(range(values.shape[1]))
        ax.set_yticks(range(values.shape[0]))


def draw_by_count(
    ax: Axes, result: "FunctionVectorsResult", task: int, corruption: str, block: int = 0
) -> None:
    """Accuracy of the query alone by number of heads in the vector, added after a block."""
    place = result.corruptions.index(corruption)
    for values, label, color, style in (
        (result.added, "function vector", VECTOR, "-"),
        (result.random, "random direction, same length", CONTROL, (0, (1, 1.4))),
    ):
        band(ax, np.array(result.counts), values[place, task, block].T, color=color, label=label,
             linestyle=style)  # fmt: skip
    draw_levels(ax, result, task, result.counts[-1])
    ax.set_xticks(result.counts)
    ax.set(xlabel="heads", ylabel="accuracy", ylim=(-0.06, 1.08), title=result.tasks[task])


def function_vectors_by_head(result: "FunctionVectorsResult") -> Figure:
    """Effects of heads above, for each seed; accuracy by number of heads below, task by task."""
    use_style()
    corruption = result.corruptions[-1]
    seeds, tasks = result.zero_shot.shape[-1], len(result.tasks)
    columns = min(4, tasks)
    rows = -(-tasks // columns)
    fig = plt.figure(figsize=(2.7 * columns, 2.4 + 2.5 * rows))
    above, below = fig.subfigures(2, 1, height_ratios=(2.4, 2.5 * rows))
    for seed, ax in enumerate(above.subplots(1, seeds, squeeze=False)[0]):
        draw_effects(ax, result, seed, corruption)
    axes = below.subplots(rows, columns, squeeze=False, sharey=True)
    for ax in axes.flat[tasks:]:
        ax.set_axis_off()
    for task, ax in zip(range(tasks), axes.flat, strict=False):
        draw_by_count(ax, result, task, corruption)
        if task % columns:
            ax.set_ylabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    below.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    return fig
