"""The figures of few-shot prompts for models of next states; each takes a result alone."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.few_shot_sequences import FewShotSequencesResult

HUES = ("gradient_descent", "mesa_optimization")
TEXTBOOK = COLORS["bayesian"]


def draw_plain(ax: Axes, result: "FewShotSequencesResult") -> None:
    """The models as they were trained, beside least squares on every pair of neighbours."""
    before = np.arange(len(result.overlapping))
    for name, losses, hue in zip(result.names, result.plain, HUES, strict=False):
        band(ax, before, losses, color=COLORS[hue], label=name, **LINE_STYLES["trained"])
    for losses, label, style in (
        (result.overlapping, "least squares, all neighbours", "textbook"),
        (result.proper, "least squares, pairs alone", "construction"),
    ):
        ax.plot(before, losses, color=TEXTBOOK, label=label, **LINE_STYLES[style])
    ax.set(xlabel="pairs before", ylabel="loss, ½ E |ŷ − y|²", ylim=(0, None))
    ax.legend(loc="upper right", fontsize=8)


def draw_separated(ax: Axes, result: "FewShotSequencesResult") -> None:
    """The last model with nothing, a separator, and a separator and a beginning, all tuned."""
    name = result.names[-1]
    for what, hue, label in (
        ("plain", "other", "nothing between pairs"),
        ("separator", "mesa_optimization", "separator"),
        ("beginning", "implicit_dynamics", "separator and beginning"),
    ):
        losses = result.of(what, name)
        before = np.arange(losses.shape[1])
        band(ax, before, losses, color=COLORS[hue], label=label, **LINE_STYLES["trained"])
    before = np.arange(len(result.proper))
    label = "least squares, pairs alone"
    ax.plot(before, result.proper, color=TEXTBOOK, label=label, **LINE_STYLES["construction"])
    ax.set(xlabel="pairs before", ylabel="loss, ½ E |ŷ − y|²", ylim=(0, None))
    ax.legend(loc="upper right", fontsize=8)


def few_shot_sequences(result: "FewShotSequencesResult") -> Figure:
    """Both panels on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4))
    draw_plain(axes[0], result)
    axes[0].set_title("As trained")
    draw_separated(axes[1], result)
    axes[1].set_title(f"Tuned: {result.names[-1]}")
    return fig
