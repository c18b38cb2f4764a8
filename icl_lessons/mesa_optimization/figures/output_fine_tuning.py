"""The figures of fine-tuning by outputs; each takes a result and nothing else."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lessons.figures import COLORS, LINE_STYLES, use_style

if TYPE_CHECKING:
    from icl_lessons.mesa_optimization.experiments.output_fine_tuning import (
        OutputFineTuningResult,
    )

INSIDE, OUTSIDE = COLORS["mesa_optimization"], COLORS["gradient_descent"]
BEFORE, OUTPUT = COLORS["other"], COLORS["bayesian"]
NAMES = {
    "readout frozen": "reward,\nreadout frozen",
    "inner frozen": "reward,\ninner frozen",
    "poisoned": "poisoned\nlabels",
    "poisoned, readout frozen": "poisoned,\nreadout frozen",
}


def _rows(ax: Axes, result: "OutputFineTuningResult") -> np.ndarray:
    names = [NAMES.get(t, t.replace("punish", "reward, ×")) for t in result.treatments]
    places = np.arange(len(names))
    ax.set_yticks(places, names, fontsize=8.5)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return places


def _marks(ax: Axes, places, values, *, color: str, marker: str, label: str, shift=0.0) -> None:
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


def draw_behaviour(ax: Axes, result: "OutputFineTuningResult") -> None:
    """Share of forbidden outputs after every treatment, and with larger labels."""
    places = _rows(ax, result)
    before = 100 * result.forbidden_before.mean()
    ax.axvline(before, label="before", **LINE_STYLES["exact"])
    _marks(ax, places, result.forbidden, color=OUTPUT, marker="o", label="after", shift=-0.12)
    _marks(
        ax, places, result.scaled, color=BEFORE, marker="^", label="after, labels × 4", shift=0.15
    )
    ax.set(xlabel="forbidden outputs, %", xlim=(0, None))
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.42, -0.17), ncols=3, fontsize=8.5, columnspacing=1
    )


def draw_inside(ax: Axes, result: "OutputFineTuningResult") -> None:
    """Relative change of the inner metric, of the weights and as outputs show it."""
    places = _rows(ax, result)
    _marks(
        ax,
        places,
        result.inside[..., 1],
        color=INSIDE,
        marker="o",
        label="weights M",
        shift=-0.12,
    )
    _marks(
        ax,
        places,
        result.outside[..., 1],
        color=OUTSIDE,
        marker="s",
        label="from outside",
        shift=0.12,
    )
    ax.axvline(100 * (1 - result.exact_poisoned), label="poison, exactly", **LINE_STYLES["exact"])
    ax.set(xlabel="change of the inner step, %", xlim=(-3, None))
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.42, -0.17), ncols=3, fontsize=8.5, columnspacing=1
    )


def draw_cosine(ax: Axes, result: "OutputFineTuningResult") -> None:
    """The cosine beside the change: it sees no shrinking."""
    reward = [i for i, name in enumerate(result.treatments) if not name.startswith("poisoned")]
    poisoned = [i for i in range(len(result.treatments)) if i not in reward]
    for rows, color, marker, label in (
        (reward, INSIDE, "o", "rewarded"),
        (poisoned, COLORS["implicit_dynamics"], "^", "poisoned"),
    ):
        cells = result.inside[rows].reshape(-1, 3)
        ax.plot(
            100 * cells[:, 1],
            cells[:, 0],
            marker,
            color=color,
            markersize=6,
            alpha=0.8,
            linestyle="none",
            label=label,
        )
    ax.set(xlabel="change of M, %", ylabel="cosine of M with M before", ylim=(0.9, 1.004))
    ax.legend(loc="lower left", fontsize=8.5)


def draw_transformers(ax: Axes, result: "OutputFineTuningResult") -> None:
    """What a Transformer still holds: error of the truth as said, and as a probe reads it."""
    bars = (
        ("said", result.model_output_error, OUTPUT),
        ("read", np.stack([np.broadcast_to(
            result.model_probe_before, result.model_probe.shape), result.model_probe], -1), INSIDE),
    )  # fmt: skip
    names = ("before", *result.model_treatments)
    for (label, values, color), shift, marker in zip(bars, (-0.1, 0.1), "os", strict=True):
        shown = np.concatenate([values[:1, :, 0], values[..., 1]])
        for i, row in enumerate(shown):
            ax.plot(
                [i + shift] * len(row),
                row,
                marker,
                color=color,
                markersize=6,
                alpha=0.8,
                label={"said": "as the output says it", "read": "as a linear probe reads it"}[label]
                if i == 0
                else None,
            )
    shown = [n.replace("punish ", "reward\n×").replace("reward, ", "reward,\n") for n in names]
    ax.set_xticks(range(len(names)), shown, fontsize=8.5)
    ax.set(ylabel="error of the truth, normalised", xlim=(-0.5, len(names) - 0.5), ylim=(0, None))
    ax.legend(loc="upper left", fontsize=8.5)


def output_fine_tuning(result: "OutputFineTuningResult") -> Figure:
    """All panels of the experiment on one sheet."""
    use_style()
    fig, axes = plt.subplots(2, 2, figsize=(8.8, 7.4))
    for ax, draw, title in zip(
        axes.flat,
        (draw_behaviour, draw_inside, draw_cosine, draw_transformers),
        ("Outside", "Inside", "What a cosine misses", "Transformers"),
        strict=True,
    ):
        draw(ax, result)
        ax.set_title(title)
    return fig
