"""The figure of the distances from in-context learning to every account of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from icl_lessons.figures import COLORS, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.which_account import WhichAccountResult

# Marker and colour of each account; no two share both.
LOOKS = {
    "in context, reordered": ("|", "language_models"),
    "no demonstrations": ("x", "other"),
    "descent": ("o", "gradient_descent"),
    "descent of one block": ("^", "gradient_descent"),
    "layer-causal descent": ("v", "development"),
    "task vector, added": ("D", "implicit_dynamics"),
    "task vector, in place": ("P", "mesa_optimization"),
    "Bayes filter": ("s", "bayesian"),
    "Bayes filter, as far as learned": ("*", "bayesian"),
}


def draw_distances(
    ax: Axes,
    result: "WhichAccountResult",
    tasks: Sequence[str] | None = None,
    choice: str = "oracle",
) -> None:
    """A row for each task: the mean divergence of every account, and each seed as a small point.

    Args:
        tasks: all if ``None``.
        choice: of settings: ``"oracle"`` or ``"fair"``.
    """
    rows = result.rows(*(result.tasks if tasks is None else tasks))
    step = 0.8 / len(result.accounts)
    for place, name in enumerate(result.accounts):
        marker, color = LOOKS[name][0], COLORS[LOOKS[name][1]]
        values = result.of("divergence", name, choice)[rows]
        heights = [
            row + step * (place - (len(result.accounts) - 1) / 2) for row in range(len(rows))
        ]
        for seed in range(values.shape[1]):
            ax.plot(values[:, seed], heights, ".", color=color, markersize=3, alpha=0.6)
        ax.plot(values.mean(1), heights, linestyle="none", marker=marker, color=color,
                markersize=6.5, markeredgewidth=1.6, label=name)  # fmt: skip
    for row in range(1, len(rows)):
        ax.axhline(row - 0.5, color=COLORS["grid"], linewidth=0.7)
    ax.set_yticks(range(len(rows)), [result.tasks[row] for row in rows])
    ax.grid(axis="y", visible=False)
    ax.set(xscale="log", xlabel="KL from in context, nats", ylim=(len(rows) - 0.5, -0.5))
    ax.xaxis.set_major_locator(LogLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def which_account(result: "WhichAccountResult", choice: str = "oracle") -> Figure:
    """All tasks below one another, the legend under them."""
    use_style()
    fig, ax = plt.subplots(figsize=(4.6, 1.3 + 0.62 * len(result.tasks)))
    draw_distances(ax, result, choice=choice)
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5)
    return fig
