"""The figures of in-context learning against gradient descent; each takes a result and a task."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.icl_against_gd import ICLAgainstGDResult

CONTEXT, DESCENT = COLORS["language_models"], COLORS["gradient_descent"]
MARKERS = "osD^vPX*ph<>"


def _rivals(ax: Axes, result: "ICLAgainstGDResult", measure: str, task: int) -> None:
    """A thin line for each way to fine-tune, told apart by its mark."""
    places = np.arange(len(result.n_demonstrations))
    for name, marker in zip(result.rivals, MARKERS, strict=False):
        whole = "block" not in name and "values" not in name
        ax.plot(
            places,
            result.last(measure, name)[task].mean(-1),
            color=DESCENT if whole else COLORS["development"],
            linestyle="-" if whole else (0, (4, 1.5)),
            marker=marker,
            markersize=5,
            markerfacecolor="none",
            linewidth=1.1,
            label=name,
        )


def _finish(ax: Axes, result: "ICLAgainstGDResult", task: int, ylabel: str) -> None:
    ax.set_xticks(range(len(result.n_demonstrations)), result.n_demonstrations)
    ax.set(xlabel="demonstrations", ylabel=ylabel, ylim=(-0.03, 1.05), title=result.tasks[task])


def draw_accuracy(ax: Axes, result: "ICLAgainstGDResult", task: int) -> None:
    """Accuracy over the whole vocabulary on one task, by number of demonstrations."""
    places = np.arange(len(result.n_demonstrations))
    values = result.last("accuracy", "in context")[task].T
    band(ax, places, values, color=CONTEXT, label="in context")
    _rivals(ax, result, "accuracy", task)
    ax.axhline(1 / result.labels[task], **LINE_STYLES["exact"])
    ax.text(places[-1], 1 / result.labels[task] - 0.02, "one label always", ha="right", va="top",
            fontsize=8, color=COLORS["exact"])  # fmt: skip
    _finish(ax, result, task, "accuracy")


def draw_likeness(
    ax: Axes, result: "ICLAgainstGDResult", task: int, measure: str = "overlap_cosine"
) -> None:
    """Likeness of each method's answers to those in context, beside the two baselines."""
    places = np.arange(len(result.n_demonstrations))
    for name, label, style in (
        ("in context, reordered", "in context, reordered", "trained"),
        ("no demonstrations", "no demonstrations", "textbook"),
    ):
        values = result.last(measure, name)[task].T
        look = {**LINE_STYLES[style], "color": CONTEXT}
        ax.plot(places, values.mean(0), label=label, **look)
    _rivals(ax, result, measure, task)
    names = {"overlap_cosine": "overlap cosine similarity", "token_overlap": "token overlap"}
    _finish(ax, result, task, names[measure])


def icl_against_gd(result: "ICLAgainstGDResult") -> Figure:
    """Accuracy above, likeness below, a column for each task."""
    use_style()
    tasks = len(result.tasks)
    fig, axes = plt.subplots(2, tasks, figsize=(2.9 * tasks, 6.4), squeeze=False, sharey="row")
    for task in range(tasks):
        draw_accuracy(axes[0, task], result, task)
        draw_likeness(axes[1, task], result, task)
    shown = [h for h in zip(*axes[1, 0].get_legend_handles_labels(), strict=True)]
    first = list(zip(*axes[0, 0].get_legend_handles_labels(), strict=True))[:1]
    handles, labels = zip(*(first + shown), strict=True)
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return fig
