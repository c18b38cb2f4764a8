"""The figures of multi-head softmax attention; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, draw_matrix, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.multi_head_softmax import (
        MultiHeadSoftmaxResult,
    )

TRAINED, STEP = COLORS["implicit_dynamics"], COLORS["gradient_descent"]
HEADS = {
    1: (COLORS["other"], "s"),
    2: (TRAINED, "o"),
    4: (COLORS["mesa_optimization"], "^"),
    8: (COLORS["development"], "D"),
}
COMPACT = {"fontsize": 8, "handlelength": 1.6, "handletextpad": 0.5}


def _by_heads(result: "MultiHeadSoftmaxResult"):
    """Row, number of heads and look of every softmax design from a random start."""
    for heads, (color, marker) in HEADS.items():
        name = f"{heads} head{'s' if heads > 1 else ''}"
        if name in result.designs:
            yield result.designs.index(name), name, color, marker


def draw_pattern(ax: Axes, result: "MultiHeadSoftmaxResult") -> None:
    """Every head of every layer as a point: factor on its scores against factor on its output."""
    for row, name, color, marker in _by_heads(result):
        ax.scatter(
            result.omega[row].ravel(),
            result.mu[row].ravel(),
            facecolor="none",
            edgecolor=color,
            marker=marker,
            s=42,
            linewidth=1.6,
            label=name,
        )
    for line in (ax.axhline, ax.axvline):
        line(0, color=COLORS["other"], linewidth=0.8)
    ax.set(xlabel="ω, factor on a head's scores", ylabel="μ, factor on its output")
    ax.legend(**COMPACT)


def draw_losses(ax: Axes, result: "MultiHeadSoftmaxResult") -> None:
    """Loss of each layer on fresh contexts, one point for each seed, beside the references."""
    at = result.trained_at
    for place, losses in enumerate(result.loss[:, at]):
        ax.scatter(
            np.full(len(losses), place),
            losses,
            color=COLORS["other"] if "linear" in result.designs[place] else TRAINED,
            s=30,
            alpha=0.8,
            zorder=3,
        )
    for value, label, style, color in (
        (result.zero, "predicting 0", "exact", COLORS["exact"]),
        (result.debiased[at], "best debiased step", "construction", STEP),
        (result.plain[at], "best plain step", "textbook", STEP),
        (result.ridge[at], "ridge, the Bayes optimum", "construction", COLORS["bayesian"]),
    ):
        ax.axhline(value, label=label, **{**LINE_STYLES[style], "color": color})
    names = [name.replace(", ", "\n").replace(" attention", "") for name in result.designs]
    ax.set_xticks(range(len(names)), names, fontsize=8)
    ax.set(ylabel="loss, E (ŷ − y)²", yscale="log", ylim=(0.9 * result.ridge[at], 4))
    plain_log_ticks(ax)
    ax.legend(loc="upper right", **COMPACT)


def draw_development(ax: Axes, result: "MultiHeadSoftmaxResult") -> None:
    """The factors on the scores while two and four heads are trained: signs first, sizes after."""
    for row, name, color, _ in _by_heads(result):
        if name not in ("2 heads", "4 heads"):
            continue
        paths = result.kept_omega[row].reshape(len(result.moments), -1)
        for i, path in enumerate(paths.T[~np.isnan(paths[0])]):
            style = "-" if name == "2 heads" else (0, (4, 1.5))
            ax.plot(
                result.moments,
                path,
                color=color,
                linewidth=1.2,
                linestyle=style,
                alpha=0.8,
                label=None if i else name,
            )
    ax.axhline(0, color=COLORS["other"], linewidth=0.8)
    ax.set(xlabel="updates of the weights", ylabel="ω of each head")
    ax.legend(**COMPACT)


def draw_starts(ax: Axes, result: "MultiHeadSoftmaxResult") -> None:
    """Training loss of two heads from many random starts, by whether their signs came out alike."""
    count = result.start_heads.index(2)
    for one_sign, label, color, style in (
        (False, "heads of both signs", TRAINED, "-"),
        (True, "both heads of one sign", COLORS["development"], (0, (4, 1.5))),
    ):
        paths = result.start_loss[count][:, result.one_sign[count] == one_sign]
        lines = ax.plot(
            result.start_moments, paths, color=color, linewidth=1, alpha=0.6, linestyle=style
        )
        if lines:
            lines[0].set_label(f"{label}: {len(lines)}")
    ax.set(xlabel="updates of the weights", ylabel="loss, E (ŷ − y)²", yscale="log")
    plain_log_ticks(ax)
    ax.legend(**COMPACT)


def draw_scores(ax: Axes, result: "MultiHeadSoftmaxResult") -> None:
    """The best that one head and two opposite heads of given scores can do."""
    line = LINE_STYLES["construction"]
    ax.plot(result.scores, result.best_one_head, color=COLORS["other"], label="1 head", **line)
    ax.plot(result.scores, result.best_two_heads, color=TRAINED, label="2 opposite heads", **line)
    at = result.trained_at
    ax.axhline(result.debiased[at], label="best debiased step", **LINE_STYLES["exact"])
    row = result.row(2, "opposite")
    ax.scatter(
        np.nanmean(np.abs(result.omega[row]), -1),
        result.loss[row, at],
        color=TRAINED,
        s=26,
        zorder=3,
        label="2 heads, trained",
    )
    ax.set(xlabel="|ω|, size of the scores", ylabel="loss, E (ŷ − y)²", yscale="log")
    plain_log_ticks(ax)
    ax.legend(**COMPACT)


def draw_label_shift(ax: Axes, result: "MultiHeadSoftmaxResult") -> None:
    """Error against ``w.x_q`` when a constant is added to the context's targets."""
    looks = {
        "2 heads, opposite start": (TRAINED, "trained"),
        "4 heads": (COLORS["mesa_optimization"], "trained"),
        "linear attention": (COLORS["other"], "trained"),
        "best plain step": (STEP, "textbook"),
        "best debiased step": (STEP, "construction"),
    }
    for name, (color, style) in looks.items():
        line = {**LINE_STYLES[style], "color": color}
        losses = result.label_loss[result.shifted.index(name)].T
        band(ax, result.label_shifts, losses, label=name, **line)
    ax.set(xlabel="constant on the context's targets", ylabel="E (ŷ − w·x)² + noise")
    ax.legend(**COMPACT)


def draw_key_query(ax: Axes, result: "MultiHeadSoftmaxResult") -> None:
    """Key-query matrices of two trained heads: rows read an example, columns the query."""
    layer = result.layers["2 heads, opposite start"][0]
    matrices = layer.key_query.detach().numpy()
    _, width, d = matrices.shape
    gap = np.zeros((width, 1))
    names = [f"$x_{{{i + 1}}}$" for i in range(d)]
    draw_matrix(
        ax,
        np.concatenate([matrices[0], gap, matrices[1]], 1),
        row_labels=[*names, "$y$"],
        column_labels=[*names, "", *names],
        decimals=2,
        numbers=False,
        color=TRAINED,
    )


def multi_head_softmax(result: "MultiHeadSoftmaxResult") -> Figure:
    """The experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(11.4, 6.6))
    panels = {
        "The pattern": draw_pattern,
        "Loss on fresh contexts": draw_losses,
        "Signs first, sizes after": draw_development,
        "Two heads, many starts": draw_starts,
        "Smaller scores are better": draw_scores,
        "A constant on the targets": draw_label_shift,
    }
    for ax, (title, draw) in zip(axes.flat, panels.items(), strict=True):
        draw(ax, result)
        ax.set_title(title)
    return fig
