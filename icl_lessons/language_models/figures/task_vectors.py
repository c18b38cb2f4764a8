"""The figures of task vectors; each takes a result and a task."""

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.task_vectors import TaskVectorsResult

STATES = COLORS["language_models"]
LOOKS = {
    "replace": {"color": COLORS["development"], "linestyle": (0, (4, 1.5)), "marker": "s"},
    "add": {"color": STATES, "linestyle": "-", "marker": "o"},
}
NAMES = {"replace": "state replaced", "add": "difference added"}
WHOSE = {
    "its own query": {"color": STATES, "linestyle": "-", "marker": "o"},
    "the donor's query": {"color": COLORS["development"], "linestyle": "--", "marker": "s"},
}


def _thin(ax: Axes, values: np.ndarray, look: dict, label: str) -> None:
    """A line for each seed, ``values`` ``[blocks, seeds]``: seeds differ too much for a mean."""
    for seed, row in enumerate(values.T):
        ax.plot(row, markersize=5, markerfacecolor="none", linewidth=1.2,
                label=label if seed == 0 else None, **look)  # fmt: skip


def _finish(ax: Axes, blocks: int, title: str, ylabel: str) -> None:
    few = range(0, blocks, max(1, blocks // 8))
    ax.set_xticks(few, [str(block) for block in few])
    ax.set(xlabel="after block", ylabel=ylabel, ylim=(-0.04, 1.06), title=title)


def draw_levels(ax: Axes, result: Any, task: int, right: float | int) -> None:
    """Accuracy on a task without vectors: a thin line for each seed, named at the last place."""
    for values, text, edge in (
        (result.in_context, "in context", "bottom"),
        (result.zero_shot, "query alone", "top"),
    ):
        levels = values[task].reshape(-1, values.shape[-1]).mean(0)
        for level in levels:
            ax.axhline(level, **LINE_STYLES["exact"])
        named = levels.max() if edge == "bottom" else levels.min()
        ax.text(right, named, text, ha="right", va=edge, fontsize=8, color=COLORS["exact"])


def draw_patched(ax: Axes, result: "TaskVectorsResult", task: int) -> None:
    """Accuracy of the query alone with the task's vector, by block; a line for each seed."""
    for way, name in enumerate(result.ways):
        _thin(ax, result.patched[task, way].mean(1), LOOKS[name], NAMES[name])
    draw_levels(ax, result, task, result.patched.shape[2] - 1)
    _finish(ax, result.patched.shape[2], result.tasks[task], "accuracy")


def draw_read(ax: Axes, result: "TaskVectorsResult", task: int) -> None:
    """Whose query is answered when the last token's state is swapped after a block."""
    for i, (name, look) in enumerate(WHOSE.items()):
        _thin(ax, result.read[task, :, i], look, f"answers {name}")
    _finish(ax, result.read.shape[1], result.tasks[task], "share of prompts")


def draw_injected(ax: Axes, result: "TaskVectorsResult", way: str = "add") -> None:
    """Accuracy at the injected task against that at the demonstrated one, after every block."""
    markers = "osD^vPX*"
    values = result.injected[:, result.ways.index(way)]
    for pair, (shown, injected) in enumerate(result.pairs):
        ax.plot(values[pair, :, 0].ravel(), values[pair, :, 1].ravel(), linestyle="none",
                marker=markers[pair % len(markers)], markerfacecolor="none", color=STATES,
                label=f"{injected} into {shown}")  # fmt: skip
    ax.set(xlabel="accuracy at the task demonstrated", ylabel="accuracy at the task injected",
           xlim=(-0.04, 1.06), ylim=(-0.04, 1.06), title=NAMES[way])  # fmt: skip


def task_vectors_by_block(result: "TaskVectorsResult") -> Figure:
    """Accuracy with vectors above, whose query is answered after a swap below, task by task."""
    use_style()
    tasks = len(result.tasks)
    columns = min(4, tasks)
    bands = -(-tasks // columns)
    fig, axes = plt.subplots(
        2 * bands, columns, figsize=(2.7 * columns, 4.7 * bands), squeeze=False, sharey=True
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for task in range(tasks):
        band, column = divmod(task, columns)
        for row, draw in enumerate((draw_patched, draw_read)):
            ax = axes[2 * band + row, column]
            ax.set_axis_on()
            draw(ax, result, task)
            if column:
                ax.set_ylabel("")
    entries = [axes[row, 0].get_legend_handles_labels() for row in (0, 1)]
    handles, labels = (sum(both, []) for both in zip(*entries, strict=True))
    fig.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    return fig
