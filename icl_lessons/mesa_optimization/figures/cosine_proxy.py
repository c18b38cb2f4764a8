"""The figures of the cosine proxy; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.cosine_proxy import CosineProxyResult

PROXY, TRUE = COLORS["mesa_optimization"], COLORS["gradient_descent"]


def draw_agreement(ax: Axes, result: "CosineProxyResult") -> None:
    """How far the two losses ask for the same change, by angle, for targets of length 1 and 3."""
    degrees = np.degrees(result.angles)
    for curve, length, color, style in zip(
        result.agreement_curve, (1, 3), (TRUE, PROXY), ("-", (0, (5, 2))), strict=True
    ):
        ax.plot(degrees, curve, color=color, linestyle=style, linewidth=2, label=f"length {length}")
    ax.set(xlabel="angle to the target, degrees", ylabel="cosine of the two values", ylim=(0, 1.05))
    ax.set_xticks([0, 45, 90, 135, 180])
    ax.legend(loc="lower left")


def draw_path(ax: Axes, result: "CosineProxyResult") -> None:
    """Layer by layer on targets of length 3: what the proxy scores, and the error of both."""
    layers = np.arange(result.path_error.shape[2])
    for values, color, style, text in (
        (result.path_error[0], TRUE, "trained", "squared learner, error"),
        (result.path_error[1], PROXY, "construction", "cosine learner, error"),
        (result.path_cosine[1], COLORS["bayesian"], "textbook", "cosine learner, cosine"),
    ):
        band(ax, layers, values, color=color, label=text, **LINE_STYLES[style])
    ax.set(xlabel="layers", ylabel="E |ŷ − y|², or cosine", ylim=(-0.3, 11))
    ax.legend(loc="upper right")


def draw_errors(ax: Axes, result: "CosineProxyResult") -> None:
    """Error at the end, by the length of the targets."""
    for i, (name, color, style) in enumerate(
        (("squared loss", TRUE, "trained"), ("cosine", PROXY, "construction"))
    ):
        errors = result.final_error[i, 0] / result.scales**2
        band(ax, result.scales, errors, color=color, label=name, **LINE_STYLES[style])
    guess = (1 - 1 / result.scales) ** 2
    ax.plot(result.scales, guess, label="length 1, right direction", **LINE_STYLES["exact"])
    ax.set(
        xlabel="length of the targets (log)",
        ylabel="E |ŷ − y|² / E |y|²",
        xscale="log",
        ylim=(-0.2, 4.4),
    )
    ax.set_xticks(result.scales, [f"{s:g}" for s in result.scales])
    ax.minorticks_off()
    ax.legend(loc="upper right")


def draw_trained(ax: Axes, result: "CosineProxyResult") -> None:
    """Error of trained learners, by base objective, before and after the best common length."""
    square = result.scales**2
    for values, color, style, text in (
        (result.trained_error[1], PROXY, "construction", "trained on the cosine"),
        (result.length_error[1], PROXY, "textbook", "the same, best length"),
        (result.trained_error[0], TRUE, "trained", "trained on squares"),
    ):
        band(ax, result.scales, values / square, color=color, label=text, **LINE_STYLES[style])
    ax.set(
        xlabel="length of the targets (log)",
        ylabel="E |ŷ − y|² / E |y|²",
        xscale="log",
        ylim=(0, 0.5),
    )
    ax.set_xticks(result.scales, [f"{s:g}" for s in result.scales])
    ax.minorticks_off()
    ax.legend(loc="upper right")


def cosine_proxy(result: "CosineProxyResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(7.4, 6.2))
    for ax, draw, title in zip(
        axes.flat,
        (draw_agreement, draw_path, draw_errors, draw_trained),
        (
            "Proxy and target agree",
            "Targets of length 3",
            "After the last layer",
            "Learners trained at length 1",
        ),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
