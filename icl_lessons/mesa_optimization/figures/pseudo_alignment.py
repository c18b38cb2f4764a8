"""The figures of the kinds of misalignment; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.pseudo_alignment import (
        ApproximateAlignmentResult,
        OuterAndInnerResult,
        SuboptimalityResult,
    )

MODEL, WANTED = COLORS["mesa_optimization"], COLORS["gradient_descent"]
OTHER = COLORS["bayesian"]


def draw_outer_and_inner(ax: Axes, result: "OuterAndInnerResult", *, deployed: bool) -> None:
    """What is paid for and what is wanted, for each learner, in training or deployed."""
    places = np.arange(len(result.learners))
    paid = result.paid_deployed if deployed else result.paid
    wanted = result.wanted_deployed if deployed else result.wanted
    for values, color, marker, label, shift in (
        (paid, OTHER, "o", "paid for", -0.13),
        (wanted, WANTED, "s", "wanted", 0.13),
    ):
        for seed in range(values.shape[1]):
            ax.plot(
                values[:, seed],
                places + shift,
                marker,
                color=color,
                alpha=0.8,
                markersize=6,
                label=label if seed == 0 else None,
            )
    ax.set_yticks(places, [name.replace(", ", ",\n") for name in result.learners])
    ax.set(xlabel="E squared error", xlim=(-0.05, 2.4), ylim=(len(places) - 0.5, -0.5))
    ax.legend(loc="upper right", fontsize=8.5)


def outer_and_inner(result: "OuterAndInnerResult") -> Figure:
    """Training beside deployment."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(8.8, 3.4))
    for ax, deployed in zip(axes, (False, True), strict=True):
        draw_outer_and_inner(ax, result, deployed=deployed)
        ax.set_title("Deployed: cue free" if deployed else "On the law of training")
    return fig


def draw_ranks(ax: Axes, result: "ApproximateAlignmentResult") -> None:
    """Losses by rank: the best exactly, the trained ones as marks."""
    for trained, exact, color, marker, label in (
        (result.loss, result.best, MODEL, "o", "in training"),
        (result.deployed, result.best_deployed, WANTED, "s", "where all inputs are alike"),
    ):
        ax.plot(
            result.all_ranks,
            exact,
            color=color,
            label=f"best of the rank, {label}" if color == MODEL else f"the same, {label}",
            **LINE_STYLES["textbook"],
        )
        for seed in range(trained.shape[1]):
            name = f"trained, {label}" if seed == 0 else None
            ax.plot(result.ranks, trained[:, seed], marker, color=color, label=name, alpha=0.8)
    ax.set(xlabel="rank of the inner metric", ylabel="E squared error", ylim=(0, 1.5))
    ax.legend(loc="upper right", fontsize=8.5)


def draw_directions(ax: Axes, result: "ApproximateAlignmentResult") -> None:
    """Error of the learnt weight of each input, by rank, means over seeds."""
    inputs = np.arange(1, result.direction_error.shape[-1] + 1)
    styles = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (3, 1, 1, 1)), "-.")
    for i, rank in enumerate(result.ranks):
        shade = 0.4 + 0.6 * i / max(1, len(result.ranks) - 1)
        ax.plot(
            inputs,
            result.direction_error[i].mean(0),
            color=MODEL,
            alpha=shade,
            linestyle=styles[i % len(styles)],
            label=f"rank {rank}",
        )
    ax.set(
        xlabel="input, from most to least variance",
        ylabel="error of its weight",
        ylim=(0, 1.4),
    )
    ax.legend(loc="upper left", ncols=3, fontsize=8.5)


def approximate_alignment(result: "ApproximateAlignmentResult") -> Figure:
    """Losses by rank, and what each rank is blind to."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.4))
    for ax, draw, title in zip(
        axes, (draw_ranks, draw_directions), ("By rank", "What is not held"), strict=True
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig


def draw_steps(ax: Axes, result: "SuboptimalityResult") -> None:
    """Error and inner objective against the steps of descent."""
    seen = result.steps > 0
    for values, color, style, label in (
        (result.error, WANTED, "-", "error at the query"),
        (result.without_cue, OTHER, (0, (1, 1.4)), "error, cue taken away"),
        (result.context_loss, MODEL, (0, (5, 2)), "inner objective"),
    ):
        band(
            ax,
            result.steps[seen],
            values[:, seen],
            color=color,
            label=label,
            linestyle=style,
            linewidth=2,
        )
    ax.axvline(result.trained_steps, label="steps in training", **LINE_STYLES["exact"])
    ax.set(xscale="log", yscale="log", xlabel="steps of descent (log)", ylabel="E squared (log)")
    plain_log_ticks(ax)
    ax.legend(loc="lower left", bbox_to_anchor=(0.28, 0.0), fontsize=8.5)


def suboptimality_alignment(result: "SuboptimalityResult") -> Figure:
    """The one panel."""
    use_style()
    fig, ax = plt.subplots(figsize=(5.2, 3.6))
    draw_steps(ax, result)
    ax.set_title("More steps, same objective")
    return fig
