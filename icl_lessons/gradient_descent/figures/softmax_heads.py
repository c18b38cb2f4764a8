"""The figures of the experiment on softmax attention; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, draw_matrix, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.softmax_heads import SoftmaxHeadsResult

TEXTBOOK = COLORS["bayesian"]
COMPACT = {"fontsize": 7.5, "handlelength": 1.4, "handletextpad": 0.4, "columnspacing": 0.6}
LOOK = {
    "one_head": ("one softmax head", COLORS["other"]),
    "two_heads": ("two softmax heads", COLORS["gradient_descent"]),
    "two_layers": ("two layers of one head", COLORS["mesa_optimization"]),
    "layer_norm": ("linear behind LayerNorm", COLORS["development"]),
}


def draw_losses(ax: Axes, result: "SoftmaxHeadsResult") -> None:
    """Loss while training, and the steps it is held against.

    Behind LayerNorm the first losses are many times that of predicting 0; a curve begins where all
    its seeds are below 1.3 times that, and leaves the top of the panel to the legend.
    """
    for kind, (label, color) in LOOK.items():
        paths = result.paths[kind]
        start = int((paths.max(0) < 1.3 * result.zero_loss).argmax())
        band(
            ax,
            result.steps[start:],
            paths[:, start:],
            color=color,
            label=label,
            **LINE_STYLES["trained"],
        )
    ax.axhline(result.descent_loss, color=TEXTBOOK, label="one step", **LINE_STYLES["textbook"])
    ax.axhline(
        result.centred_loss, color=TEXTBOOK, label="one centred step", **LINE_STYLES["construction"]
    )
    ax.axhline(result.zero_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.set(
        xlabel="updates of the weights",
        ylabel="loss, ½ E (ŷ − y)²",
        ylim=(0.1, 1.95 * result.zero_loss),
    )
    ax.legend(loc="upper right", ncols=2, **COMPACT)


def draw_score_scales(ax: Axes, result: "SoftmaxHeadsResult") -> None:
    """The best that one head and two heads of given scores can do."""
    for values, kind in ((result.best_one_head, "one_head"), (result.best_two_heads, "two_heads")):
        label, color = LOOK[kind]
        ax.plot(
            result.score_scales, values, color=color, label=label, **LINE_STYLES["construction"]
        )
    ax.axhline(result.descent_loss, color=TEXTBOOK, label="one step", **LINE_STYLES["textbook"])
    ax.axhline(
        result.centred_loss, color=TEXTBOOK, label="one centred step", **LINE_STYLES["construction"]
    )
    ax.axhline(result.zero_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.set(
        xlabel="scale of the scores, ε (log)",
        ylabel="loss, ½ E (ŷ − y)²",
        xscale="log",
        ylim=(0.15, 1.5 * result.zero_loss),
    )
    ax.legend(loc="upper right", ncols=2, **COMPACT)


def draw_input_shift(ax: Axes, result: "SoftmaxHeadsResult") -> None:
    """Loss on inputs larger or smaller than in training."""
    for kind, (label, color) in LOOK.items():
        values = result.input_shift[kind]
        band(ax, result.input_scales, values, color=color, label=label, **LINE_STYLES["trained"])
    ax.plot(
        result.input_scales,
        result.descent_input_shift,
        color=TEXTBOOK,
        label="one step, same size",
        **LINE_STYLES["textbook"],
    )
    ax.plot(
        result.input_scales, result.zero_input_shift, label="predicting 0", **LINE_STYLES["exact"]
    )
    ax.set(xlabel="inputs multiplied by", ylabel="loss, ½ E (ŷ − y)² (log)", yscale="log")
    ax.legend(loc="upper left", fontsize=8)


def draw_cosine(ax: Axes, result: "SoftmaxHeadsResult") -> None:
    """Sensitivity cosine with one step and with one centred step, each seed a dot."""
    for i, (label, color) in enumerate(LOOK.values()):
        kind = list(LOOK)[i]
        for values, marker in (
            (result.descent_cosine[kind], "o"),
            (result.centred_cosine[kind], "D"),
        ):
            rows = np.full(len(values), float(i)) + (-0.12 if marker == "o" else 0.12)
            fill = color if marker == "o" else "none"
            ax.plot(values, rows, marker, color=color, markerfacecolor=fill)
        ax.text(0.02, i - 0.3, label, color=color, fontsize=9)
    ax.plot([], [], "o", color=COLORS["exact"], label="one step")
    ax.plot([], [], "D", color=COLORS["exact"], markerfacecolor="none", label="one centred step")
    ax.set(xlabel="sensitivity cosine with", ylim=(4.4, -0.6), xlim=(0, 1.03))
    ax.set_yticks([])
    ax.legend(loc="lower left", ncols=2, fontsize=8)


def draw_head(ax: Axes, result: "SoftmaxHeadsResult", head: int | None = 0) -> None:
    """``eta_h W_KQ,h`` of one head of the first seed, or the sum of both with ``None``."""
    products = result.products[0]
    matrix = products.sum(0) if head is None else products[head]
    draw_matrix(ax, matrix, numbers=False, color=COLORS["gradient_descent"])


def draw_first_head(ax: Axes, result: "SoftmaxHeadsResult") -> None:
    """The first head's product."""
    draw_head(ax, result, 0)
    ax.set_xlabel(f"η₁ = {result.output_scales[0, 0]:.2f}")


def draw_sum_of_heads(ax: Axes, result: "SoftmaxHeadsResult") -> None:
    """The sum of both heads' products."""
    draw_head(ax, result, None)
    first, second = result.output_scales[0]
    ax.set_xlabel(f"η₁ = {first:.2f}, η₂ = {second:.2f}".replace("-", "\N{MINUS SIGN}"))


def softmax_heads(result: "SoftmaxHeadsResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(11.4, 6.8))
    for ax, draw, title in zip(
        axes.flat,
        (
            draw_losses,
            draw_score_scales,
            draw_input_shift,
            draw_cosine,
            draw_first_head,
            draw_sum_of_heads,
        ),
        (
            "Loss while training",
            "The best heads of given scores",
            "Inputs of another size",
            "How the prediction turns",
            "One head: η W",
            "Both heads, summed",
        ),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
