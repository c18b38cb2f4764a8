"""A weight matrix and the rank-one change that a context is worth, side by side."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from icl_lessons.figures import COLORS, draw_matrix, use_style

UPDATED, ORIGINAL = COLORS["implicit_dynamics"], COLORS["other"]


def draw_outer_product(
    ax: Axes, left: Float[np.ndarray, " rows"], right: Float[np.ndarray, " columns"]
) -> None:
    """A matrix of rank one with its two vectors as bars: one beside the rows, one on top."""
    rows, columns = len(left), len(right)
    draw_matrix(ax, np.outer(left, right), color=UPDATED, numbers=False)
    bar = {"color": UPDATED, "clip_on": False}
    for vector, length, place in ((left, columns, "left"), (right, rows, "top")):
        size = 0.12 * length * vector / (np.abs(vector).max() or 1.0)
        middle, along = -0.16 * length, np.arange(len(vector)) + 0.5
        if place == "left":
            ax.barh(along, size, 0.8, left=middle, **bar)
        else:
            ax.bar(along, -size, 0.8, bottom=middle, **bar)  # the axis points down
    ax.set(xlim=(-0.3 * columns, columns), ylim=(rows, -0.3 * rows))


def draw_singular_values(ax: Axes, matrix: Float[np.ndarray, "rows columns"]) -> None:
    """Singular values over the first, on a log axis; those below 1e-17 are drawn there."""
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = (values / (values[0] or 1.0)).clip(min=1e-17)
    ax.plot(np.arange(1, len(values) + 1), shares, "o", color=UPDATED, markersize=5)
    ax.set(yscale="log", ylim=(1e-18, 10), xlabel="singular value", ylabel="over the first")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def weight_and_update(
    weight: Float[Tensor, "hidden dense_width"],
    left: Float[Tensor, " hidden"],
    right: Float[Tensor, " dense_width"],
) -> Figure:
    """``W``, what a context adds to it as an outer product, and the singular values of that.

    Args:
        weight: the dense matrix of a block; best of no more than about 24 rows.
        left, right: of one item of an
            :class:`~icl_lessons.implicit_dynamics.rank_one_update.ImplicitUpdate`.
    """
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(7.6, 3.2), width_ratios=(1, 1.25, 1.1))
    with torch.no_grad():
        matrix, left_values, right_values = (t.numpy() for t in (weight, left, right))
    draw_matrix(axes[0], matrix, color=ORIGINAL, numbers=False)
    draw_outer_product(axes[1], left_values, right_values)
    draw_singular_values(axes[2], np.outer(left_values, right_values))
    titles = ("Weights W", "What the context adds", "Its singular values")
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
    return fig
