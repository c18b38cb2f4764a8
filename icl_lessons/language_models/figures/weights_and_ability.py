"""The figures of weights and abilities; each draws one result."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style
from icl_lessons.tasks.attribute_text import NAMES

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.weights_and_ability import (
        WeightsAndAbilityResult,
        WeightSparsityResult,
    )

COLOR, OTHER = COLORS["language_models"], COLORS["gradient_descent"]
FALSE, LINES = COLORS["development"], ("-", "--", ":")
MARKERS = ("o", "s", "D", "^", "v")


def draw_sparsity(ax: Axes, result: "WeightSparsityResult", threshold: int = 1) -> None:
    """Shares of small entries by layer, beside a Gaussian and the construction, on a log axis.

    Args:
        threshold: which of the result's.
    """
    layers = np.arange(result.ratio.shape[2])
    for i, (name, mark) in enumerate(zip(("queries", "keys", "values"), MARKERS, strict=False)):
        shares = result.ratio[:, :, :, i, threshold].mean(1)
        ax.plot(layers, shares[result.trained], color=COLOR, marker=mark, label=name)
        ax.plot(layers, shares[-1], color=OTHER, marker=mark, markerfacecolor="none", linewidth=0.8)
    ax.plot([], [], color=OTHER, marker="o", markerfacecolor="none", label="Gaussian, same spread")
    ax.axhline(result.construction[0], **LINE_STYLES["exact"], label="construction")
    ax.set(
        yscale="log",
        xlabel="block",
        ylabel=f"share of entries below {result.thresholds[threshold]:g}",
        title="Few small entries",
        xticks=layers if len(layers) < 9 else layers[::8],
        ylim=(None, 2),
    )
    ax.legend(fontsize=8, loc="center right")


def draw_ranks(ax: Axes, result: "WeightSparsityResult") -> None:
    """Effective ranks through training, over those of Gaussian matrices."""
    names = ("queries", "keys", "values", "keys times queries", "output times values")
    ranks = result.rank.mean(2)  # [stages, seeds, kinds]
    share = ranks[:-1] / ranks[-1].mean(0)
    places = np.arange(len(share))
    for i, (name, mark) in enumerate(zip(names, MARKERS, strict=True)):
        color, style = (COLOR, "-") if i < 3 else (FALSE, "--")
        ax.plot(places, share[..., i].mean(1), style, color=color, marker=mark, label=name)
    ax.set_xticks(places, [stage.rsplit("/", 1)[-1] for stage in result.stages[:-1]])
    ax.set(xlabel="steps of training", ylabel="effective rank over a Gaussian's", ylim=(0, 1.1),
           title="Ranks fall")  # fmt: skip
    ax.legend(fontsize=8)


def weight_sparsity(result: "WeightSparsityResult") -> Figure:
    """Shares of small entries, and effective ranks."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.8))
    draw_sparsity(axes[0], result)
    draw_ranks(axes[1], result)
    return fig


def _steps(ax: Axes, result: "WeightsAndAbilityResult") -> np.ndarray:
    places = np.arange(len(result.steps))
    ax.set_xticks(places, [f"{s / 1000:g}" for s in result.steps])
    ax.set_xlabel("thousand steps")
    return places


def draw_emergence(ax: Axes, result: "WeightsAndAbilityResult", name: str) -> None:
    """Accuracy with the most demonstrations at every checkpoint, a thin line for each seed."""
    places = _steps(ax, result)
    for kind, color, style in (
        ("", COLOR, "-"), (" random labels", OTHER, "--"), (" contrary", FALSE, ":")
    ):  # fmt: skip
        rows = result.of(name + kind)
        label = kind.strip() or "right labels"
        ax.plot(places, rows, style, color=color, linewidth=0.8, alpha=0.7)
        ax.plot(places, np.median(rows, 1), style, color=color, linewidth=2.2, label=label)
    ax.set(ylim=(-0.04, 1.06), ylabel="accuracy", title=name)


def draw_distance(ax: Axes, result: "WeightsAndAbilityResult") -> None:
    """Relative distance of the weights to those of the last checkpoint."""
    places = _steps(ax, result)
    band(ax, places, result.to_last()[..., 1].T, color=COLOR, label="distance")
    ax.set(ylabel="distance to the last weights", ylim=(0, None), title="Weights move")


def draw_gaps(ax: Axes, result: "WeightsAndAbilityResult", start: int = 500) -> None:
    """Gap of an ability against the gap of parameters, a mark for each pair of checkpoints."""
    for values, label, color, mark in (
        (result.of("stance contrary"), "stance, contrary", FALSE, "D"),
        (result.canonical(), "right labels, mean", COLOR, "o"),
    ):
        _, parameters, gap = result.pairs(values, start)
        ax.scatter(parameters, gap, s=16, color=color, marker=mark, alpha=0.7, label=label)
    ax.set(xlabel="mean change of an entry", ylabel="gap of accuracy", ylim=(-0.04, 1.06),
           title="Pairs of checkpoints")  # fmt: skip
    ax.legend(fontsize=8)


def draw_control(ax: Axes, result: "WeightsAndAbilityResult", step: int = 1000) -> None:
    """Accuracy by number of demonstrations with and without coherent documents."""
    numbers = np.arange(result.accuracy.shape[-1])
    there = result.accuracy[result.steps.index(step)]
    for name, style in zip(("topic", "mood"), LINES, strict=False):
        row = NAMES.index(name)
        ax.plot(numbers, there[row].T, style, color=COLOR, linewidth=1)
        ax.plot(numbers, result.control[row].T, style, color=OTHER, linewidth=1)
    for label, color in (("CourseLM", COLOR), ("incoherent documents alone", OTHER)):
        ax.plot([], [], color=color, label=label)
    ax.set(xlabel="demonstrations", ylabel="accuracy, topic and mood", ylim=(-0.04, 1.06),
           title=f"After {step} steps")  # fmt: skip
    ax.legend(fontsize=8, loc="center right")


def draw_numbers(ax: Axes, result: "WeightsAndAbilityResult", task: str) -> None:
    """Accuracy by number of demonstrations, a line for each checkpoint, means over seeds."""
    numbers = np.arange(result.accuracy.shape[-1])
    for i, steps in enumerate(result.steps):
        alpha = min(1.0, 0.2 + 0.8 * i / max(1, len(result.steps) - 1))
        row = np.mean([result.of(task, int(n))[i] for n in numbers], 1)
        ax.plot(numbers, row, color=COLOR, alpha=alpha, label=f"{steps}")
    ax.set(xlabel="demonstrations", ylabel="accuracy", ylim=(-0.04, 1.06), title=task)
    ax.legend(fontsize=7, title="steps", loc="lower right")


def weights_and_ability(result: "WeightsAndAbilityResult") -> Figure:
    """Abilities through training above; distances, pairs, numbers and the control below."""
    use_style()
    fig, axes = plt.subplots(2, 4, figsize=(12.4, 6.4))
    for ax, name in zip(axes[0], NAMES, strict=True):
        draw_emergence(ax, result, name)
    axes[0, 0].legend(fontsize=8, loc="center right")
    draw_distance(axes[1, 0], result)
    draw_gaps(axes[1, 1], result)
    draw_numbers(axes[1, 2], result, "stance contrary")
    draw_control(axes[1, 3], result)
    return fig
