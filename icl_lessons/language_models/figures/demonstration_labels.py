"""The figures of what labels do; each takes a result and the number of a task."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.demonstration_labels import (
        DemonstrationLabelsResult,
    )

CONTEXT, EARLIER, FILTER = COLORS["language_models"], COLORS["development"], COLORS["bayesian"]
SEEDS = "o^sDvP"
ABILITIES = {
    "gold": ("gold", COLORS["other"], LINE_STYLES["exact"]),
    "random": ("random: recognition", CONTEXT, LINE_STYLES["trained"]),
    "contrary": ("contrary: learning", COLORS["gradient_descent"], LINE_STYLES["construction"]),
    "abstract": ("symbols, among them", COLORS["mesa_optimization"], LINE_STYLES["textbook"]),
}


def draw_conditions(ax: Axes, result: "DemonstrationLabelsResult", task: int) -> None:
    """A dot for each seed and condition, with the result's ``n_labels`` demonstrations."""
    rows = [c for c in result.conditions if not np.isnan(result.of(c)[:, task]).any()]
    places = np.arange(len(rows))[::-1]
    for seed, marker in zip(range(len(result.accuracy)), SEEDS, strict=False):
        values = [result.of(name)[seed, task] for name in rows]
        look = {"color": CONTEXT, "markerfacecolor": "none", "linestyle": "none", "markersize": 6}
        ax.plot(values, places, marker=marker, label=f"seed {seed}", **look)
    ax.set_yticks(places, rows)
    ax.set(xlim=(-0.05, 1.05), xlabel="accuracy", title=result.tasks[task])


def draw_flips(
    ax: Axes, result: "DemonstrationLabelsResult", task: int, scale: tuple[int, ...] = (-1,)
) -> None:
    """Share of answers that are the true label, by the share of flipped ones; a line each seed.

    Args:
        scale: places on the scale to draw; the last is that of the trained model.
    """
    last = len(result.scale) - 1
    for place in scale:
        place %= len(result.scale)
        for seed, row in enumerate(result.turned[:, task, place, :, 0]):
            style = LINE_STYLES["trained" if place == last else "construction"]
            look = {**style, "linewidth": 1.2, "color": CONTEXT if place == last else EARLIER}
            label = _scale_name(result, place) if seed == 0 else None
            ax.plot(result.flips, row, marker=SEEDS[seed % 6], markersize=4, markerfacecolor="none",
                    label=label, **look)  # fmt: skip
    exact = result.filter_turned[:, task, :, 0]
    if not np.isnan(exact).any():
        ax.plot(result.flips, exact.mean(0), label="Bayes filter",
                **{**LINE_STYLES["textbook"], "color": FILTER})  # fmt: skip
    ax.set(xlabel="share of flipped labels", ylim=(-0.03, 1.05), title=result.tasks[task])


def _scale_name(result: "DemonstrationLabelsResult", place: int) -> str:
    name = result.scale[place]
    return f"{name} steps" if name.isdigit() else name.rsplit("/", 1)[-1]


def draw_abilities(ax: Axes, result: "DemonstrationLabelsResult", task: int) -> None:
    """Task recognition and task learning along the scale; a thin line for each seed."""
    places = range(len(result.scale))
    for condition, (label, color, style) in ABILITIES.items():
        values = result.by_scale(condition, among_labels=condition == "abstract")[:, task]
        for seed, row in enumerate(values):
            look = {**style, "color": color, "linewidth": 1.2}
            ax.plot(places, row, label=label if seed == 0 else None, **look)
    steps = all(name.isdigit() for name in result.scale)
    names = result.scale if steps else [_scale_name(result, p) for p in places]
    ax.set_xticks(places, names, rotation=45, ha="right")
    ax.set(ylim=(-0.03, 1.05), title=result.tasks[task])
    ax.set_xlabel("steps of pretraining" if steps else "model")


def demonstration_labels(result: "DemonstrationLabelsResult") -> Figure:
    """Conditions, flipped labels and the scale in three rows, a column for each task."""
    use_style()
    tasks = len(result.tasks)
    fig, axes = plt.subplots(3, tasks, figsize=(2.9 * tasks + 1, 9.8), squeeze=False)
    for task in range(tasks):
        draw_conditions(axes[0, task], result, task)
        draw_flips(axes[1, task], result, task, (result.early, -1))
        draw_abilities(axes[2, task], result, task)
    axes[1, 0].set_ylabel("share of true answers")
    axes[2, 0].set_ylabel("accuracy")
    named = (row[0].get_legend_handles_labels() for row in axes)
    shown = [entry for row in named for entry in zip(*row, strict=True)]
    fig.legend(*zip(*shown, strict=True), loc="outside lower center", ncols=5, fontsize=9)
    return fig
