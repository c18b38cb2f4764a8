"""The figures of the experiment on sine curves; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.features import SinusoidFeaturesResult

LOOK = {
    "transformer": ("MLP, learned attention", COLORS["gradient_descent"], LINE_STYLES["trained"]),
    "descent": ("MLP, one gradient step", COLORS["implicit_dynamics"], LINE_STYLES["construction"]),
    "attention": ("attention alone", COLORS["other"], {**LINE_STYLES["trained"], "linewidth": 1.3}),
}
TEXTBOOK = COLORS["bayesian"]
COMPACT = {"fontsize": 7.5, "handlelength": 1.4, "handletextpad": 0.4, "columnspacing": 0.6}


def draw_losses(ax: Axes, result: "SinusoidFeaturesResult") -> None:
    """Loss of the three networks while training, and the lines they are held against."""
    for kind, (label, color, style) in LOOK.items():
        path = getattr(result, f"{kind}_path")
        band(ax, result.steps, path, color=color, label=label, **style)
    ax.axhline(result.zero_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.axhline(
        result.prior_step_here,
        color=TEXTBOOK,
        label="one step on (sin, cos)",
        **LINE_STYLES["textbook"],
    )
    ax.set(
        xlabel="updates of the weights",
        ylabel="loss, ½ E (ŷ − y)² (log)",
        yscale="log",
        ylim=(0.5 * result.prior_step_loss, 40 * result.zero_loss),
    )
    ax.legend(loc="upper right")


def draw_curves(ax: Axes, result: "SinusoidFeaturesResult", curve: int = 0) -> None:
    """Predictions over the whole range of inputs from one context, first seed.

    Args:
        curve: which of the kept contexts.
    """
    ax.plot(result.grid, result.truth[curve], label="the curve", **LINE_STYLES["exact"])
    for kind, (label, color, style) in LOOK.items():
        ax.plot(result.grid, result.curves[kind][curve], color=color, label=label, **style)
    ax.plot(
        result.curve_xs[curve],
        result.curve_ys[curve],
        "o",
        color=COLORS["exact"],
        markersize=4,
        label="examples",
    )
    reach = 2.4 * np.abs(result.truth[curve]).max()
    ax.set(xlabel="x", ylabel="y", ylim=(-reach / 1.6, reach))
    ax.legend(loc="upper center", ncols=2, **COMPACT)


def draw_guess(ax: Axes, result: "SinusoidFeaturesResult") -> None:
    """What is predicted before any example, beside the mean of all curves."""
    for kind, guess in (("transformer", result.guess_transformer), ("descent", result.guess)):
        label, color, style = LOOK[kind]
        band(ax, result.grid, guess, color=color, label=label, **style)
    ax.plot(
        result.grid,
        result.mean_curve,
        color=TEXTBOOK,
        label="mean curve",
        **LINE_STYLES["textbook"],
    )
    ax.set(
        xlabel="x",
        ylabel="prediction without examples",
        ylim=(-2 * np.abs(result.mean_curve).max(), 3 * np.abs(result.mean_curve).max()),
    )
    ax.legend(loc="upper center", fontsize=8)


def draw_kernel(ax: Axes, result: "SinusoidFeaturesResult") -> None:
    """The learned kernel at three examples, and that of the features ``(sin x, cos x)``."""
    color = LOOK["descent"][1]
    for i, at in enumerate((0.25, 0.5, 0.7)):
        row = round(at * (len(result.grid) - 1))
        example = result.grid[row]
        ax.plot(
            result.grid,
            result.kernel[row] + 5 * i,
            color=color,
            label="learned, first seed" if i == 0 else None,
            **LOOK["descent"][2],
        )
        ax.plot(
            result.grid,
            result.prior_step_size * np.cos(result.grid - example) + 5 * i,
            color=TEXTBOOK,
            label="η cos(x − x′)" if i == 0 else None,
            **LINE_STYLES["textbook"],
        )
        ax.plot(example, result.kernel[row, row] + 5 * i, "o", color=COLORS["exact"], markersize=4)
    ax.set(xlabel="query x′, example at the dot", ylabel="kernel, shifted", ylim=(-3, 18))
    ax.set_yticks([0, 5, 10], ["0", "0", "0"])
    ax.legend(loc="upper right", fontsize=8)


def draw_context_sizes(ax: Axes, result: "SinusoidFeaturesResult") -> None:
    """Loss against the number of examples, the weights as they were trained."""
    for kind, (label, color, style) in LOOK.items():
        values = getattr(result, f"{kind}_by_size")
        band(ax, result.context_sizes, values, color=color, label=label, **style)
    band(
        ax,
        result.context_sizes,
        result.mean_descent_by_size,
        color=COLORS["mesa_optimization"],
        label="one step, η / N at this N",
        linestyle=(0, (1, 1.4)),
        linewidth=2,
    )
    ax.axhline(result.exact_zero_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.axvline(result.n_context, color=COLORS["grid"], linewidth=1.2)
    ax.set(
        xlabel="examples in the context",
        ylabel="loss, ½ E (ŷ − y)² (log)",
        yscale="log",
        ylim=(0.5 * result.prior_step_loss, 30 * result.zero_loss),
    )
    ax.legend(loc="upper right", fontsize=8)


def draw_sensitivity(ax: Axes, result: "SinusoidFeaturesResult") -> None:
    """How alike the derivatives by the query are, for each seed."""
    seeds = np.arange(len(result.sensitivity_correlation))
    for values, kind in (
        (result.sensitivity_correlation, "transformer"),
        (result.attention_correlation, "attention"),
    ):
        label, color, _ = LOOK[kind]
        ax.bar(
            seeds + (0.2 if kind == "attention" else -0.2), values, 0.36, color=color, label=label
        )
    ax.set(xlabel="seed", ylabel="correlation of dŷ/dx with one step's", ylim=(-0.25, 1.5))
    ax.set_xticks(seeds)
    ax.axhline(0, color=COLORS["other"], linewidth=0.8)
    ax.legend(loc="upper center")


def sinusoid_features(result: "SinusoidFeaturesResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(11.4, 6.8))
    for ax, draw, title in zip(
        axes.flat,
        (
            draw_losses,
            draw_curves,
            draw_context_sizes,
            draw_guess,
            draw_kernel,
            draw_sensitivity,
        ),
        (
            "Loss while training",
            "One context",
            "More or fewer examples",
            "Before any example",
            "The learned kernel",
            "How the prediction turns",
        ),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
