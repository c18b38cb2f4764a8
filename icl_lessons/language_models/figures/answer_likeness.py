"""The figure of who answers like whom."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, draw_matrix, use_style

if TYPE_CHECKING:
    from icl_lessons.language_models.experiments.answer_likeness import AnswerLikenessResult


def draw_likeness(ax: Axes, result: "AnswerLikenessResult", task: int, *, names: bool) -> None:
    """Overlap cosine similarity of each pair on one task, mean over seeds.

    Args:
        names: write the methods beside the rows.
    """
    from icl_lessons.language_models.experiments.answer_likeness import MEASURES

    draw_matrix(
        ax,
        result.likeness[task, :, MEASURES.index("paper")].mean(0),
        title=result.tasks[task],
        color=COLORS["language_models"],
        row_labels=[f"{name} ({i + 1})" for i, name in enumerate(result.methods)] if names else (),
        column_labels=[f"{i + 1}" for i in range(len(result.methods))],
        blocks=(2, 3),
        decimals=2,
    )


def answer_likeness(result: "AnswerLikenessResult") -> Figure:
    """A square for each task, two in a row; methods are named beside the first of a row."""
    use_style()
    rows = -(-len(result.tasks) // 2)
    fig, axes = plt.subplots(rows, 2, figsize=(9.8, 4.0 * rows), squeeze=False)
    for task, ax in enumerate(axes.flat):
        if task < len(result.tasks):
            draw_likeness(ax, result, task, names=task % 2 == 0)
        else:
            ax.set_visible(False)
    return fig
