"""The figures of goal misgeneralisation; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, draw_matrix, plain_log_ticks, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.goal_misgeneralization import (
        GoalMisgeneralizationResult,
    )

LOOKS = {
    "corr": (COLORS["mesa_optimization"], "o"),
    "mixed": (COLORS["implicit_dynamics"], "s"),
    "dec": (COLORS["bayesian"], "^"),
}
LAWS = {"corr": "cue always follows", "mixed": "half and half", "dec": "cue always free"}
MODES = {
    "corr": "cue\nfollows",
    "dec": "cue\nfree",
    "anti": "relation\nreversed",
    "queryflip": "query's cue\nreversed",
}


def _draw_errors(ax: Axes, laws, errors, modes, exact=None) -> None:
    places = np.arange(len(modes))
    for i, law in enumerate(laws):
        color, marker = LOOKS[law]
        for row in errors[i]:
            ax.plot(places, row, marker, color=color, markersize=6, alpha=0.8, linestyle="none")
        ax.plot(
            places, errors[i].mean(0), color=color, linewidth=1.2, label=f"trained: {LAWS[law]}"
        )
        if exact is not None:
            ax.hlines(
                exact[i],
                places - 0.28,
                places + 0.28,
                label="over all prompts, exactly" if i == len(laws) - 1 else None,
                **{"colors": COLORS["exact"], "linewidth": LINE_STYLES["exact"]["linewidth"]},
            )
    ax.set(xlim=(-0.5, len(modes) - 0.5), yscale="log", ylabel="E (ŷ − y)² (log)", xlabel="at test")
    ax.set_xticks(places, [MODES[mode] for mode in modes])
    plain_log_ticks(ax)
    ax.legend(loc="upper left", fontsize=8.5)


def draw_layers(ax: Axes, result: "GoalMisgeneralizationResult") -> None:
    """Errors of the linear layers, one mark for each seed, and the exact ones as strokes."""
    _draw_errors(ax, result.laws, result.layer_error, result.modes, result.layer_exact)
    ax.set_ylim(0.06, 30)


def draw_models(ax: Axes, result: "GoalMisgeneralizationResult") -> None:
    """Errors of the Transformers, one mark for each seed."""
    _draw_errors(ax, result.model_laws, result.model_error, result.modes)
    ax.set_ylim(0.004, 60)


def draw_inner_objective(ax: Axes, result: "GoalMisgeneralizationResult") -> None:
    """``M`` of the layer that saw only cues that follow, read from label influence, first seed."""
    matrix = result.recovered[result.laws.index("corr"), 0].round(2)
    names = [f"$x_{{{i + 1}}}$" for i in range(len(matrix) - 1)] + ["cue"]
    draw_matrix(
        ax,
        matrix,
        row_labels=names,
        column_labels=names,
        decimals=2,
        color=COLORS["mesa_optimization"],
        blocks=(len(matrix) - 1,),
    )


def draw_reading(ax: Axes, result: "GoalMisgeneralizationResult") -> None:
    """How far each learner rests on the labels of its context, on prompts whose cue follows."""
    rows = [
        (f"layer\n{LAWS[law]}", use, LOOKS[law])
        for law, use in zip(result.laws, result.layer_label_use, strict=True)
    ] + [
        (f"Transformer\n{LAWS[law]}", use, LOOKS[law])
        for law, use in zip(result.model_laws, result.label_use[..., 0], strict=True)
    ]
    for place, (_, values, (color, marker)) in enumerate(rows):
        ax.plot(values, [place] * len(values), marker, color=color, markersize=6, alpha=0.8)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.set(
        xlabel=r"use of the labels, rms of $N\, \partial \hat y / \partial y_i$",
        xlim=(0, None),
        ylim=(len(rows) - 0.5, -0.5),
    )


def goal_misgeneralization(result: "GoalMisgeneralizationResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(8.6, 7.0))
    for ax, draw, title in zip(
        axes.flat,
        (draw_layers, draw_models, draw_inner_objective, draw_reading),
        ("Linear layers", "Transformers", "What the layer trusts", "Who reads the labels"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
