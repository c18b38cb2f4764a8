"""The figures of in-context learning against gradient descent; each takes a result."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.icl_against_gd import ICLAgainstGDResult

CONTEXT, DESCENT, PART = (
    COLORS[name] for name in ("language_models", "gradient_descent", "development")
)
MARKERS = "osD^vPX*ph<>"
NAMES = {
    "accuracy": "accuracy",
    "overlap_cosine": "overlap cosine similarity",
    "token_overlap": "token overlap",
}


def _look(name: str, marker: str) -> dict:
    """Of a way to fine-tune: all of the model, or dashed for a part of it."""
    whole = "block" not in name and "values" not in name
    return {
        "color": DESCENT if whole else PART,
        "linestyle": "-" if whole else (0, (4, 1.5)),
        "linewidth": 1.1,
        "marker": marker,
        "markersize": 5,
        "markerfacecolor": "none",
        "label": name,
    }


def _finish(ax: Axes, result: "ICLAgainstGDResult", task: int, measure: str) -> None:
    ax.set_xticks(range(len(result.n_demonstrations)), result.n_demonstrations)
    ax.set(
        xlabel="demonstrations", ylabel=NAMES[measure], ylim=(-0.03, 1.05), title=result.tasks[task]
    )
    ax.label_outer(remove_inner_ticks=False)


def _one_label(ax: Axes, result: "ICLAgainstGDResult", task: int) -> None:
    """What one label, given always, is right about."""
    ax.axhline(1 / result.labels[task], **LINE_STYLES["exact"], zorder=1)
    ax.annotate("one label always", (0.98, 1 / result.labels[task]), (0, -2),
                xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", va="top", fontsize=8, color=COLORS["exact"])  # fmt: skip


def draw_accuracy(ax: Axes, result: "ICLAgainstGDResult", task: int) -> None:
    """Accuracy over the whole vocabulary on one task, by number of demonstrations."""
    places = np.arange(len(result.n_demonstrations))
    values = result.last("accuracy", "in context")[task].T
    for name, marker in zip(result.rivals, MARKERS, strict=False):
        ax.plot(places, result.last("accuracy", name)[task].mean(-1), **_look(name, marker))
    band(ax, places, values, color=CONTEXT, label="in context", **LINE_STYLES["trained"])
    _one_label(ax, result, task)
    _finish(ax, result, task, "accuracy")


def draw_likeness(
    ax: Axes, result: "ICLAgainstGDResult", task: int, measure: str = "overlap_cosine"
) -> None:
    """Likeness of each method's answers to those in context, beside the two baselines."""
    places = np.arange(len(result.n_demonstrations))
    for name, marker in zip(result.rivals, MARKERS, strict=False):
        ax.plot(places, result.last(measure, name)[task].mean(-1), **_look(name, marker))
    for name, style in (
        ("in context, reordered", "construction"),
        ("no demonstrations", "textbook"),
    ):
        look = {**LINE_STYLES[style], "color": CONTEXT}
        ax.plot(places, result.last(measure, name)[task].mean(-1), label=name, **look)
    _finish(ax, result, task, measure)


def draw_by_epoch(ax: Axes, result: "ICLAgainstGDResult", task: int, number: int) -> None:
    """Accuracy while the model is fine-tuned, beside that of the same demonstrations in context.

    Args:
        number: place among the numbers of demonstrations.
    """
    for name, marker in zip(result.rivals, MARKERS, strict=False):
        row = result.accuracy[task, result.methods.index(name), number].mean(0)
        ax.plot(result.epochs, row, **_look(name, marker))
    context = result.last("accuracy", "in context")[task, number].mean()
    ax.axhline(context, color=CONTEXT, label="in context", **LINE_STYLES["trained"])
    _one_label(ax, result, task)
    n = result.n_demonstrations[number]
    ax.set(
        xlabel="epoch",
        ylabel=f"accuracy, {n} demonstration{'s' if n > 1 else ''}",
        ylim=(-0.03, 1.05),
        title=result.tasks[task],
    )
    ax.label_outer(remove_inner_ticks=False)


def _panels(result: "ICLAgainstGDResult", rows: int) -> tuple[Figure, np.ndarray]:
    use_style()
    tasks = len(result.tasks)
    size = (2.3 * tasks + 0.8, 2.55 * rows + 0.9)
    return plt.subplots(rows, tasks, figsize=size, squeeze=False, sharey="row")


def _legend(fig: Figure, *axes: Axes) -> None:
    """Every line once; those of in-context learning first."""
    found = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    first = ("in context", "in context, reordered", "no demonstrations")
    labels = sorted(found, key=lambda label: label not in first)
    fig.legend([found[label] for label in labels], labels, loc="outside lower center", ncols=3,
               fontsize=8.5)  # fmt: skip


def icl_against_gd(result: "ICLAgainstGDResult") -> Figure:
    """Accuracy above, overlap cosine similarity below, a column for each task; means of seeds."""
    fig, axes = _panels(result, 2)
    for task in range(len(result.tasks)):
        draw_accuracy(axes[0, task], result, task)
        draw_likeness(axes[1, task], result, task)
    _legend(fig, *axes[:, 0])
    return fig


def likeness(result: "ICLAgainstGDResult") -> Figure:
    """Token overlap above, overlap cosine similarity below, each beside its two baselines."""
    fig, axes = _panels(result, 2)
    for task in range(len(result.tasks)):
        draw_likeness(axes[0, task], result, task, "token_overlap")
        draw_likeness(axes[1, task], result, task, "overlap_cosine")
    _legend(fig, axes[0, 0])
    return fig


def by_epoch(
    result: "ICLAgainstGDResult", n_demonstrations: tuple[int, ...] | None = None
) -> Figure:
    """Accuracy by epoch, a row for each number of demonstrations: the first and last if ``None``.

    Raises:
        ValueError: a number that the result does not hold.
    """
    numbers = result.n_demonstrations
    chosen = tuple(dict.fromkeys((numbers[0], numbers[-1])))
    chosen = chosen if n_demonstrations is None else n_demonstrations
    if not chosen or any(n not in numbers for n in chosen):
        raise ValueError(f"n_demonstrations: got {chosen}; use some of {numbers}")
    fig, axes = _panels(result, len(chosen))
    for row, n in zip(axes, chosen, strict=True):
        for task, ax in enumerate(row):
            draw_by_epoch(ax, result, task, numbers.index(n))
    _legend(fig, axes[0, 0])
    return fig
