"""The figure of in-context learning and descent by size of the model."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.model_size import ModelSizeResult

CONTEXT, DESCENT = COLORS["language_models"], COLORS["gradient_descent"]


def _seeds(ax: Axes, values: np.ndarray, label: str, **look) -> None:
    """A line for each seed, ``[sizes, seeds]``."""
    for seed, row in enumerate(values.T):
        ax.plot(range(len(row)), row, label=label if seed == 0 else None, **look)


def draw_accuracy(ax: Axes, result: "ModelSizeResult", number: int) -> None:
    """Mean over tasks, in context and after descent at its best rate, a line for each seed."""
    context = result.of("accuracy", result.methods[0])[:, :, number].mean(1)
    descent = result.best("accuracy")[:, :, number].mean(1)
    look = {"linewidth": 1.4, "markersize": 5, "markerfacecolor": "none"}
    _seeds(ax, context, "in context", color=CONTEXT, marker="D", **look)
    _seeds(ax, descent, "descent, best rate", color=DESCENT, marker="o", **look)
    _finish(ax, result, "accuracy", number)


def draw_likeness(ax: Axes, result: "ModelSizeResult", number: int) -> None:
    """Overlap cosine similarity with in-context learning, mean over tasks, each seed."""
    look = {"linewidth": 1.4, "markersize": 5, "markerfacecolor": "none"}
    for values, label, style in (
        (result.of("overlap_cosine", result.methods[1]), "in context, reordered", "trained"),
        (result.of("overlap_cosine", result.methods[2]), "no demonstrations", "textbook"),
    ):
        shown = {**LINE_STYLES[style], "color": CONTEXT, "linewidth": 1.4}
        _seeds(ax, values[:, :, number].mean(1), label, **shown)
    best = result.best("overlap_cosine")[:, :, number].mean(1)
    _seeds(ax, best, "descent, best rate", color=DESCENT, marker="o", **look)
    _finish(ax, result, "overlap cosine similarity", number)


def _finish(ax: Axes, result: "ModelSizeResult", ylabel: str, number: int) -> None:
    ax.set_xticks(range(len(result.sizes)), [size.replace(", ", ",\n") for size in result.sizes])
    n = result.n_demonstrations[number]
    ax.set(
        xlim=(-0.3, len(result.sizes) - 0.7),
        ylim=(-0.03, 1.05),
        ylabel=ylabel,
        title=f"{n} demonstration{'s' if n > 1 else ''}",
    )


def model_size(result: "ModelSizeResult") -> Figure:
    """Accuracy above, likeness below, a column for each number of demonstrations."""
    use_style()
    numbers = len(result.n_demonstrations)
    fig, axes = plt.subplots(2, numbers, figsize=(3.6 * numbers, 6.4), sharey=True, squeeze=False)
    for number in range(numbers):
        draw_accuracy(axes[0, number], result, number)
        draw_likeness(axes[1, number], result, number)
    handles, labels = zip(
        *dict(
            (label, (handle, label))
            for ax in axes[:, 0]
            for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        ).values(),
        strict=True,
    )
    fig.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5)
    return fig
