"""The figure of how alike the update by demonstrations is to that by fine-tuning."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.update_similarity import UpdateSimilarityResult

# Marker and colour of each model.
LOOKS = {
    "trained": ("o", "language_models"),
    "embeddings only": ("s", "gradient_descent"),
    "untrained": ("^", "other"),
}
BARS = {
    "normalised": "bars: two independent updates of these sizes",
    "raw": "bars: fine-tuned on the same inputs with other labels",
    "scores": "bars: before fine-tuning",
}
TITLES = {
    "normalised": "outputs, states of length 1 (Dai et al.)",
    "raw": "outputs, as they are (Deutch et al.)",
    "scores": "scores (Dai et al.)",
    "score_changes": "changes of scores (Deutch et al.)",
}


def draw_measure(ax: Axes, result: "UpdateSimilarityResult", measure: str) -> None:
    """A measure for every way to descend and every model: mean over seeds, seeds as small points.

    A bar beside each point: at the normalised outputs, where two independent updates of the same
    sizes would be; at the raw ones, after fine-tuning on other labels; at the scores, before any
    fine-tuning.
    """
    from icl_lessons.language_models.experiments.update_similarity import WAYS

    for place, (model, (marker, color)) in enumerate(LOOKS.items()):
        for column, way in enumerate(WAYS):
            x, values = column + 0.24 * (place - 1), result.mean(measure, model, way)
            looks = {"linestyle": "none", "color": COLORS[color]}
            ax.plot(np.full(len(values), x + 0.06), values, ".", color=COLORS[color], markersize=4)
            ax.plot([x - 0.02], [values.mean()], marker=marker, markersize=7, **looks,
                    label=model if column == 0 else None)  # fmt: skip
            if measure in BARS:
                level = {
                    "normalised": result.mean("null", model, way),
                    "raw": result.mean("other_labels", model, way),
                    "scores": result.scores_before(model),
                }[measure].mean()
                ax.plot([x - 0.1, x + 0.1], [level] * 2, color=COLORS["exact"], linewidth=2,
                        zorder=1)  # fmt: skip
    ax.set_xlabel(BARS.get(measure, ""), fontsize=9)
    ax.axhline(0, color=COLORS["grid"], linewidth=1)
    ax.set_xticks(range(len(WAYS)), [way.replace(", ", ",\n") for way in WAYS])
    ax.grid(axis="x", visible=False)
    ax.set(title=TITLES[measure], ylabel="cosine")


def similarity_of_updates(result: "UpdateSimilarityResult") -> Figure:
    """Four cosines: of what attention puts out above, of its scores below.

    Without scores, for a pretrained model, the first row alone.
    """
    use_style()
    names = list(TITLES) if np.isfinite(result.context["scores"]).all() else list(TITLES)[:2]
    rows = len(names) // 2
    fig, axes = plt.subplots(rows, 2, figsize=(9.6, 3.3 * rows + 0.5), squeeze=False, sharex=True)
    for ax, name in zip(axes.flat, names, strict=True):
        draw_measure(ax, result, name)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return fig
