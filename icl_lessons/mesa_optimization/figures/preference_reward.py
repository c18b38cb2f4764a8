"""The figures of a reward learned from comparisons; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.preference_reward import PreferenceRewardResult

INSIDE, OUTSIDE = COLORS["mesa_optimization"], COLORS["gradient_descent"]
BEFORE, OUTPUT = COLORS["other"], COLORS["bayesian"]


def draw_reward(ax: Axes, result: "PreferenceRewardResult") -> None:
    """Learned rewards of an output, where the output before was 1 and where it was -1.

    The judge's own score, over its temperature, is drawn beside them; each is shifted to be 0 at
    the output before or, where that is forbidden, at the floor.
    """
    judge = result.judge
    outputs = torch.linspace(-2, 2, 201)
    for value, color in ((-1.0, OUTSIDE), (1.0, INSIDE)):
        before = torch.full_like(outputs, value)
        zero = torch.tensor([max(value, float(judge.floor))])
        score = (judge.score(outputs, before) - judge.score(zero, before[:1])) / judge.temperature
        ax.plot(outputs, score, **LINE_STYLES["exact"])
        for seed, model in enumerate(result.reward_models):
            ax.plot(
                outputs,
                model(outputs, before) - model(zero, before[:1]),
                color=color,
                alpha=0.8,
                label=f"output before {value:g}".replace("-", "−") if seed == 0 else None,
            )
    ax.axvline(float(judge.floor), color=BEFORE, linestyle=":", linewidth=1)
    ax.set(xlabel="output", ylabel="reward; thin: the judge's score", ylim=(-14, 3))
    ax.legend(loc="lower right", fontsize=8.5)


def _marks(ax: Axes, result: "PreferenceRewardResult", rows) -> None:
    places = np.arange(len(result.treatments))
    for name, marker, color, label, shift in rows:
        values = getattr(result, name)
        values = values[..., 1] if values.ndim == 3 else values
        for seed in range(values.shape[1]):
            ax.plot(
                100 * values[:, seed],
                places + shift,
                marker,
                color=color,
                markersize=5.5,
                alpha=0.8,
                label=label if seed == 0 else None,
            )
    names = [name.replace("divergence ", "divergence\n× ") for name in result.treatments]
    ax.set_yticks(places, [n.replace("readout ", "readout\n") for n in names], fontsize=8.5)
    ax.set_ylim(len(places) - 0.4, -0.6)


def draw_behaviour(ax: Axes, result: "PreferenceRewardResult") -> None:
    """Share of forbidden outputs after every treatment, and with larger labels."""
    before = 100 * result.forbidden_before.mean()
    ax.axvline(before, label="before", **LINE_STYLES["exact"])
    _marks(
        ax,
        result,
        (
            ("forbidden", "o", OUTPUT, "after", -0.12),
            ("scaled", "^", BEFORE, "after, labels × 4", 0.12),
        ),
    )
    ax.set(xlabel="forbidden outputs, %", xlim=(0, None))
    ax.legend(loc="upper center", bbox_to_anchor=(0.42, -0.2), ncols=3, fontsize=8.5)


def draw_inside(ax: Axes, result: "PreferenceRewardResult") -> None:
    """Relative change of the inner metric, of the weights and as outputs show it."""
    _marks(
        ax,
        result,
        (
            ("inside", "o", INSIDE, "weights M", -0.12),
            ("outside", "s", OUTSIDE, "from outside", 0.12),
        ),
    )
    ax.set(xlabel="change of the inner step, %", xlim=(-3, None))
    ax.legend(loc="upper center", bbox_to_anchor=(0.42, -0.2), ncols=2, fontsize=8.5)


def preference_reward(result: "PreferenceRewardResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(1, 3, figsize=(11.4, 3.8))
    for ax, draw, title in zip(
        axes,
        (draw_reward, draw_behaviour, draw_inside),
        ("The learned reward", "Outside", "Inside"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
