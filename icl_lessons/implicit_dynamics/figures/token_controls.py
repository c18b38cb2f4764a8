"""The figures of the token-by-token path's controls; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.token_controls import TokenControlsResult

TRAINED = COLORS["implicit_dynamics"]
LOOKS = {  # of each condition: colour, line
    "trained": (TRAINED, "-"),
    "untrained": (COLORS["other"], (0, (5, 2))),
    "useless labels": (COLORS["gradient_descent"], (0, (1, 1.4))),
    "one example repeated": (COLORS["bayesian"], (0, (3, 1, 1, 1))),
    "linear attention, trained": (COLORS["mesa_optimization"], "-"),
    "linear attention, untrained": (COLORS["mesa_optimization"], (0, (5, 2))),
}


def draw_increments(ax: Axes, result: "TokenControlsResult") -> None:
    """Size of each token's step in all six conditions, the first step as 1, beside 1/i."""
    tokens = np.arange(1, result.increments.shape[2] + 1)
    for name, values in zip(result.conditions, result.increments, strict=True):
        color, line = LOOKS[name]
        band(ax, tokens, values / values[:, :1], color=color, label=name, linestyle=line)
    ax.plot(tokens, 1 / tokens, label="1 / i", **LINE_STYLES["exact"])
    ax.set(xscale="log", yscale="log", xlabel="token i", ylabel="step, over the first")
    plain_log_ticks(ax)
    ax.legend(fontsize=8)


def draw_losses(ax: Axes, result: "TokenControlsResult") -> None:
    """Loss along the same six paths: what their steps lead to."""
    tokens = np.arange(result.loss.shape[2])
    for name, values in zip(result.conditions, result.loss, strict=True):
        color, line = LOOKS[name]
        band(ax, tokens, values.clip(max=3), color=color, label=name, linestyle=line)
    ax.set(xlabel="examples read", ylabel="loss, ½ E (ŷ − y)²", ylim=(0, 2))


def draw_directions(ax: Axes, result: "TokenControlsResult") -> None:
    """Cosine of the implicit update with gradients and with the fine-tuned change."""
    rows = (
        ("fine-tuned to the task's gradient", COLORS["gradient_descent"], "fine-tuned · gradient"),
        ("gradient at the query", TRAINED, "update · gradient at query"),
        ("fine-tuned", COLORS["bayesian"], "update · fine-tuned"),
    )
    for name, color, label in rows:
        values = result.cosine[:, result.compared.index(name)]
        band(ax, np.array(result.prefixes), values[0], color=color, label=label, linewidth=2)
        band(ax, np.array(result.prefixes), values[1], color=color, linestyle=(0, (1, 1.4)))
    ax.axhline(0, **LINE_STYLES["exact"])
    ax.set(
        xscale="log", xlabel="examples read", ylabel="cosine (dotted: untrained)", ylim=(-0.1, 1)
    )
    ax.set_xticks(result.prefixes, [str(i) for i in result.prefixes])
    ax.minorticks_off()
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.46), fontsize=8.5)


def draw_plane(ax: Axes, result: "TokenControlsResult") -> None:
    """Both paths of one context on the two principal directions that they have together."""
    for path, label, style, color in zip(
        result.plane,
        ("additive: rank 1", "factorised"),
        ("trained", "construction"),
        (TRAINED, COLORS["gradient_descent"]),
        strict=True,
    ):
        ax.plot(*path.T, marker=".", label=label, color=color, **LINE_STYLES[style])
        ax.annotate("all read", path[-1], textcoords="offset points", xytext=(-6, -3), ha="right",
                    fontsize=8)  # fmt: skip
    ax.plot(0, 0, "o", color=COLORS["exact"])
    ax.annotate("W₀", (0, 0), textcoords="offset points", xytext=(5, 5))
    ax.set(xlabel="first principal direction", ylabel="second", aspect="equal")
    ax.set_adjustable("datalim")
    ax.legend()


def token_controls(result: "TokenControlsResult") -> Figure:
    """All four panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(7.6, 6.2))
    panels = (
        (draw_increments, "Averages slow, sums do not"),
        (draw_losses, "Where the steps lead"),
        (draw_directions, "Does it go with the gradient?"),
        (draw_plane, "Two paths of one context"),
    )
    for ax, (draw, title) in zip(axes.flat, panels, strict=True):
        draw(ax, result)
        ax.set_title(title)
    return fig
