"""The figures of linear transformers on tasks of unknown noise; each takes a result only."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.unknown_noise import UnknownNoiseResult

GD, DIAGONAL = COLORS["gradient_descent"], COLORS["implicit_dynamics"]
TEXTBOOK, OTHER = COLORS["bayesian"], COLORS["other"]


def draw_losses(ax: Axes, result: "UnknownNoiseResult") -> None:
    """Loss above the oracle's: the trained models as dots by seed, the ridges as bars."""
    rows = [
        ("one penalty", result.constant, TEXTBOOK),
        ("GD++, trained", result.gd_plus_plus, GD),
        ("diagonal, trained", result.diagonal, DIAGONAL),
        ("estimated noise", result.adaptive, TEXTBOOK),
        ("best without level", result.bayes, OTHER),
    ]
    for i, (_, value, color) in enumerate(rows):
        values = np.atleast_1d(value)
        ax.barh(i, values.mean(), color=color, alpha=0.35, height=0.6)
        if len(values) > 1:
            ax.plot(values, np.full(len(values), i), "o", color=color, fillstyle="none")
        ax.annotate(f"{values.mean():.4f}", (max(values.max(), 0), i), (6, 0), fontsize=9,
                    textcoords="offset points", va="center")  # fmt: skip
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    largest = max(np.max(value) for _, value, _ in rows)
    ax.set(xlabel="loss above the oracle's, ½ E (ŷ − y)²", xlim=(0, 1.3 * largest))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)


def draw_levels(ax: Axes, result: "UnknownNoiseResult") -> None:
    """The same, split by the noise of the prompt."""
    positions = np.arange(len(result.levels))
    for values, label, color, style in (
        (result.constant_at[None], "ridge, one penalty", TEXTBOOK, "textbook"),
        (result.gd_plus_plus_at, "GD++", GD, "trained"),
        (result.diagonal_at, "diagonal", DIAGONAL, "trained"),
        (result.adaptive_at[None], "ridge, estimated noise", OTHER, "construction"),
    ):
        band(ax, positions, values, color=color, label=label, marker="o", **LINE_STYLES[style])
    ax.axhline(0, label="oracle", **LINE_STYLES["exact"])
    ax.set_xticks(positions, [f"{level:g}" for level in result.levels])
    largest = max(result.constant_at.max(), result.gd_plus_plus_at.max())
    ax.set(
        xlabel="noise of the prompt, σ",
        ylabel="loss above the oracle's",
        ylim=(None, 1.8 * largest),
    )
    ax.legend(loc="upper right")


def draw_homogeneity(ax: Axes, result: "UnknownNoiseResult") -> None:
    """How far predictions are from growing with the targets: only so can noise be noticed."""
    for values, label, color in zip(
        result.inhomogeneity, ("GD++", "diagonal"), (GD, DIAGONAL), strict=True
    ):
        band(ax, result.target_scales, values, color=color, label=label, **LINE_STYLES["trained"])
    ax.set(xlabel="targets multiplied by c", ylabel="|ŷ(cy)/c − ŷ(y)| / |ŷ(y)|")
    ax.legend(loc="upper center")


def draw_layers(ax: Axes, result: "UnknownNoiseResult") -> None:
    """Loss of the linear model that each layer keeps."""
    layers = np.arange(result.after_layers.shape[2])
    for values, label, color in zip(
        result.after_layers, ("GD++", "diagonal"), (GD, DIAGONAL), strict=True
    ):
        band(ax, layers, values, color=color, label=label, marker="o", **LINE_STYLES["trained"])
    ax.axhline(result.constant, color=TEXTBOOK, label="ridge, one penalty",
               **LINE_STYLES["textbook"])  # fmt: skip
    ax.axhline(result.zero_loss - result.oracle_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.set(xlabel="after layer", ylabel="loss above the oracle's (log)", yscale="log",
           ylim=(None, 80 * (result.zero_loss - result.oracle_loss)))  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right")


def unknown_noise(result: "UnknownNoiseResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(8.6, 6.4))
    panels = (
        (draw_losses, "Loss above the oracle's"),
        (draw_levels, "Split by the noise"),
        (draw_homogeneity, "Targets of another size"),
        (draw_layers, "Layer by layer"),
    )
    for ax, (draw, title) in zip(axes.flat, panels, strict=True):
        draw(ax, result)
        ax.set_title(title)
    return fig
