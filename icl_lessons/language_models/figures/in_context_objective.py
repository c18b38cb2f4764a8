"""The figures of the model of prompts beside the language model; each draws one result."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.in_context_objective import (
        InContextObjectiveResult,
    )

LOOKS = {"prompts alone": COLORS["gradient_descent"], "CourseLM": COLORS["language_models"]}


def draw_accuracy(ax: Axes, result: "InContextObjectiveResult", separators: str) -> None:
    """Accuracy by number of demonstrations, mean of the attributes, with right labels and contrary.

    Args:
        separators: ``"its own"``, those that the model of prompts was trained on, or ``"others"``.
    """
    numbers = np.arange(result.accuracy.shape[-1])
    for name, color in LOOKS.items():
        accuracy = result.of(name, separators)
        half = len(accuracy) // 2
        band(ax, numbers, accuracy[:half].mean(0), color=color, label=name)
        for i, row in enumerate(accuracy[half:].mean(0)):  # the seeds differ: each has its line
            label = None if i else f"{name}, contrary"
            ax.plot(numbers, row, "--", color=color, linewidth=1.2, label=label)
    title = "Separators of its training" if separators == "its own" else "Other separators"
    ax.set(xlabel="demonstrations", ylabel="accuracy, mean of four attributes", title=title,
           ylim=(-0.04, 1.06))  # fmt: skip


def _marks(ax: Axes, values: np.ndarray) -> None:
    """A mark for each seed of each model."""
    for i, (row, color) in enumerate(zip(values, LOOKS.values(), strict=True)):
        ax.plot(np.full(len(row), i), row, "o", color=color, markersize=7, alpha=0.8)
    ax.set_xticks(range(len(LOOKS)), ("prompts\nalone", "CourseLM"))
    ax.set_xlim(-0.6, len(LOOKS) - 0.4)


def draw_loss(ax: Axes, result: "InContextObjectiveResult") -> None:
    """Nats for each token of plain text, a mark for each seed."""
    _marks(ax, result.loss)
    ax.axhline(result.uniform, **LINE_STYLES["exact"])
    ax.text(1.35, result.uniform, "uniform", ha="right", va="bottom", fontsize=8,
            color=COLORS["exact"])  # fmt: skip
    ax.set(ylim=(0, None), ylabel="nats for each token", title="On text")


def draw_sensitivity(ax: Axes, result: "InContextObjectiveResult") -> None:
    """Order sensitivity, mean of the attributes, a mark for each seed, on a log axis."""
    _marks(ax, result.sensitivity.mean(1))
    ax.set(yscale="log", ylabel="order sensitivity", title="In another order")


def in_context_objective(result: "InContextObjectiveResult") -> Figure:
    """Prompts, prompts with other separators, text, and order."""
    use_style()
    fig, axes = plt.subplots(1, 4, figsize=(12.4, 3.6), width_ratios=(1.5, 1.5, 1, 1))
    for ax, separators in zip(axes, ("its own", "others"), strict=False):
        draw_accuracy(ax, result, separators)
    axes[0].legend(fontsize=8, loc="lower right")
    draw_loss(axes[2], result)
    draw_sensitivity(axes[3], result)
    return fig
