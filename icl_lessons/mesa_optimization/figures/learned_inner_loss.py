"""The figures of learned inner losses; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.learned_inner_loss import LearnedInnerLossResult

OWN, TEXTBOOK = COLORS["mesa_optimization"], COLORS["bayesian"]


def _curves(ax: Axes, result: "LearnedInnerLossResult", setting: str) -> None:
    r = result.residual_grid
    for seed, curves in enumerate(result.maps[setting].curves):
        label = "learned, each seed" if seed == 0 else None
        ax.plot(r, curves[len(curves) // 2], color=OWN, linewidth=1.4, label=label)
    ax.set(xlabel="residual y − p", ylabel="value v(p, y) at p = 0")


def _scaled(target: np.ndarray, curve: np.ndarray) -> np.ndarray:
    return curve * (curve @ target) / (curve @ curve)


def draw_gaussian(ax: Axes, result: "LearnedInnerLossResult") -> None:
    """The value map learned under normal label noise, and a straight line."""
    _curves(ax, result, "gaussian")
    mean = result.maps["gaussian"].curves[:, 1].mean(0)
    line = _scaled(mean, result.residual_grid)
    ax.plot(result.residual_grid, line, color=TEXTBOOK, label="line", **LINE_STYLES["textbook"])
    ax.legend(loc="lower right")


def draw_outliers(ax: Axes, result: "LearnedInnerLossResult") -> None:
    """The value map learned with outliers, a clip, and the score of the label noise."""
    r = result.residual_grid
    _curves(ax, result, "outliers")
    mean = result.maps["outliers"].curves[:, 1].mean(0)
    clips = [np.clip(r, -delta, delta) for delta in np.linspace(0.1, 3, 30)]
    fits = [_scaled(mean, clip) for clip in clips]
    best = min(fits, key=lambda fit: ((mean - fit) ** 2).sum())
    ax.plot(r, best, color=COLORS["gradient_descent"], label="best clip", linestyle=(0, (5, 2)))
    ax.plot(
        r, _scaled(mean, result.likelihood), color=TEXTBOOK, label="score of the noise",
        **LINE_STYLES["textbook"],
    )  # fmt: skip
    ax.legend(loc="lower right", fontsize=7.5)


def draw_recovered(ax: Axes, result: "LearnedInnerLossResult") -> None:
    """The losses recovered by a path integral, scaled to 1 at a residual of 3."""
    r = result.residual_grid
    place = int(np.abs(r - 3).argmin())
    for setting, color, style in (
        ("gaussian", COLORS["gradient_descent"], (0, (5, 2))),
        ("outliers", OWN, "-"),
    ):
        for seed, curve in enumerate(result.maps[setting].recovered):
            label = f"trained on {setting}" if seed == 0 else None
            scaled = curve / curve[place]
            ax.plot(r, scaled, color=color, linestyle=style, linewidth=1.4, label=label)
    ax.plot(r, r**2 / 9, label="squared", **LINE_STYLES["exact"])
    ax.set(xlabel="residual y − p", ylabel="recovered loss, 1 at a residual of 3", ylim=(0, 4.2))
    ax.legend(loc="upper center")


def draw_scores(ax: Axes, result: "LearnedInnerLossResult") -> None:
    """Share of each step that the best loss explains; filled where the verdict is yes."""
    from icl_lessons.mesa_optimization.experiments.learned_inner_loss import VERDICTS

    no, names = VERDICTS.index("no"), []
    for name, reading in result.readings.items():
        for step in range(reading.verdict.shape[1]):
            whole = name.endswith("softmax") and step == reading.verdict.shape[1] - 1
            names.append(f"{name.replace('_', ' ')}, {'whole' if whole else step + 1}")
            best = np.nanmax(reading.scores[:, step], 1)
            for score, verdict in zip(best, reading.verdict[:, step], strict=True):
                fill = "none" if verdict == no else OWN
                ax.scatter(score, len(names) - 1, s=28, facecolors=fill, edgecolors=OWN)
    ax.axvline(0.9, **LINE_STYLES["exact"])
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="explained by the best loss", xlim=(-0.03, 1.03))


def learned_inner_loss(result: "LearnedInnerLossResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(8.2, 7.2))
    for ax, draw, title in zip(
        axes.flat,
        (draw_gaussian, draw_outliers, draw_recovered, draw_scores),
        ("Normal noise", "Outliers", "Losses recovered", "What the detector finds"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
