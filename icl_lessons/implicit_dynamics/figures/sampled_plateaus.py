"""Figures of whole attention layers on sampled prompts; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style
from icl_lessons.implicit_dynamics.figures.training_plateaus import ON_LINES

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.sampled_plateaus import SampledPlateausResult
    from icl_lessons.implicit_dynamics.experiments.softmax_plateaus import SoftmaxPlateausResult

TRAINED = COLORS["implicit_dynamics"]


def draw_sampled_losses(ax: Axes, result: "SampledPlateausResult") -> None:
    """Training loss of whole layers over the steps, every seed, with the theory's plateaus."""
    for level in result.plateaus:
        ax.axhline(level, **LINE_STYLES["exact"], alpha=0.6)
    lines = {"color": COLORS["other"], "linestyle": (0, (5, 2))}, {"color": TRAINED}
    for name, steps, losses, line in zip(
        ("merged", "separate"), result.steps, result.losses, lines, strict=True
    ):
        for j, curve in enumerate(losses[0]):
            ax.plot(steps, curve, label=None if j else name, alpha=0.45 if j else 1.0, **line)
    ax.set(xscale="log", xlim=(20, result.steps[1][-1]), ylim=(0, 1.08))
    ax.set(xlabel="steps of gradient descent", ylabel="training loss, E (ŷ − y)²")
    ax.legend(loc="lower left", title="key and query", **ON_LINES)


def draw_shares(ax: Axes, result: "SampledPlateausResult") -> None:
    """What each part of the layer predicts at the end, by how the other blocks were started."""
    names = ("values of y,\nkeys of x", "values of x,\nkeys of y", "both of x", "both of y")
    bars = [
        ("merged, from 0", 0, 0, COLORS["other"], None),
        ("merged, random", 0, 1, COLORS["other"], "////"),
        ("separate, from 0", 1, 0, TRAINED, None),
        ("separate, random", 1, 1, TRAINED, "////"),
    ]
    places = np.arange(len(names))
    for k, (label, kind, start, color, hatch) in enumerate(bars):
        at = places + 0.2 * (k - 1.5)
        shares = result.shares[kind, start]
        ax.bar(at, shares.mean(0), 0.18, color=color, hatch=hatch, edgecolor=COLORS["page"],
               label=label)  # fmt: skip
        for seed in shares:
            ax.plot(at, seed, ".", color=COLORS["exact"], markersize=3)
    ax.set_xticks(places, names, fontsize=8.5)
    ax.set(ylabel="mean square over that of ŷ", ylim=(0, None))
    ax.legend(loc="upper right", fontsize=8.5)


def sampled_plateaus(result: "SampledPlateausResult") -> Figure:
    """Both panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.3))
    for ax, draw, title in zip(
        axes,
        (draw_sampled_losses, draw_shares),
        ("5000 prompts, all blocks", "Which blocks are used"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig


def draw_softmax_losses(ax: Axes, result: "SoftmaxPlateausResult") -> None:
    """Training loss of softmax attention, every seed; linear attention's plateaus as lines."""
    for level in result.plateaus:
        ax.axhline(level, **LINE_STYLES["exact"], alpha=0.6)
    lines = {"color": COLORS["other"], "linestyle": (0, (5, 2))}, {"color": TRAINED}
    for name, losses, line in zip(("merged", "separate"), result.losses, lines, strict=True):
        for j, curve in enumerate(losses):
            steps = np.arange(1, len(curve) + 1)
            ax.plot(steps, curve, label=None if j else name, alpha=0.45 if j else 1.0, **line)
    ax.set(xscale="log", xlim=(8, result.losses[1].shape[1]), ylim=(0, 1.12))
    ax.set(xlabel="steps of gradient descent", ylabel="training loss, E (ŷ − y)²")
    ax.legend(loc="lower left", title="key and query", **ON_LINES)


def softmax_plateaus(result: "SoftmaxPlateausResult") -> Figure:
    """The one panel of the experiment."""
    use_style()
    fig, ax = plt.subplots(figsize=(4.6, 3.3))
    draw_softmax_losses(ax, result)
    ax.set_title("Softmax attention")
    return fig
