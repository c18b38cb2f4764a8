"""The figure of how far attention in context and fine-tuning rank tokens alike."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, use_style
from icl_lessons.language_models.figures.update_similarity import LOOKS

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.attention_ranks import AttentionRanksResult


def draw_ranks(ax: Axes, result: "AttentionRanksResult", among: str) -> None:
    """Kendall's tau for every way to train and every model: mean over seeds, seeds as dots."""
    from icl_lessons.language_models.experiments.attention_ranks import RANKED

    for place, (model, (marker, color)) in enumerate(LOOKS.items()):
        for column, way in enumerate(RANKED):
            x, values = column + 0.24 * (place - 1), result.mean(model, way, among)
            looks = {"linestyle": "none", "color": COLORS[color]}
            ax.plot(np.full(len(values), x + 0.06), values, ".", markersize=4, **looks)
            ax.plot([x - 0.02], [values.mean()], marker=marker, markersize=7, **looks,
                    label=model if column == 0 else None)  # fmt: skip
    ax.axhline(0, color=COLORS["grid"], linewidth=1)
    ax.set_xticks(range(len(RANKED)), [way.replace(", ", ",\n").replace(" fine", "\nfine")
                                       for way in RANKED])  # fmt: skip
    ax.grid(axis="x", visible=False)
    ax.set(title=among, ylabel="Kendall's tau")


def attention_ranks(result: "AttentionRanksResult") -> Figure:
    """All tokens, and within tokens of one kind."""
    from icl_lessons.language_models.experiments.attention_ranks import AMONG

    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True)
    for ax, among in zip(axes, AMONG, strict=True):
        draw_ranks(ax, result, among)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return fig
