"""The figures of training against poisoned contexts; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.adversarial_training import (
        AdversarialTrainingResult,
    )

STEP, CLIPPED = COLORS["gradient_descent"], COLORS["implicit_dynamics"]
MODEL = COLORS["mesa_optimization"]
STYLES = {
    "clean": {"linestyle": "-", "linewidth": 2.0},
    "noise": {"linestyle": (0, (5, 2)), "linewidth": 2.0},
    "attack": {"linestyle": (0, (3, 1, 1, 1)), "linewidth": 2.0},
}
SHOWN = {
    "step, clean": (STEP, LINE_STYLES["textbook"]),
    "clipped step": (CLIPPED, LINE_STYLES["construction"]),
    **{f"transformer, {regime}": (MODEL, style) for regime, style in STYLES.items()},
}
ERROR = "error, E (ŷ − y)²"


def _lines(ax: Axes, result: "AdversarialTrainingResult", x: np.ndarray, values) -> None:
    for name, (color, style) in SHOWN.items():
        band(ax, x, result.of(values, name), color=color, label=name, **style)


def draw_price(ax: Axes, result: "AdversarialTrainingResult") -> None:
    """Error on clean contexts against error when one label is hit; one mark for each seed."""
    marks = {"clean": "o", "noise": "s", "attack": "D"}
    for i, name in enumerate(result.learners):
        kind, _, regime = name.partition(", ")
        written = kind in ("step", "clipped step")
        color = CLIPPED if kind == "clipped step" else MODEL if kind == "transformer" else STEP
        look = {"marker": "x" if written else marks[regime], "color": color, "alpha": 0.8}
        ax.plot(*result.noise[:, i, :2].T, linestyle="none", markersize=6, label=name, **look)
    ax.set(
        xlabel="clean contexts, error (log)",
        ylabel=f"one label hit, {ERROR} (log)",
        xscale="log",
        yscale="log",
        xlim=(0.02, 80),  # room for the legend
    )
    plain_log_ticks(ax)
    ax.set_xticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
    ax.minorticks_off()
    ax.legend(loc="lower right", fontsize=7)


def draw_worst(ax: Axes, result: "AdversarialTrainingResult") -> None:
    """Error after the worst change of one label, by how far it may be changed."""
    _lines(ax, result, result.budgets, result.worst)
    ax.set(
        xlabel="budget on one label (log)",
        ylabel=f"{ERROR} (log)",
        xscale="log",
        yscale="log",
        ylim=(0.05, 200),
    )
    plain_log_ticks(ax)
    ax.legend(loc="upper left", fontsize=8)


def draw_hit(ax: Axes, result: "AdversarialTrainingResult") -> None:
    """Error by the number of labels hit at once; training had one."""
    _lines(ax, result, np.array(result.hit, dtype=float), result.noise)
    ax.axhline(1, **LINE_STYLES["exact"])
    ax.set_xticks(result.hit)
    ax.set(xlabel="labels hit by noise", ylabel=f"{ERROR} (log)", yscale="log", ylim=(0.02, 300))
    plain_log_ticks(ax)
    ax.legend(loc="upper left", fontsize=8)


def draw_step(ax: Axes, result: "AdversarialTrainingResult") -> None:
    """Step size and cosine of the inner step that the labels' influences imply, for each seed."""
    at = np.arange(len(result.learners))
    for offset, values, label, marker, color in (
        (-0.12, result.step, "step size", "o", STEP),
        (0.12, result.cosine, "cosine with one step", "s", COLORS["other"]),
    ):
        for seed, row in enumerate(values):
            name = label if seed == 0 else None
            ax.plot(at + offset, row, marker, color=color, label=name, markersize=5, alpha=0.75)
    ax.set_xticks(at, result.learners, rotation=40, ha="right", fontsize=8)
    ax.set(xlabel="learner", ylabel="inner step on clean contexts", ylim=(-0.6, 1.2))
    ax.legend(loc="lower left")


PANELS = (
    (draw_price, "What it costs and what it buys"),
    (draw_worst, "The worst label"),
    (draw_hit, "More labels than in training"),
    (draw_step, "The inner step"),
)


def adversarial_training(result: "AdversarialTrainingResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(7.8, 7.0))
    for ax, (draw, title) in zip(axes.flat, PANELS, strict=True):
        draw(ax, result)
        ax.set_title(title)
    return fig
