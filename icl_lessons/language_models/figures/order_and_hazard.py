"""The figures of order sensitivity by what a model was pretrained on; each takes a result."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.order_and_hazard import OrderAndHazardResult


def draw_sensitivity(ax: Axes, result: "OrderAndHazardResult", labels: str) -> None:
    """In-context learning by seed, and the exact filter, for each hazard and for no training."""
    places = np.arange(len(result.hazards) + 1)
    values = result.sensitivity[:, result.labels.index(labels)].mean(1)
    exact = result.exact[:, result.labels.index(labels)].mean(1)
    color = COLORS["language_models"]
    for seed, column in enumerate(values.T):
        ax.plot(places[:-1], column[:-1], marker="o", markersize=4, linewidth=1, color=color,
                label=None if seed else "in context, a line for each seed")  # fmt: skip
        ax.plot(places[-1], column[-1], "o", markersize=5, markerfacecolor="none",
                color=COLORS["other"], label=None if seed else "untrained")  # fmt: skip
    look = {**LINE_STYLES["exact"], "color": COLORS["bayesian"]}
    ax.plot(places[:-1], exact.mean(1), marker="s", markersize=4, label="exact Bayes filter",
            **look)  # fmt: skip
    ax.set_xticks(places, [*(f"{h:g}" for h in result.hazards), "untrained"])
    ax.set(xlabel="hazard of the text", title=f"labels {labels}", xlim=(-0.3, places[-1] + 0.5))


def order_and_hazard(result: "OrderAndHazardResult") -> Figure:
    """A panel for each kind of labels."""
    use_style()
    fig, axes = plt.subplots(
        1, len(result.labels), figsize=(3.1 * len(result.labels), 3.6), squeeze=False, sharey=True
    )
    for ax, labels in zip(axes[0], result.labels, strict=True):
        draw_sensitivity(ax, result, labels)
    axes[0, 0].set_ylim(0, None)
    axes[0, 0].set_ylabel("order sensitivity, Σ std p")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8)
    return fig
