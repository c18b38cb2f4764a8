"""The figures of three layers with only preconditioners in them; each takes a result only."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, draw_matrix, use_style

if TYPE_CHECKING:
    from icl_lessons.gradient_descent.experiments.sparse_layers import SparseLayersResult

TRAINED, TEXTBOOK = COLORS["gradient_descent"], COLORS["bayesian"]
WHITENED = r"$\Lambda^{1/2} A\,\Lambda^{1/2}$"
PAPER = (0.42, 0.69, 1.71)  # the diagonals printed in [ahn2023transformers], in order of size


def draw_diagonals(ax: Axes, result: "SparseLayersResult") -> None:
    """The layers' steps in order of size: trained, best of the family, and as published."""
    positions = np.arange(len(result.family_steps))
    for i, row in enumerate(result.sorted_diagonal):
        ax.plot(positions + 0.06 * (i - 1), row, "o", color=TRAINED, fillstyle="none",
                label=f"trained, {len(result.diagonal)} seeds" if i == 0 else None)  # fmt: skip
    ax.plot(positions, result.family_steps, color=TEXTBOOK, label="best a Λ⁻¹ (exact loss)",
            **LINE_STYLES["textbook"])  # fmt: skip
    if len(positions) == len(PAPER):
        ax.plot(positions, PAPER, "_", color=COLORS["exact"], markersize=22, label="the paper's")
    ax.set_xticks(positions, ["smallest", *[""] * (len(positions) - 2), "largest"])
    ax.set(xlabel="layers in order of their step", ylabel=f"mean diagonal of {WHITENED}",
           ylim=(0, None), xlim=(-0.4, len(positions) - 0.6))  # fmt: skip
    ax.legend(loc="upper left")


def draw_distances(ax: Axes, result: "SparseLayersResult") -> None:
    """Distance to a multiple of the identity, before and after taking the covariance out."""
    layers = np.arange(1, result.distance.shape[1] + 1)
    for i, (raw, white) in enumerate(zip(result.distance_raw, result.distance, strict=True)):
        first = i == 0
        ax.plot(layers, raw, color=COLORS["other"], label="A" if first else None,
                marker="s", **LINE_STYLES["construction"])  # fmt: skip
        ax.plot(layers, white, color=TRAINED, label=WHITENED if first else None,
                marker="o", **LINE_STYLES["trained"])  # fmt: skip
    ax.set_xticks(layers)
    ax.set(xlabel="layer", ylabel="distance to a multiple of I", ylim=(0, 1))
    ax.legend(loc="center right")


def draw_losses(ax: Axes, result: "SparseLayersResult") -> None:
    """Losses of trained layers against the best of the family, without and with input maps."""
    kinds = (
        (result.loss, result.family_loss, "A alone"),
        (result.loss_maps, result.family_maps_loss, "A and B"),
    )
    for i, (losses, family, _) in enumerate(kinds):
        ax.plot(np.full(len(losses), i), losses, "o", color=TRAINED, fillstyle="none",
                label="trained" if i == 0 else None)  # fmt: skip
        label = "best of the family" if i == 0 else None
        ax.plot([i - 0.2, i + 0.2], [family] * 2, color=TEXTBOOK, label=label,
                **LINE_STYLES["textbook"])  # fmt: skip
    ax.axhline(result.zero_loss, label="predicting 0", **LINE_STYLES["exact"])
    ax.set_xticks(range(len(kinds)), [name for _, _, name in kinds])
    ax.set(ylabel="loss, ½ E (ŷ − y)² (log)", yscale="log", xlim=(-0.6, 1.6))
    ax.legend(loc="lower left")


def draw_layer(ax: Axes, result: "SparseLayersResult", layer: int = 0) -> None:
    """``Lambda^{1/2} A Lambda^{1/2}`` of one layer of the first seed, as numbers."""
    draw_matrix(ax, result.whitened[0, layer], decimals=2, title=f"{WHITENED}, layer {layer + 1}")


def sparse_layers(result: "SparseLayersResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(8.6, 6.6))
    draw_diagonals(axes[0, 0], result)
    axes[0, 0].set_title("Steps of the layers")
    draw_distances(axes[0, 1], result)
    axes[0, 1].set_title("Is it a multiple of Λ⁻¹?")
    draw_layer(axes[1, 0], result)
    draw_losses(axes[1, 1], result)
    axes[1, 1].set_title("What that is worth")
    return fig
