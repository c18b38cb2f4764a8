"""The figures of the context taken in token by token; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.token_by_token import TokenByTokenResult

TRAINED = COLORS["implicit_dynamics"]


def draw_losses(ax: Axes, result: "TokenByTokenResult") -> None:
    """Loss of the block after each number of tokens, beside fine-tuning on the same examples."""
    tokens = np.arange(result.loss.shape[1])
    band(ax, tokens, result.untrained_loss, color=COLORS["other"], label="never trained",
         linestyle=(0, (5, 2)))  # fmt: skip
    band(ax, tokens, result.loss, color=TRAINED, label="context, or its update", linewidth=2)
    best = result.fine_tuned[np.arange(len(result.loss)), result.fine_tuned[:, :, -1].argmin(1)]
    for values, label, style in (
        (result.fine_tuned[:, 0], f"fine-tuned, rate {result.learning_rates[0]:g}", "construction"),
        (best, "fine-tuned, best rate", "textbook"),
    ):
        line = {**LINE_STYLES[style], "color": COLORS["gradient_descent"]}
        ax.plot(tokens, values.mean(0).clip(max=3), label=label, **line)
    ax.set(xlabel="examples read", ylabel="loss, ½ E (ŷ − y)²", ylim=(0, 1.5))
    ax.legend(fontsize=8, ncols=2, loc="upper right", columnspacing=1)


def draw_increments(ax: Axes, result: "TokenByTokenResult") -> None:
    """How far each token moves the weights, in trained and in untrained blocks."""
    tokens = np.arange(1, result.increments.shape[1] + 1)
    band(ax, tokens, result.increments, color=TRAINED, label="trained")
    band(ax, tokens, result.untrained_increments, color=COLORS["other"], label="never trained",
         linestyle=(0, (5, 2)))  # fmt: skip
    line = (result.increments * tokens).mean() / tokens
    ax.plot(tokens, line, label="1 / i", **LINE_STYLES["exact"])
    ax.set(xscale="log", yscale="log", xlabel="token i", ylabel="size of the weight increment")
    plain_log_ticks(ax)
    ax.legend()


def token_by_token(result: "TokenByTokenResult") -> Figure:
    """Both panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.2))
    for ax, draw, title in zip(
        axes,
        (draw_losses, draw_increments),
        ("Loss", "Increments of the weights"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
