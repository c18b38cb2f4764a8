"""The figures of poisoned contexts; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, draw_matrix, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.poisoned_contexts import PoisonedContextsResult

LOOKS = {
    "one step": (COLORS["gradient_descent"], LINE_STYLES["textbook"]),
    "ten steps": (COLORS["other"], {"linestyle": (0, (3, 1, 1, 1)), "linewidth": 1.8}),
    "ridge": (COLORS["implicit_dynamics"], LINE_STYLES["textbook"]),
    "linear layer": (COLORS["gradient_descent"], LINE_STYLES["trained"]),
    "transformer": (COLORS["mesa_optimization"], LINE_STYLES["trained"]),
}


def _lines(ax: Axes, result: "PoisonedContextsResult", x: np.ndarray, values: np.ndarray) -> None:
    for i, name in enumerate(result.learners):
        color, style = LOOKS[name]
        band(ax, x, values[:, i], color=color, label=name, **style)


def _short(name: str) -> str:
    return name.replace(" ", "\n").replace("transformer", "trans-\nformer")


def draw_scaling(ax: Axes, result: "PoisonedContextsResult") -> None:
    """Mean prediction after a pair along the query was added, by the length of its input."""
    # Ten steps leave the panel by twenty orders of magnitude; a drawing need not follow them.
    _lines(ax, result, result.scales, np.clip(result.scaled, -400, 400))
    ax.axhline(0, **LINE_STYLES["exact"])
    ax.set(
        xlabel="length of the added input (log)",
        ylabel=f"mean prediction, its label being {result.label:g}",
        xscale="log",
        ylim=(-2, 40),
    )
    ax.legend(loc="upper left")


def draw_worst(ax: Axes, result: "PoisonedContextsResult") -> None:
    """Worst shift after one label moved, all of them tried; thin lines: what influence says."""
    _lines(ax, result, result.budgets, result.worst)
    for i, name in enumerate(result.learners):
        if name in ("transformer", "ridge"):
            color = LOOKS[name][0]
            ax.plot(result.budgets, result.predicted[:, i].mean(0), color=color, linewidth=0.9)
    ax.set(
        xlabel="budget on one label (log)",
        ylabel="worst shift of the prediction (log)",
        xscale="log",
        yscale="log",
    )
    plain_log_ticks(ax)
    ax.legend(loc="upper left")


def draw_transfer(ax: Axes, result: "PoisonedContextsResult") -> None:
    """Attacks made on the row's learner, on the column's: shift over that of its own attack."""
    names = [_short(name) for name in result.learners]
    draw_matrix(
        ax,
        result.transfer.mean(0),
        color=COLORS["mesa_optimization"],
        row_labels=names,
        column_labels=names,
        decimals=2,
    )
    ax.tick_params(labelsize=8)
    ax.set(xlabel="is shown to", ylabel="attack made on")


def draw_flips(ax: Axes, result: "PoisonedContextsResult") -> None:
    """Smallest number of flipped labels that turns the sign: predicted, measured, random order."""
    at = np.arange(len(result.learners))
    for offset, values, label, marker, color in (
        (-0.15, result.flips_predicted, "predicted by influence", "D", COLORS["exact"]),
        (0.0, result.flips, "most influential first", "o", COLORS["mesa_optimization"]),
        (0.15, result.flips_random, "in a random order", "s", COLORS["other"]),
    ):
        for seed, row in enumerate(values):
            name = label if seed == 0 else None
            ax.plot(at + offset, row, marker, color=color, label=name, markersize=5, alpha=0.75)
    ax.axhline(result.n_context / 2, **LINE_STYLES["exact"])
    ax.set_xticks(at, [_short(name) for name in result.learners])
    ax.set(
        xlabel="learner",
        ylabel=f"flipped labels of {result.n_context}",
        ylim=(0, result.n_context),
    )
    ax.legend(loc="upper left")


PANELS = (
    (draw_scaling, "A pair of growing input"),
    (draw_worst, "The worst label within a budget"),
    (draw_transfer, "Carried from learner to learner"),
    (draw_flips, "How many flips turn the answer"),
)


def poisoned_contexts(result: "PoisonedContextsResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(7.8, 6.6))
    for ax, (draw, title) in zip(axes.flat, PANELS, strict=True):
        draw(ax, result)
        ax.set_title(title)
    return fig
