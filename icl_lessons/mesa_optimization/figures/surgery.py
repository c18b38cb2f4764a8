"""The figures of objective surgery; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.surgery import SurgeryResult

BEFORE, AFTER = COLORS["other"], COLORS["mesa_optimization"]
BLINDED = ("as trained", "compare:\nfirst", "compare:\nlast", "compare:\nboth", "never\nread")


def draw_edits(ax: Axes, result: "SurgeryResult") -> None:
    """How far the trained linear layer is from the edited textbook layer, before and after."""
    rows = np.arange(len(result.edits))[::-1]
    for values, marker, color, label in (
        (result.before, "o", BEFORE, "before the edit"),
        (result.after, "D", AFTER, "after"),
    ):
        for i, row in enumerate(rows):
            ax.plot(
                values[i],
                np.full(values.shape[1], row),
                marker,
                color=color,
                markersize=5,
                linestyle="none",
                label=label if i == 0 else None,
            )
    ax.set_yticks(rows, result.edits)
    ax.set(xlabel="difference over size of the step (log)", xscale="log", xlim=(None, 15))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)


def draw_cue(ax: Axes, result: "SurgeryResult") -> None:
    """Error of the layer that trusts a cue: as trained, cue deleted, metric installed."""
    modes = np.arange(result.cue_error.shape[1])
    styles = (
        ("as trained", AFTER, None),
        ("cue deleted", BEFORE, "////"),
        ("metric installed", COLORS["gradient_descent"], None),
    )
    for i, (label, color, hatch) in enumerate(styles):
        ax.bar(
            modes + 0.27 * (i - 1),
            result.cue_error[i].mean(1),
            0.24,
            color=color,
            hatch=hatch,
            edgecolor=COLORS["page"],
            label=label,
        )
    ax.axhline(1, **LINE_STYLES["exact"])
    ax.set_xticks(modes, ["cue follows", "cue is free", "query's cue\nflipped"])
    ax.set(ylabel="E (ŷ − y)²")
    ax.legend(loc="upper left")


def draw_writes(ax: Axes, result: "SurgeryResult") -> None:
    """Slope of the edited Transformer's predictions on the trained ones."""
    for slope, color, style, label in zip(
        result.slope,
        (COLORS["bayesian"], COLORS["gradient_descent"], AFTER),
        ("-", (0, (5, 2)), (0, (1, 1.4))),
        ("first block", "last block", "both"),
        strict=True,
    ):
        band(ax, result.factors, slope.T, color=color, label=label, linestyle=style, linewidth=2)
    ax.plot(result.factors, result.factors, label="a step scaled", **LINE_STYLES["exact"])
    ax.set(xlabel="attention writes multiplied by", ylabel="slope on the trained prediction")
    ax.legend(loc="lower right")


def draw_forgetting(ax: Axes, result: "SurgeryResult") -> None:
    """Distance of the blinded Transformer from regression without the feature."""
    places = np.arange(len(result.forget_distance))
    ax.bar(places, result.forget_distance.mean(1), 0.6, color=AFTER, edgecolor=COLORS["page"])
    for seed in result.forget_distance.T:
        ax.plot(places, seed, ".", color=COLORS["exact"], markersize=4)
    ax.axhline(result.forget_target, label="regression with it", **LINE_STYLES["exact"])
    ax.legend(loc="upper right")
    ax.set_xticks(places, BLINDED, fontsize=8.5)
    ax.set(ylabel="distance from regression\nwithout the feature", ylim=(0, None))


def surgery(result: "SurgeryResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(8.6, 6.6))
    for ax, draw, title in zip(
        axes.flat,
        (draw_edits, draw_cue, draw_writes, draw_forgetting),
        (
            "A trained linear layer",
            "A layer that trusts a cue",
            "A Transformer's attention, scaled",
            "A Transformer, made blind",
        ),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title, pad=22 if draw is draw_edits else None)
    return fig
