"""The figures of order sensitivity by learner, epoch and rate; each takes a result."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, band, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.order_sensitivity import OrderSensitivityResult

DASHES = ("-", (0, (5, 2)), (0, (3, 1, 1, 1)), (0, (1, 1.4)))


def _color(name: str) -> str:
    if name.startswith("descent"):
        return COLORS["exact"]
    if name.startswith("Adam"):
        return COLORS["bayesian"]
    return COLORS["gradient_descent"] if name.startswith("SGD") else COLORS["development"]


def draw_epochs(ax: Axes, result: "OrderSensitivityResult", case: int) -> None:
    """Sensitivity of each learner by epoch, means over seeds; in-context learning as a band."""
    epochs, seen = np.array(result.epochs[1:]), {}
    context = np.repeat(result.context[case][:, None], len(epochs), 1)
    band(ax, epochs, context, color=COLORS["language_models"], label="in context", linewidth=2)
    for name, values in zip(result.learners, result.tuned[case], strict=True):
        color = _color(name)
        dashes = DASHES[seen.setdefault(color, 0) % len(DASHES)]
        seen[color] += 1
        mean = values[:, 1:].mean(0).clip(1e-8)
        ax.plot(epochs, mean, color=color, linestyle=dashes, linewidth=1.3, label=name)
    task, labels = result.cases[case]
    ax.set(yscale="log", xlabel="epochs", title=f"{task}, labels {labels}")


def draw_one_pass(ax: Axes, result: "OrderSensitivityResult") -> None:
    """Sensitivity of one pass of stochastic descent over the square of its rate, by seed."""
    over = result.one_pass / np.square(result.rates)
    for seed, values in enumerate(over):
        color, label = COLORS["gradient_descent"], None if seed else "SGD, one pass, by seed"
        ax.plot(
            result.rates, values, marker="o", markersize=4, linewidth=1.2, color=color, label=label
        )
    for seed, value in enumerate(result.context[0]):
        color, label = COLORS["language_models"], None if seed else "in context, by seed"
        ax.plot(result.rates, value / np.square(result.rates), color=color, label=label)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="learning rate η",
        ylabel="order sensitivity / η²",
        title="one pass",
    )
    ax.set_ylim(over.min() / 3, over.max() * 30)
    plain_log_ticks(ax)
    ax.legend(fontsize=8)


def draw_sides(ax: Axes, result: "OrderSensitivityResult") -> None:
    """The two sides of theorem 1 by seed, on a log axis: equal, if the two learners were."""
    for name, values, color in zip(
        ("in context", "full-batch descent"),
        result.sides.T,
        (COLORS["language_models"], COLORS["gradient_descent"]),
        strict=True,
    ):
        ax.plot(range(len(values)), values.clip(1e-17), "o", color=color, label=name)
    ax.axhline(np.finfo(float).eps, label="float64 rounding", **LINE_STYLES["exact"])
    ax.set(yscale="log", xlabel="seed", ylabel="difference two orders make", title="theorem 1")
    ax.set_xticks(range(len(result.sides)))
    ax.legend(fontsize=8)


def order_sensitivity(result: "OrderSensitivityResult") -> Figure:
    """A panel for each case, then theorem 1 and the square of the rate where they were measured."""
    use_style()
    cases, extra = len(result.cases), 2 * bool(result.rates)
    fig, axes = plt.subplots(1, cases + extra, figsize=(3.4 * (cases + extra), 4), squeeze=False)
    for case in range(cases):
        draw_epochs(axes[0, case], result, case)
    axes[0, 0].set_ylabel("order sensitivity, Σ std p")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8)
    if extra:
        draw_sides(axes[0, cases], result)
        draw_one_pass(axes[0, cases + 1], result)
    return fig
