"""The figures of the detector; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, draw_matrix, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.objective_detector import (
        ObjectiveDetectorResult,
    )

OWN, OTHER = COLORS["mesa_optimization"], COLORS["other"]


def draw_table(ax: Axes, result: "ObjectiveDetectorResult") -> None:
    """What each kind of layer (row) was called (column), without noise."""
    from icl_lessons.mesa_optimization.experiments.objective_detector import KINDS, VERDICTS

    table = result.exact.table.astype(float)
    draw_matrix(ax, table, numbers=False, color=OWN)
    for (row, column), count in np.ndenumerate(table):
        if count:
            ax.text(
                column + 0.5,
                row + 0.5,
                f"{count:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color=COLORS["page"],
            )
    names = [[name.replace("_", " ") for name in group] for group in (VERDICTS, KINDS)]
    ax.set_xticks(np.arange(len(VERDICTS)) + 0.5, names[0], rotation=45, ha="right")
    ax.set_yticks(np.arange(len(KINDS)) + 0.5, names[1])
    ax.set(xlabel="is called", ylabel="is")


def draw_noise(ax: Axes, result: "ObjectiveDetectorResult") -> None:
    """Right names, misses and false alarms against noise on the predictions."""
    levels = [0.0, *result.by_noise]
    runs = [result.exact, *result.by_noise.values()]
    for label, values, color, style in (
        ("loss named", [run.accuracy for run in runs], OWN, "-"),
        ("missed", [run.false_negatives for run in runs], COLORS["gradient_descent"], (0, (5, 2))),
        ("false alarms", [run.false_positives for run in runs], OTHER, (0, (1, 1.4))),
    ):
        ax.plot(levels, values, color=color, linestyle=style, marker="o", label=label)
    ax.set(xlabel="noise over change of prediction", ylabel="share of cases", ylim=(-0.03, 1.03))
    ax.legend(loc="center left")


def draw_rules(ax: Axes, result: "ObjectiveDetectorResult") -> None:
    """Share of right names on the five losses that the cosine rules know, without noise."""
    from icl_lessons.mesa_optimization.cosine_rules import COSINE_FAMILY
    from icl_lessons.mesa_optimization.experiments.objective_detector import LOSSES

    known = np.isin(result.exact.kind, [LOSSES.index(name) for name in COSINE_FAMILY])
    bars = {
        "detector": result.exact.right[known].mean(),
        "change of W, cosine": result.rules["update"],
        "de-mixed values": result.rules["demixed"],
        "raw change of p": result.rules["raw"],
    }
    colors = [OWN, OTHER, OTHER, OTHER]
    ax.barh(list(bars), list(bars.values()), color=colors, height=0.6)
    for row, value in enumerate(bars.values()):
        ax.text(value - 0.02, row, f"{value:.2f}", ha="right", va="center", color=COLORS["page"])
    ax.invert_yaxis()
    ax.set(xlabel="share of losses named rightly", xlim=(0, 1.02))


def draw_reliability(ax: Axes, result: "ObjectiveDetectorResult") -> None:
    """Share of right verdicts against confidence, all levels of noise together."""
    rows = result.reliability()
    ax.plot([0, 1], [0, 1], **LINE_STYLES["exact"])
    ax.plot(rows[:, 0], rows[:, 1], color=OWN, marker="o")
    for i, (confidence, right, count) in enumerate(rows):
        place = (-6, 5) if i < len(rows) - 1 else (-4, -14)
        ax.annotate(
            f"{count:.0f}", (confidence, right), xytext=place, textcoords="offset points",
            ha="right", fontsize=8,
        )  # fmt: skip
    ax.set(xlabel="confidence", ylabel="share of right verdicts", xlim=(0, 1.03), ylim=(0, 1.05))


def objective_detector(result: "ObjectiveDetectorResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(8.2, 7.6))
    for ax, draw, title in zip(
        axes.flat,
        (draw_table, draw_noise, draw_rules, draw_reliability),
        ("Verdicts", "Noise", "Simpler rules", "Confidence"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
