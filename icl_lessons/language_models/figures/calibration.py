"""The figure of calibration: accuracy with and without it, and with a lean put in by hand."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.calibration import CalibrationResult

LOOKS = (
    {"color": COLORS["language_models"], "marker": "o"},
    {"color": COLORS["bayesian"], "marker": "s", "linestyle": "--"},
    {"color": COLORS["development"], "marker": "^", "linestyle": ":"},
)


def draw_calibration(ax: Axes, result: "CalibrationResult", task: int, biased: int) -> None:
    """Accuracy among the label words of one task, a line for each way to answer."""
    places = np.arange(len(result.n_demonstrations))
    for name, values, look in zip(result.methods, result.accuracy[biased], LOOKS, strict=True):
        ax.plot(places, values[task].mean((1, 2)), label=name, markerfacecolor="none", **look)
    ax.set_xticks(places, result.n_demonstrations)
    ax.set(ylim=(-0.03, 1.05), title=result.tasks[task], xlabel="demonstrations")


def calibration(result: "CalibrationResult") -> Figure:
    """As the model is above, with a lean put in by hand below; a column for each task."""
    use_style()
    tasks = len(result.tasks)
    fig, axes = plt.subplots(2, tasks, figsize=(2.6 * tasks, 5.6), squeeze=False, sharey=True)
    for biased, said in enumerate(("as it is", "with a lean put in")):
        for task in range(tasks):
            draw_calibration(axes[biased, task], result, task, biased)
        axes[biased, 0].set_ylabel(f"accuracy, {said}")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig
