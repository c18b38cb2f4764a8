"""The figures of updates block by block; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style
from icl_lessons.implicit_dynamics.block_by_block import last_with_others, pairs

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.block_by_block import BlockByBlockResult

TRAINED = COLORS["implicit_dynamics"]
STYLES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (3, 1, 1, 1)), (0, (8, 2)))
DASHED = (0, (5, 2))


def _groups(result: "BlockByBlockResult"):
    yield result.trained, TRAINED, "trained", "-"
    yield result.untrained, COLORS["other"], "never trained", DASHED


def draw_increments(ax: Axes, result: "BlockByBlockResult") -> None:
    """How far each token moves the update of each block, as the whole stack reads on."""
    increments = result.trained.increments
    tokens = np.arange(1, increments.shape[-1] + 1)
    for layer in range(increments.shape[1]):
        style = STYLES[layer % len(STYLES)]
        band(ax, tokens, increments[:, layer], color=TRAINED, label=f"block {layer + 1}",
             linestyle=style)  # fmt: skip
    untrained = result.untrained.increments.mean(1)
    band(ax, tokens, untrained, color=COLORS["other"], label="never trained, all blocks")
    ax.plot(tokens, increments[:, :, 4].mean() * 5 / tokens, label="1 / i", **LINE_STYLES["exact"])
    ax.set(xscale="log", yscale="log", xlabel="token i", ylabel="size of the increment")
    plain_log_ticks(ax)
    ax.legend(fontsize=8)


def draw_alignment(ax: Axes, result: "BlockByBlockResult") -> None:
    """Alignment of positions in each block: of examples, and of the query with them."""
    layers = np.arange(1, result.trained.to_query.shape[1] + 1)
    for measures, color, name, style in _groups(result):
        examples = pairs(measures.to_query[..., :-1, :-1])
        query = last_with_others(measures.to_query)
        for values, kind, marker in ((examples, "examples", "o"), (query, "query", "s")):
            band(ax, layers, values, color=color, label=f"{kind}, {name}", linestyle=style,
                 marker=marker, markersize=4)  # fmt: skip
    ax.axhline(0.5, **LINE_STYLES["exact"])
    ax.text(layers[-1], 0.62, "line: independent tokens", ha="right", va="bottom", fontsize=8)
    ax.set(xlabel="block", ylabel="alignment of the updates", ylim=(-0.6, 1.05), xticks=layers)
    ax.legend(fontsize=8, loc="lower left")


def draw_spectrum(ax: Axes, result: "BlockByBlockResult") -> None:
    """Singular values of the sum of all positions' updates, each relative to its own token."""
    count = np.arange(1, result.trained.spectrum.shape[-1] + 1)
    for measures, color, name, style in _groups(result):
        values = measures.spectrum.mean(1)
        band(ax, count, values, color=color, label=f"own token, {name}", linestyle=style)
    ax.plot(1, 1, "s", color=COLORS["exact"], label="relative to the query: one", markersize=5)
    ax.set(xlabel="singular value", ylabel="size, over the largest", ylim=(0, 1.05))
    ax.legend(fontsize=8)


def block_by_block(result: "BlockByBlockResult") -> Figure:
    """The three panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(10.8, 3.3))
    for ax, draw, title in zip(
        axes,
        (draw_increments, draw_alignment, draw_spectrum),
        ("Token by token", "Between positions", "Sum over positions"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
