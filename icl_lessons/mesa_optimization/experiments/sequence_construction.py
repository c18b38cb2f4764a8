"""What constructed layers make of sequences: steps of a solver, and what depth buys."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.estimators.linear_solvers import chebyshev, chebyshev_bound, richardson
from icl_lessons.mesa_optimization.figures import sequence_construction as figures
from icl_lessons.mesa_optimization.preconditioned_sequence import (
    largest_step_size,
    preconditioned_queries,
    preconditioning_systems,
    read_out,
)
from icl_lessons.mesa_optimization.sequence_construction import (
    next_step_descent,
    next_step_least_squares,
    next_step_loss,
    stacked_tokens,
    stacked_weights,
)
from icl_lessons.models.attention import causal_mask, linear_attention
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.dynamics import Dynamics

TUNING_SEED = 1_520_009
METHODS = ("descent", "stacked", "richardson", "chebyshev")


@dataclass(frozen=True, kw_only=True)
class SequenceConstructionsConfig:
    """Settings of :func:`sequence_constructions`; the defaults are the lesson's.

    Attributes:
        d, length, noise_std: fully observed linear dynamics whose queries are preconditioned.
        regularization: ``lambda`` there.
        layers: preconditioning layers, of Richardson and of Chebyshev.
        depth_d, depth_length, depth_regularization: the sequences on which losses are compared.
        depths: numbers of steps for those.
        n_step_sizes: numbers tried for each method and depth, on other sequences.
        margin: numbers that do harm to the tuning sequences at this many times their squared size,
            more than predicting 0, are not taken. Fixed weights explode on a sequence that is
            larger than they allow for.
        n_sequences, n_depth_sequences: sequences of either kind, for each seed.
        seeds: one draw each.
        device: where to compute.
    """

    d: int = 5
    length: int = 12
    noise_std: float = 0.1
    regularization: float = 2.0
    layers: int = 200
    depth_d: int = 4
    depth_length: int = 20
    depth_regularization: float = 30.0
    depths: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    n_step_sizes: int = 10
    margin: float = 1.8
    n_sequences: int = 64
    n_depth_sequences: int = 256
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "length", "layers", "depth_d", "depth_length"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("n_step_sizes", "n_sequences", "n_depth_sequences"):
            check_integer(name, getattr(self, name), at_least=2)
        for name in ("regularization", "depth_regularization"):
            check_number(name, getattr(self, name), positive=True)
        for depth in self.depths:
            check_integer("depths", depth, at_least=0)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class SequenceConstructionsResult:
    """What came of it.

    Losses are ``1/2 E |s_{t+1} - prediction|^2`` over positions 2 to ``length - 1``: the first has
    seen no transition, and the last has no next state.

    Attributes:
        richardson, chebyshev: relative error of the preconditioned query after 0, 1, ... layers,
            the largest over positions, mean over sequences, ``[seeds, layers + 1]``.
        by_position: Richardson's at each position after :attr:`shown` layers,
            ``[seeds, shown, length]``.
        shown: numbers of layers.
        own_step: Richardson's with the best safe step of each sequence, which fixed weights cannot
            know.
        prediction: mean distance of the prediction from least squares, over the mean size of the
            latter, Richardson's, ``[seeds, layers + 1]``.
        beyond: Richardson's relative error where the step is 10 % above the limit.
        condition: of the system at the last position with the bounds that the layers are given.
        bound: Chebyshev's bound on the relative error at that condition number.
        depths: numbers of steps or layers.
        loss: of each of :data:`METHODS` at each depth, with the best step sizes found on other
            sequences, ``[methods, seeds, depths]``. Depth 0 of the last two is one gradient step.
        zero_loss, one_step_loss, least_squares_loss: references, ``[seeds]``.
        one_step_size: the best step of one gradient step, ``[seeds]``.
        noise_floor: what no predictor can beat.
        gap: difference of two layers of Proposition 1 and two gradient steps of the same size, over
            the size of the latter, ``[seeds]``.
    """

    richardson: Float[np.ndarray, "seeds measured"]
    chebyshev: Float[np.ndarray, "seeds measured"]
    by_position: Float[np.ndarray, "seeds shown length"]
    shown: Int[np.ndarray, " shown"]
    own_step: Float[np.ndarray, "seeds measured"]
    prediction: Float[np.ndarray, "seeds measured"]
    beyond: Float[np.ndarray, "seeds measured"]
    condition: Float[np.ndarray, " seeds"]
    bound: Float[np.ndarray, " measured"]
    depths: Int[np.ndarray, " depths"]
    loss: Float[np.ndarray, "methods seeds depths"]
    zero_loss: Float[np.ndarray, " seeds"]
    one_step_loss: Float[np.ndarray, " seeds"]
    one_step_size: Float[np.ndarray, " seeds"]
    least_squares_loss: Float[np.ndarray, " seeds"]
    noise_floor: float
    gap: Float[np.ndarray, " seeds"]

    def summary(self) -> str:
        """The result in a few lines."""
        lines = ["layers       " + "".join(f"{k:9d}" for k in self.shown)]
        for name in ("richardson", "own_step", "chebyshev", "prediction"):
            row = getattr(self, name).mean(0)[self.shown]
            lines.append(f"{name:<13}" + "".join(f"{value:9.1e}" for value in row))
        lines.append("depth        " + "".join(f"{k:9d}" for k in self.depths))
        for name, rows in zip(METHODS, self.loss, strict=True):
            lines.append(f"{name:<13}" + "".join(f"{value:9.3f}" for value in rows.mean(0)))
        lines.append(
            f"predicting 0 {self.zero_loss.mean():.3f}, one step {self.one_step_loss.mean():.3f} "
            f"(step size {self.one_step_size.mean():.4f}), least squares "
            f"{self.least_squares_loss.mean():.3f}, noise {self.noise_floor:.3f}"
        )
        return "\n".join(lines)


def _solver_errors(states: Tensor, config: SequenceConstructionsConfig) -> dict[str, Tensor]:
    """Relative errors of every layer's query, for one batch of sequences."""
    strength, layers = config.regularization, config.layers
    systems = preconditioning_systems(states, strength)
    answer = preconditioned_queries(states, strength)
    limit = largest_step_size(states, strength)
    low, high = 1 / strength, 2 / limit

    def error(path: Tensor) -> Tensor:
        return (path - answer).norm(dim=-1) / answer.norm(dim=-1)

    largest = torch.linalg.eigvalsh(systems[:, -1]).amax(-1)  # of each sequence by itself
    own_step = (1 / largest)[:, None].expand(states.shape[:2])
    plain = richardson(systems, states, limit / 2, layers, states)
    exact = read_out(answer, states)
    predicted = (read_out(plain, states) - exact).norm(dim=-1).mean((1, 2))
    return {
        "richardson": error(plain).amax(-1).mean(-1),
        "own_step": error(richardson(systems, states, own_step, layers, states)).amax(-1).mean(-1),
        "chebyshev": error(chebyshev(systems, states, low, high, layers)).amax(-1).mean(-1),
        "beyond": error(richardson(systems, states, 1.1 * limit, layers, states)).amax(-1).mean(-1),
        "by_position": error(plain).mean(1),
        "prediction": predicted / exact.norm(dim=-1).mean(),
        "condition": torch.tensor(high / low),
    }


def _mean_loss(predictions: Tensor, states: Tensor) -> float:
    """Over the positions that have seen a transition, so from the second on."""
    return next_step_loss(predictions, states)[1:].mean().item()


def _best_scale(predictions: Tensor, states: Tensor) -> float:
    """The factor on predictions that makes their loss smallest: the loss is quadratic in it."""
    said, came = predictions[:, 1:-1], states[:, 2:]
    return ((said * came).sum() / said.square().sum()).item()


def stacked_path(states: Tensor, step_size: float, steps: int) -> Tensor:
    """Predictions after 0, 1, ... causal layers that repeat Proposition 1."""
    d = states.shape[2]
    tokens, mask = stacked_tokens(states), causal_mask(states.shape[1])
    weights = stacked_weights(d, step_size, states.dtype)
    path = [tokens]
    for _ in range(steps):
        path.append(linear_attention(path[-1], *weights, mask))
    return torch.stack(path)[..., :d]


def _paths(config: SequenceConstructionsConfig, limit: float) -> dict[str, tuple]:
    """For each method, predictions after every step at a number to tune, and the numbers to try."""
    strength, deepest, count = config.depth_regularization, max(config.depths), config.n_step_sizes

    def precondition(size: float, states: Tensor) -> Tensor:
        systems = preconditioning_systems(states, strength)
        return read_out(richardson(systems, states, size, deepest, states), states)

    def accelerate(low: float, states: Tensor) -> Tensor:
        systems = preconditioning_systems(states, strength)
        path = chebyshev(systems, states, low, 2 / limit, deepest)
        return read_out(torch.cat([states[None], path[1:]]), states)

    # A few steps may be longer than the limit, since what they blow up is not yet large.
    sizes = limit * np.geomspace(0.1, 6, count)
    lows = 2 / limit * np.geomspace(0.01, 1, count)
    return {
        "descent": (lambda size, states: next_step_descent(states, size, deepest), sizes),
        "stacked": (lambda size, states: stacked_path(states, size, deepest), sizes),
        "richardson": (precondition, sizes),
        "chebyshev": (accelerate, lows),
    }


def _depth_losses(
    tuning: Tensor, states: Tensor, config: SequenceConstructionsConfig
) -> Float[np.ndarray, "methods depths"]:
    """Loss of every method at every depth, its numbers chosen on other sequences."""
    larger = config.margin**0.5 * tuning
    limit, count = largest_step_size(larger, config.depth_regularization), len(tuning)
    harmless = _mean_loss(torch.zeros_like(larger), larger)
    rows = []
    for name, (run, sizes) in _paths(config, limit).items():
        tried = [run(float(size), torch.cat([tuning, larger])) for size in sizes]
        found, row = {}, []
        for depth in config.depths:
            # The read-out layer of Proposition 2 has a step size of its own.
            free = name in ("richardson", "chebyshev")
            scales = [_best_scale(path[depth, :count], tuning) if free else 1.0 for path in tried]
            losses = np.full(len(sizes), np.inf)
            for i, (scale, path) in enumerate(zip(scales, tried, strict=True)):
                if _mean_loss(scale * path[depth, count:], larger) <= harmless:
                    losses[i] = _mean_loss(scale * path[depth, :count], tuning)
            best = int(losses.argmin())
            if best not in found:
                found[best] = run(float(sizes[best]), states)
            row.append(_mean_loss(scales[best] * found[best][depth], states))
        rows.append(row)
    return np.array(rows)


def _draw(law: Dynamics, count: int, length: int, seed: int, device: str) -> Tensor:
    return law.sample(count, length, generator=seeded(seed), dtype=torch.float64).states.to(device)


@experiment(
    "sequence_constructions",
    paper="vonoswald2023uncovering",
    chapter="mesa_optimization/sequence_models",
    configs={
        Scale.LESSON: SequenceConstructionsConfig(),
        Scale.PAPER: SequenceConstructionsConfig(
            d=10,
            length=50,
            depth_d=10,
            depth_length=50,
            n_sequences=256,
            n_depth_sequences=512,
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.sequence_constructions,
)
def sequence_constructions(config: SequenceConstructionsConfig) -> SequenceConstructionsResult:
    """How many constructed layers precondition a query, and what depth buys with each method."""
    law = Dynamics(d=config.d, noise_std=config.noise_std)
    depth_law = Dynamics(d=config.depth_d, noise_std=config.noise_std)
    found: dict[str, list] = {}

    def keep(**values) -> None:
        for name, value in values.items():
            array = value.cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            found.setdefault(name, []).append(array)

    shown = np.array([k for k in (1, 2, 5, 10, 50, 100, 200) if k <= config.layers])
    with one_thread(), torch.no_grad():
        for seed in config.seeds:
            few, many = config.n_sequences, config.n_depth_sequences
            errors = _solver_errors(_draw(law, few, config.length, seed, config.device), config)
            errors["by_position"] = errors["by_position"][shown]
            keep(**errors)
            states, tuning = (
                _draw(depth_law, many, config.depth_length, own, config.device)
                for own in (seed, TUNING_SEED + seed)
            )
            step_size = _best_scale(next_step_descent(tuning, 1.0)[1], tuning)
            two = next_step_descent(states, step_size, 2)[2]
            best = next_step_least_squares(states, config.depth_regularization)
            keep(
                loss=_depth_losses(tuning, states, config),
                zero_loss=_mean_loss(torch.zeros_like(states), states),
                one_step_size=step_size,
                one_step_loss=_mean_loss(next_step_descent(states, step_size)[1], states),
                least_squares_loss=_mean_loss(best, states),
                gap=(stacked_path(states, step_size, 2)[2] - two).norm() / two.norm(),
            )
    arrays = {name: np.stack(values) for name, values in found.items()}
    arrays["loss"] = arrays["loss"].swapaxes(0, 1)
    condition = arrays["condition"].max().item()
    return SequenceConstructionsResult(
        **arrays,
        shown=shown,
        bound=np.array([chebyshev_bound(condition, k) for k in range(config.layers + 1)]),
        depths=np.array(config.depths),
        noise_floor=depth_law.noise_floor,
    )
