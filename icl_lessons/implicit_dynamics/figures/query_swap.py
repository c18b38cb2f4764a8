"""The figures of an update used for other queries; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, use_style

if TYPE_CHECKING:
    from icl_lessons.implicit_dynamics.experiments.query_swap import QuerySwapResult

UPDATED = COLORS["implicit_dynamics"]


def draw_distance(ax: Axes, result: "QuerySwapResult") -> None:
    """Error of an update against the distance from the query that it was made for."""
    distances = np.array(result.distances)
    band(ax, distances, result.swapped, color=UPDATED, label="update of the query at 0")
    band(ax, distances, result.unchanged, color=COLORS["other"], label="no update",
         linestyle=(0, (5, 2)))  # fmt: skip
    ax.set(
        xlabel="distance to the query of the update",
        ylabel="mean error of the prediction",
        ylim=(0, None),
    )
    ax.legend()


def draw_joint(ax: Axes, result: "QuerySwapResult") -> None:
    """Error of one change fitted to several queries, at those and at others."""
    places = np.arange(len(result.n_fitted))
    for values, label, color, style in (
        (result.own, "the queries it was fitted to", UPDATED, "trained"),
        (result.fresh, "other queries", UPDATED, "construction"),
        (result.untrained_fresh, "other queries, block untrained", COLORS["other"], "textbook"),
    ):
        dashes = LINE_STYLES[style]["linestyle"]
        band(ax, places, values.clip(max=1.5), color=color, label=label, linestyle=dashes)
    ax.set_xticks(places, [str(m) for m in result.n_fitted])
    ax.set(
        xlabel="queries that one change is fitted to",
        ylabel="error over that of no update",
        ylim=(0, 1.2),
    )
    ax.legend()


def query_swap(result: "QuerySwapResult") -> Figure:
    """Both panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.2))
    for ax, draw, title in zip(
        axes, (draw_distance, draw_joint), ("One query's update", "One change for several"),
        strict=True,
    ):  # fmt: skip
        draw(ax, result)
        ax.set_title(title)
    return fig
