"""Few-shot prompts whose neighbouring states are all taken for pairs."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from icl_lessons.declare import experiment
from icl_lessons.estimators.least_squares import ridge_prefix_predictions
from icl_lessons.mesa_optimization.figures import sequence_construction as figures
from icl_lessons.mesa_optimization.sequence_construction import (
    next_step_least_squares,
    overlapping_prompt,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.dynamics import FewShotPrompts

PROMPT_SEED = 1_520_021


@dataclass(frozen=True, kw_only=True)
class OverlappingPairsConfig:
    """Settings of :func:`overlapping_pairs_curve`; the defaults are the lesson's.

    Attributes:
        d, pairs: coordinates, and pairs in a prompt.
        regularization: ``lambda`` of the least squares.
        dimensions: other numbers of coordinates, for the place of the peak.
        n_prompts: for each seed.
        seeds: one draw each.
        device: where to compute.
    """

    d: int = 10
    pairs: int = 40
    regularization: float = 10.0
    dimensions: tuple[int, ...] = (4, 8, 12)
    n_prompts: int = 600
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "pairs", "n_prompts"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("regularization", self.regularization, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class OverlappingPairsResult:
    """What came of it. Losses are ``1/(2 d) E |y - prediction|^2`` at each query in turn.

    Attributes:
        queries: 1, 2, ..., the query asked after that many pairs less one.
        proper: least squares on the pairs ``(x, y)`` alone, ``[seeds, queries]``.
        overlapping: on all neighbours of the prompt.
        separated: on all neighbours of a prompt with an empty token after every pair.
        dimensions: numbers of coordinates.
        peak: query at which ``overlapping`` is largest, ``[seeds, dimensions]``.
        peak_loss: its value there.
    """

    queries: Int[np.ndarray, " queries"]
    proper: Float[np.ndarray, "seeds queries"]
    overlapping: Float[np.ndarray, "seeds queries"]
    separated: Float[np.ndarray, "seeds queries"]
    dimensions: Int[np.ndarray, " dimensions"]
    peak: Int[np.ndarray, "seeds dimensions"]
    peak_loss: Float[np.ndarray, "seeds dimensions"]

    def summary(self) -> str:
        """The result in a few lines."""
        shown = [q - 1 for q in (1, 2, 3, 5, 6, 9, 13, 17, 21, 40) if q <= len(self.queries)]
        lines = ["query       " + "".join(f"{self.queries[i]:7d}" for i in shown)]
        for name in ("proper", "overlapping", "separated"):
            row = getattr(self, name).mean(0)[shown]
            lines.append(f"{name:<12}" + "".join(f"{value:7.3f}" for value in row))
        peaks = ", ".join(
            f"d = {d}: {'/'.join(map(str, column))}"
            for d, column in zip(self.dimensions, self.peak.T, strict=True)
        )
        return "\n".join([*lines, f"query of the peak, each seed: {peaks}"])


def _prompt_losses(d: int, pairs: int, config: OverlappingPairsConfig, seed: int) -> dict:
    law = FewShotPrompts(d=d)
    batch = law.sample(config.n_prompts, pairs, generator=seeded(seed), dtype=torch.float64)
    prompt = batch.states.to(config.device)
    xs, ys = prompt[:, ::2], prompt[:, 1::2]
    strength = config.regularization
    separated = overlapping_prompt(xs, ys, xs.new_zeros(d))
    predictions = {
        "proper": ridge_prefix_predictions(xs, ys, 1 / strength),
        "overlapping": next_step_least_squares(prompt, strength)[:, ::2],
        "separated": next_step_least_squares(separated, strength)[:, ::3],
    }
    return {
        name: (0.5 * (said - ys).square().mean((0, 2))).cpu().numpy()
        for name, said in predictions.items()
    }


@experiment(
    "overlapping_pairs",
    paper="vonoswald2023uncovering",
    chapter="mesa_optimization/sequence_models",
    configs={
        Scale.LESSON: OverlappingPairsConfig(),
        Scale.PAPER: OverlappingPairsConfig(n_prompts=4000, seeds=(0, 1, 2, 3, 4)),
    },
    figure=figures.overlapping_pairs,
)
def overlapping_pairs_curve(config: OverlappingPairsConfig) -> OverlappingPairsResult:
    """What exact least squares on every neighbouring pair of a few-shot prompt predicts."""
    with one_thread(), torch.no_grad():
        runs = [
            _prompt_losses(config.d, config.pairs, config, PROMPT_SEED + seed)
            for seed in config.seeds
        ]
        curves = [
            [
                _prompt_losses(d, d + 4, config, PROMPT_SEED + seed)["overlapping"]
                for d in config.dimensions
            ]
            for seed in config.seeds
        ]
    return OverlappingPairsResult(
        queries=np.arange(1, config.pairs + 1),
        **{name: np.stack([run[name] for run in runs]) for name in runs[0]},
        dimensions=np.array(config.dimensions),
        peak=np.array([[int(curve.argmax()) + 1 for curve in row] for row in curves]),
        peak_loss=np.array([[curve.max() for curve in row] for row in curves]),
    )
