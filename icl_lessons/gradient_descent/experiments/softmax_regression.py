"""Are a step on the weights and a layer on the data close, or only both small?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.gradient_descent.figures import softmax_regression as figures
from icl_lessons.gradient_descent.softmax_regression import (
    attention_shift,
    attention_step,
    data_shift_bound,
    descent_shift,
    descent_step,
    paper_constant,
    softmax_loss,
    softmax_prediction,
    weight_shift_bound,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded


@dataclass(frozen=True, kw_only=True)
class SoftmaxRegressionConfig:
    """Settings of :func:`softmax_regression_shift`; the defaults are the lesson's.

    Attributes:
        n, d: rows and columns of the data.
        radii: norms of ``A`` (operator) and of ``x`` (Euclidean), the ``R`` of the bounds.
        step_size: of the step on the weights and of the layer on the data.
        n_draws: problems for each radius and seed.
        seeds: one set of draws each.
        device: where to compute.
    """

    n: int = 10
    d: int = 5
    radii: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    step_size: float = 0.1
    n_draws: int = 500
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n", "d", "n_draws"):
            check_integer(name, getattr(self, name), at_least=2)
        check_number("step_size", self.step_size, positive=True)
        for radius in self.radii:
            check_number("radii", radius, positive=True)
        if not self.radii or not self.seeds:
            raise ValueError("radii, seeds: give at least one of each")


@dataclass(frozen=True, kw_only=True)
class SoftmaxRegressionResult:
    """What came of it; first axis the seed, second the radius.

    Attributes:
        radii: ``R``.
        descent_bound_ratio, attention_bound_ratio: our bound over the movement it bounds,
            ``[seeds, radii, draws]``; never below 1.
        paper_bound_ratio: the paper's bound (constant from memory) over the movement by descent.
        cosine: between the movement of the prediction by descent and that by attention.
        unexplained: length of what no multiple of the movement by attention, of either sign, can
            account for, over the length of the movement by descent: ``sqrt(1 - cosine^2)``.
        descent_gain, attention_gain: fall of the loss by either, the second step sized to move the
            prediction as far as the first; above 0 is better.
    """

    radii: Float[np.ndarray, " radii"]
    descent_bound_ratio: Float[np.ndarray, "seeds radii draws"]
    attention_bound_ratio: Float[np.ndarray, "seeds radii draws"]
    paper_bound_ratio: Float[np.ndarray, "seeds radii draws"]
    cosine: Float[np.ndarray, "seeds radii draws"]
    unexplained: Float[np.ndarray, "seeds radii draws"]
    descent_gain: Float[np.ndarray, "seeds radii draws"]
    attention_gain: Float[np.ndarray, "seeds radii draws"]

    def summary(self) -> str:
        """Medians over draws and seeds, one line for each radius."""
        lines = []
        for r, radius in enumerate(self.radii):
            ours = [
                np.median(v[:, r]) for v in (self.descent_bound_ratio, self.attention_bound_ratio)
            ]
            better = [(v[:, r] > 0).mean() for v in (self.descent_gain, self.attention_gain)]
            paper = np.median(np.log10(self.paper_bound_ratio[:, r]))
            cosine, left = (v[:, r].mean() for v in (self.cosine, self.unexplained))
            lines.append(
                f"R = {radius:g}: bound over movement {ours[0]:.2f} (weights), {ours[1]:.2f} "
                f"(data), paper's 10^{paper:.1f}; mean cosine {cosine:+.2f}; unexplained "
                f"{left:.2f}; lower loss: {better[0]:.0%} and {better[1]:.0%}"
            )
        return "\n".join(lines)


def draw_problems(
    config: SoftmaxRegressionConfig, radius: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Data and weights of norm ``radius``, and targets that other such weights would predict."""
    generator = seeded(seed)
    shape = {"generator": generator, "dtype": torch.float64}
    data = torch.randn(config.n_draws, config.n, config.d, **shape)
    weights = torch.randn(config.n_draws, config.d, **shape)
    others = torch.randn(config.n_draws, config.d, **shape)
    data = radius * data / torch.linalg.matrix_norm(data, 2)[:, None, None]
    weights, others = (radius * w / w.norm(dim=-1, keepdim=True) for w in (weights, others))
    return data, weights, softmax_prediction(data, others)


def _matched_gain(data, weights, targets, prediction, length) -> torch.Tensor:
    """Fall of the loss by the attention update whose movement has the given length."""
    low, high = torch.zeros_like(length), torch.ones_like(length)

    def moved(size: torch.Tensor) -> torch.Tensor:
        update = attention_step(data, 1.0) - data
        return softmax_prediction(data + size[:, None, None] * update, weights)

    for _ in range(60):  # the movement grows with the size; halve the interval
        middle = (low + high) / 2
        short = (moved(middle) - prediction).norm(dim=-1) < length
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    start = 0.5 * (prediction - targets).square().sum(-1)
    return start - 0.5 * (moved(high) - targets).square().sum(-1)


@experiment(
    "softmax_regression_shift",
    paper="li2023closeness",
    chapter="gradient_descent/beyond_lines",
    configs={
        Scale.LESSON: SoftmaxRegressionConfig(),
        Scale.PAPER: SoftmaxRegressionConfig(n=100, d=20, seeds=(0, 1, 2, 3, 4)),
    },
    figure=figures.softmax_regression,
)
def softmax_regression_shift(config: SoftmaxRegressionConfig) -> SoftmaxRegressionResult:
    """Move the prediction by a step on the weights and by a layer on the data, and compare."""
    size = config.step_size
    rows: dict[str, list[list[np.ndarray]]] = {}
    with one_thread(), torch.no_grad():
        for seed in config.seeds:
            columns: dict[str, list[np.ndarray]] = {}
            for radius in config.radii:
                problem = (t.to(config.device) for t in draw_problems(config, radius, seed))
                for name, values in _measure(*problem, radius, size).items():
                    columns.setdefault(name, []).append(values.cpu().numpy())
            for name, values in columns.items():
                rows.setdefault(name, []).append(values)
    return SoftmaxRegressionResult(
        radii=np.array(config.radii), **{name: np.array(values) for name, values in rows.items()}
    )


def _measure(data, weights, targets, radius: float, size: float) -> dict[str, torch.Tensor]:
    prediction = softmax_prediction(data, weights)
    moved = descent_step(data, weights, targets, size)
    by_descent = descent_shift(data, weights, targets, size)
    by_attention = attention_shift(data, weights, size)
    length, other = by_descent.norm(dim=-1), by_attention.norm(dim=-1)
    cosine = (by_descent * by_attention).sum(-1) / (length * other)
    paper = paper_constant(data.shape[1], radius) * (moved - weights).norm(dim=-1)
    gain = softmax_loss(data, weights, targets) - softmax_loss(data, moved, targets)
    return {
        "descent_bound_ratio": weight_shift_bound(data, weights, moved) / length,
        "attention_bound_ratio": data_shift_bound(data, attention_step(data, size), weights)
        / other,
        "paper_bound_ratio": paper / length,
        "cosine": cosine,
        "unexplained": (1 - cosine.square()).clamp_min(0).sqrt(),
        "descent_gain": gain,
        "attention_gain": _matched_gain(data, weights, targets, prediction, length),
    }
