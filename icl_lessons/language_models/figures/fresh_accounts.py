"""The figure of the test of an account on answers that had no part in shaping it."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.fresh_accounts import FreshAccountsResult

LOOKS = (("o", "language_models"), ("^", "development"), ("s", "implicit_dynamics"))
LEAST, MOST = 0.001, 2.0  # of both axes, nats


def draw_fresh(ax: Axes, result: "FreshAccountsResult", account: str) -> None:
    """A mark for each task of each model: the account's distance, and that of its nearest rival."""
    found = result.of(account)
    for place, group in enumerate(result.groups):
        marker, color = LOOKS[place % len(LOOKS)]
        ax.plot(
            found[place].ravel(), result.nearest_rival[place].ravel(), marker, alpha=0.75,
            color=COLORS[color], markersize=5, linestyle="none", label=group,
        )  # fmt: skip
    ax.plot([LEAST, MOST], [LEAST, MOST], color=COLORS["exact"], linewidth=0.9)
    ax.set(xscale="log", yscale="log", xlim=(LEAST, MOST), ylim=(LEAST, MOST),
           xlabel=f"{account}, nats", ylabel="nearest rival, nats")  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.legend(loc="lower right", fontsize=8.5)


def fresh_accounts(result: "FreshAccountsResult") -> Figure:
    """The filter that was found by looking."""
    use_style()
    fig, ax = plt.subplots(figsize=(4.4, 4.2))
    draw_fresh(ax, result, result.accounts[-1])
    return fig
