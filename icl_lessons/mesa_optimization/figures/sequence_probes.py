"""The figures of probes of sequence models; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.sequence_probes import SequenceProbesResult

HUES = ("development", "gradient_descent", "language_models", "mesa_optimization")
DASHES = ((0, (1, 1.4)), (0, (3, 1, 1, 1)), (0, (5, 2)), "-")


def _draw_layers(ax: Axes, errors, untrained, positions, what: str) -> None:
    layers = np.arange(errors.shape[1])
    for i, (hue, dash) in enumerate(zip(HUES, DASHES, strict=False)):
        if i < len(positions):
            label = f"{positions[i]} states seen"
            band(ax, layers, errors[..., i], color=COLORS[hue], label=label, linestyle=dash)
    ax.plot(layers, untrained[:, -1], label="before training", **LINE_STYLES["exact"])
    ax.set(xlabel="layers passed", ylabel=f"error reading {what}", ylim=(0, None))
    ax.set_xticks(layers)
    ax.legend(loc="lower left", fontsize=8)


def draw_target(ax: Axes, result: "SequenceProbesResult") -> None:
    """How well the next state can be read, by layer."""
    _draw_layers(ax, result.target, result.untrained_target, result.positions, "the next state")


def draw_preconditioned(ax: Axes, result: "SequenceProbesResult") -> None:
    """How well the preconditioned input can be read, by layer."""
    _draw_layers(
        ax,
        result.preconditioned,
        result.untrained_preconditioned,
        result.positions,
        "the preconditioned input",
    )


def draw_previous(ax: Axes, result: "SequenceProbesResult") -> None:
    """How well earlier states can be read after the first block."""
    for name, errors, hue, dash in zip(result.names, result.previous, HUES, DASHES, strict=False):
        band(ax, result.lags, errors, color=COLORS[hue], label=name, linestyle=dash, linewidth=2)
    ax.plot(result.lags, result.untrained_previous, label="before training", **LINE_STYLES["exact"])
    ax.set(xlabel="steps back", ylabel="error reading that state", ylim=(0, None))
    ax.set_xticks(result.lags)
    ax.legend(loc="lower right", fontsize=8)


def sequence_probes(result: "SequenceProbesResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(10.6, 3.3))
    for ax, draw, title in zip(
        axes,
        (draw_target, draw_preconditioned, draw_previous),
        ("The next state", "The preconditioned input", "After the first block"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
