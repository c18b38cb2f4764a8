"""The figures of generation without a prompt; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.generation import GenerationResult

TRAINED = COLORS["implicit_dynamics"]


def draw_agreement(ax: Axes, result: "GenerationResult") -> None:
    """How often the next token is the one that the whole prompt gives."""
    steps = np.arange(1, result.agreement.shape[-1] + 1)
    ax.plot(steps, np.ones(len(steps)), label="made again", **LINE_STYLES["exact"])
    for reader, label, color, style in (
        (1, "kept, text since visible", TRAINED, "-"),
        (3, "no update, the same text", COLORS["other"], (0, (3, 1, 1, 1))),
        (0, "kept, query alone", TRAINED, (0, (5, 2))),
        (2, "no update, query alone", COLORS["other"], (0, (1, 1.4))),
    ):
        rows = result.agreement[:, reader]
        band(ax, steps, rows, color=color, label=label, linestyle=style)
    ax.set(
        xlabel="generated token",
        ylabel="same token as with the prompt",
        ylim=(0, 1.05),
        xlim=(1, len(steps)),
    )
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)


def draw_change(ax: Axes, result: "GenerationResult") -> None:
    """How far the updates of each block move from one generated token to the next."""
    steps = np.arange(1, result.change.shape[-1] + 1)
    styles = ("-", (0, (5, 2)), (0, (1, 1.4)))
    for layer in range(result.change.shape[1]):
        style = styles[layer % len(styles)]
        band(ax, steps, result.change[:, layer], color=TRAINED, label=f"block {layer + 1}",
             linestyle=style)  # fmt: skip
    ax.axhline(2**0.5, **LINE_STYLES["exact"])
    ax.text(steps[-1], 2**0.5 + 0.15, "line: nothing shared", ha="right", va="bottom", fontsize=9)
    for layer, value in enumerate(np.nanmean(result.returned, 0)):
        ax.plot(
            steps[-1], value, "osv"[layer % 3], color=COLORS["bayesian"], linestyle="none",
            label=f"block {layer + 1}, same token one cycle on",
        )  # fmt: skip
    ax.set(
        xlabel="from this token to the next",
        ylabel="relative change of the update",
        ylim=(0, 1.8),
    )
    ax.legend(fontsize=8, loc="center")


def generation(result: "GenerationResult") -> Figure:
    """Both panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.8, 3.9))
    for ax, draw, title in zip(
        axes,
        (draw_agreement, draw_change),
        ("Updates kept from the first token", "Updates made again"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
