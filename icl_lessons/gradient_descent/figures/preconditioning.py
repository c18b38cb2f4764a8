"""The figures of one layer's preconditioner; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.preconditioning import PreconditionedLayerResult

LAYER = COLORS["gradient_descent"]
TEXTBOOK = COLORS["bayesian"]
OTHER = COLORS["mesa_optimization"]


def draw_scales(ax: Axes, result: "PreconditionedLayerResult") -> None:
    """How much each principal axis of the inputs is stretched by the matrices, by variance."""
    curves = {"least squares": [], "Gamma": [], "Lambda": []}
    for sigma, fitted, best in zip(result.covariance, result.fitted, result.optimal, strict=True):
        variances, axes = np.linalg.eigh(sigma)
        curves["least squares"].append(np.diag(axes.T @ fitted @ axes))
        curves["Gamma"].append(np.diag(axes.T @ best @ axes))
        curves["Lambda"].append(1 / variances)
    ax.plot(variances, curves["Lambda"][0], color=OTHER, label="Λ⁻¹", **LINE_STYLES["construction"])
    ax.plot(
        variances, curves["Gamma"][0], color=TEXTBOOK, label="Γ⁻¹ (stated)",
        **LINE_STYLES["textbook"],
    )  # fmt: skip
    values = np.array(curves["least squares"])
    ax.plot(
        np.tile(variances, len(values)), values.ravel(), "o", color=LAYER, fillstyle="none",
        label=f"found from prompts, {len(values)} seeds",
    )  # fmt: skip
    ax.set(
        xlabel="variance of the inputs along the axis (log)",
        ylabel="factor on the gradient (log)",
        xscale="log",
        yscale="log",
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xticks([0.0625, 0.25, 1], ["1/16", "1/4", "1"])
    ax.set_yticks([1, 2, 5, 10])
    ax.set_ylim(0.65, 60)
    ax.legend(loc="upper right")


def draw_losses(ax: Axes, result: "PreconditionedLayerResult") -> None:
    """Exact losses of the matrices, as bars from 0."""
    rows = [
        ("predict 0", result.zero_loss, COLORS["other"]),
        ("Λ⁻¹", result.inverse_loss, OTHER),
        ("best step, times I", result.scalar_loss, COLORS["implicit_dynamics"]),
        ("Adam", result.trained_loss.mean(), LAYER),
        ("found from prompts", result.fitted_loss.mean(), LAYER),
        ("Γ⁻¹", result.optimal_loss, TEXTBOOK),
    ]
    names, values, colors = zip(*rows, strict=True)
    ax.barh(names, values, color=colors, alpha=0.75, height=0.6)
    for i, value in enumerate(values):
        ax.annotate(f"{value:.3f}", (value, i), (3, 0), textcoords="offset points", va="center",
                    fontsize=9)  # fmt: skip
    ax.set(xlabel="loss, ½ E (ŷ − y)²", xlim=(0, 1.2 * max(values)))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)


def draw_flow(ax: Axes, result: "PreconditionedLayerResult") -> None:
    """Descent on the exact loss from a balanced start: distance to the stated matrix."""
    shown = result.flow_updates > 0
    band(
        ax,
        result.flow_updates[shown],
        result.flow_error[:, shown].clip(1e-12),
        color=LAYER,
        label=f"exact loss, {len(result.flow_error)} starts",
        **LINE_STYLES["trained"],
    )
    sampled = result.relative_error("trained")
    ax.axhline(sampled.mean(), color=OTHER, label="Adam on prompts, at its end",
               **LINE_STYLES["construction"])  # fmt: skip
    ax.set(
        xlabel="updates of the weights (log)",
        ylabel="|A − Γ⁻¹| / |Γ⁻¹| (log)",
        xscale="log",
        yscale="log",
    )
    ax.legend(loc="lower left")


def draw_shift(ax: Axes, result: "PreconditionedLayerResult") -> None:
    """Loss when all inputs of a test prompt are multiplied by ``c``, with noisy targets."""
    curves = (
        (result.shift_loss, "layer made for c = 1", LAYER, "trained"),
        (result.matched_loss, "layer made for this c", LAYER, "construction"),
        (result.least_squares_loss, "least squares", TEXTBOOK, "textbook"),
    )
    for values, label, color, style in curves:
        ax.plot(result.shifts, values, color=color, label=label, **LINE_STYLES[style])
    ax.plot(result.shifts, result.shift_zero_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.set(
        xlabel="inputs multiplied by c", ylabel="loss, ½ E (ŷ − w·x)² (log)", yscale="log"
    )  # fmt: skip
    ax.legend(loc="upper left")


def draw_lengths(ax: Axes, result: "PreconditionedLayerResult") -> None:
    """Loss on prompts longer than those of training, and the floor that training sets."""
    colors = (LAYER, COLORS["implicit_dynamics"], COLORS["language_models"])
    rows = zip(result.train_lengths, result.length_loss, result.length_floor, strict=True)
    for i, (n, losses, floor) in enumerate(rows):
        color = colors[i % len(colors)]
        ax.plot(result.test_lengths, losses, color=color, label=f"made for N = {n}",
                **LINE_STYLES["trained"])  # fmt: skip
        ax.axhline(floor, color=color, **LINE_STYLES["textbook"])
    ax.set(
        xlabel="examples in the test prompt, M (log)",
        ylabel="loss, ½ E (ŷ − y)² (log)",
        xscale="log",
        yscale="log",
        ylim=(None, 5 * result.length_loss.max()),
    )
    ax.legend(loc="upper right")


def draw_random(ax: Axes, result: "PreconditionedLayerResult") -> None:
    """Share of the truth that a layer trained on random covariances predicts, on average."""
    lengths = np.geomspace(result.random_lengths.min() / 2, 1000, 60)
    d = result.covariance.shape[1]
    ax.plot(lengths, lengths / (3 * lengths + d + 5), color=TEXTBOOK, label="N / (3N + d + 5)",
            **LINE_STYLES["textbook"])  # fmt: skip
    for i, row in enumerate(result.random_factor):
        ax.plot(result.random_lengths, row, "o", color=LAYER, fillstyle="none",
                label="from prompts" if i == 0 else None)  # fmt: skip
    ax.axhline(1 / 3, label="a third", **LINE_STYLES["exact"])
    ax.set(xlabel="examples in a training prompt, N (log)", ylabel="share of the truth",
           xscale="log", ylim=(0, 0.4))  # fmt: skip
    ax.legend(loc="lower right")


def preconditioned_layer(result: "PreconditionedLayerResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(11.4, 6.4))
    panels = (
        (draw_scales, "What the layer multiplies by"),
        (draw_losses, "What that is worth"),
        (draw_flow, "Trained on the exact loss"),
        (draw_shift, "Inputs of another size"),
        (draw_lengths, "Longer prompts"),
        (draw_random, "Random covariances"),
    )
    for ax, (draw, title) in zip(axes.flat, panels, strict=True):
        draw(ax, result)
        ax.set_title(title)
    return fig
