"""The figures of copying; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, draw_matrix, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.copying import CopyingResult

TRAINED = COLORS["gradient_descent"]
TEXTBOOK = COLORS["bayesian"]
NAMES = {
    "softmax": "softmax, sinusoids",
    "linear": "linear, sinusoids",
    "one_hot": "softmax, one-hot",
    "one_hot_linear": "linear, one-hot",
}


def _each_seed(ax: Axes, steps, rows, *, label: str, **line) -> None:
    # Seeds drop at different times: their mean would hide how sudden each drop is.
    for i, row in enumerate(rows):
        ax.plot(steps, row, label=label if i == 0 else None, **{"linewidth": 1.4, **line})


def draw_loss(ax: Axes, result: "CopyingResult") -> None:
    """Loss of the model of the paper while it trains, and of one step on the same tasks."""
    run = result.runs["softmax"]
    _each_seed(ax, run.steps, run.loss, color=TRAINED, label="two layers, each seed")
    ax.axhline(run.curve_descent_loss, color=TEXTBOOK, label="one step", **LINE_STYLES["textbook"])
    ax.axhline(run.curve_zero_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.set(xlabel="updates of the weights", ylabel="loss, ½ E (ŷ − y)²", ylim=(0, None))
    ax.legend(loc="center right")


def draw_sensitivity(ax: Axes, result: "CopyingResult") -> None:
    """What a token after the first layer depends on."""
    run = result.runs["softmax"]
    for values, label, color, style in (
        (run.x_from_next, "x on its own y", TRAINED, "-"),
        (run.y_from_previous, "y on its own x", COLORS["mesa_optimization"], (0, (5, 2))),
        (run.x_from_previous, "x on the y before", TEXTBOOK, (0, (1, 1.4))),
        (run.others, "any other pair", COLORS["other"], (0, (3, 1, 1, 1))),
    ):
        _each_seed(ax, run.steps, values, color=color, label=label, linestyle=style)
    ax.set(xlabel="updates of the weights", ylabel="size of the derivative", ylim=(0, None))
    ax.legend(loc="center right")


def draw_attention(ax: Axes, result: "CopyingResult") -> None:
    """Where the tokens look in the first layer, first seed: rows look at columns."""
    attention = result.runs["softmax"].attention[0]
    draw_matrix(ax, attention, numbers=False, color=TRAINED)
    length = len(attention)
    names = [f"{'xy'[i % 2]}{i // 2 + 1}" for i in range(length - 1)] + ["query"]
    shown = sorted({*range(0, length - 1, 4), length - 1})
    ax.set_xticks([i + 0.5 for i in shown], [names[i] for i in shown], rotation=90)
    ax.set_yticks([i + 0.5 for i in shown], [names[i] for i in shown])
    ax.set(xlabel="is looked at", ylabel="looks")


def draw_settings(ax: Axes, result: "CopyingResult") -> None:
    """Loss over that of one step on the same tasks, for every first layer and position."""
    colors = (TRAINED, COLORS["other"], COLORS["implicit_dynamics"], COLORS["mesa_optimization"])
    styles = ("-", (0, (5, 2)), (0, (3, 1, 1, 1)), (0, (1, 1.4)))
    for (name, run), color, style in zip(result.runs.items(), colors, styles, strict=False):
        ratio = run.loss / run.curve_descent_loss
        label = NAMES.get(name, name)
        _each_seed(ax, run.steps, ratio, color=color, label=label, linestyle=style)
    ax.axhline(1, **LINE_STYLES["exact"])
    ax.set(xlabel="updates of the weights", ylabel="loss over that of one step", ylim=(0, 4.6))
    ax.legend(loc="upper right")


def copying(result: "CopyingResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(7.4, 6.2))
    for ax, draw, title in zip(
        axes.flat,
        (draw_loss, draw_sensitivity, draw_attention, draw_settings),
        ("Loss", "What the first layer copies", "Attention of the first layer", "First layers"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
