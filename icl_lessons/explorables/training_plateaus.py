"""Explorable of *How training finds it*: the plateaus of linear attention, followed live.

One layer of linear attention is trained on regression in context, from a small random start, on
the exact expected loss: once with one merged key-query matrix a head, once with separate keys and
queries. The reader changes the covariance of the inputs, the size of the start, the examples, the
heads and their rank. `training_plateaus_math.mjs` follows both runs with the steps taken here; the
tests compare them with `icl_lessons.implicit_dynamics.training_plateaus`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import traitlets

from icl_lessons.explorables.base import (
    Choice,
    DrawnExplorable,
    InvalidTrait,
    Number,
    Numbers,
    WholeNumber,
    component_source,
    plural,
)
from icl_lessons.explorables.random_numbers import normals

D = 4
MOST_HEADS, MOST_RANK = 8, 4
KINDS = ("merged", "separate")
STREAMS = {"merged": (0, 1), "separate": (2, 3, 4)}  # of chance: values, then U or k and q
TOLERANCE = 2e-6  # of one step, relative
MOST_STEPS, MOST_STAGES = 6000, 60
NEAR, REST = 0.02, 1e-9  # shares of the smallest drop: arrived, and followed no further
PAUSE, LEAST = 0.25, 0.01  # what parts two drops, and how much one falls


def shrinkage(eigenvalues: np.ndarray, examples: int) -> np.ndarray:
    """`rho_d = 1 / (1 + (1 + tr Lambda / lambda_d) / N)`, `[4]`."""
    return 1 / (1 + (1 + eigenvalues.sum() / eigenvalues) / examples)


def plateau_losses(eigenvalues: np.ndarray, examples: int) -> np.ndarray:
    """Losses at the fixed points with 0, 1, ..., 4 directions, the largest first, `[5]`."""
    learned = np.sort(eigenvalues * shrinkage(eigenvalues, examples))[::-1]
    return eigenvalues.sum() - np.cumsum([0.0, *learned])


@dataclass
class Run:
    """Training of one parametrisation, step by step.

    Attributes:
        times: `[steps]`, in units of `tau`.
        losses: `E (y_hat - y)^2`, `[steps]`.
        falls: `-tau dL/dt`, `[steps]`.
        products: `M` in the eigenbasis, `[steps, 4, 4]`.
    """

    times: np.ndarray
    losses: np.ndarray
    falls: np.ndarray
    products: np.ndarray

    def drops(self) -> list[tuple[int, int]]:
        """Of each drop the step of the fastest fall, and the one that ends it.

        A drop ends in the pause before the next, where the loss falls slowest, or at the end.
        """
        peaks: list[list[int]] = []  # the fastest step of a drop, and the pause before it
        low = 0
        for i, fall in enumerate(self.falls):
            if fall < self.falls[low]:
                low = i
            if not peaks:
                peaks.append([i, 0])
            elif self.falls[low] < PAUSE * min(self.falls[peaks[-1][0]], fall):
                peaks.append([i, low])
            elif fall > self.falls[peaks[-1][0]]:
                peaks[-1][0] = i
            else:
                continue
            low = i
        starts = [start for _, start in peaks]
        ends = [*starts[1:], len(self.falls) - 1]
        least = LEAST * (self.losses[0] - self.losses[-1])
        return [
            (peak, end)
            for (peak, start), end in zip(peaks, ends, strict=True)
            if self.losses[start] - self.losses[end] >= least
        ]


class _Model:
    """Gradient flow of one parametrisation; a state is one vector: `v`, then `U` or `k` and `q`."""

    def __init__(self, kind, eigenvalues, examples, size, heads, rank, seed) -> None:
        self.kind, self.heads, self.rank, self.size = kind, heads, rank, size
        self.lam = np.array(eigenvalues)
        self.moment = self.lam**2 / shrinkage(self.lam, examples)
        first, *rest = STREAMS[kind]
        values = normals(seed, first, MOST_HEADS)[:heads]
        blocks = [normals(seed, stream, MOST_HEADS * MOST_RANK * D) for stream in rest]
        if kind == "merged":
            blocks = [block[: heads * D * D] for block in blocks]
        else:
            blocks = [b.reshape(MOST_HEADS, MOST_RANK, D)[:heads, :rank].ravel() for b in blocks]
        self.start = size * np.concatenate([values, *blocks])

    def _parts(self, state):
        values, rest = state[: self.heads], state[self.heads :]
        if self.kind == "merged":
            return values, rest.reshape(self.heads, D * D)
        keys, queries = rest.reshape(2, self.heads * self.rank, D)
        return np.repeat(values, self.rank)[:, None], keys, queries

    def product(self, state: np.ndarray) -> np.ndarray:
        """`M`, `[4, 4]`."""
        if self.kind == "merged":
            values, key_query = self._parts(state)
            return (values @ key_query).reshape(D, D)
        values, keys, queries = self._parts(state)
        return (values * keys).T @ queries

    def speed(self, state: np.ndarray) -> np.ndarray:
        """`tau d theta/dt = -1/2 dL/d theta`."""
        force = -self.moment[:, None] * self.product(state) * self.lam
        force.flat[:: D + 1] += self.lam**2
        if self.kind == "merged":
            values, key_query = self._parts(state)
            return np.concatenate([key_query @ force.ravel(), np.outer(values, force).ravel()])
        values, keys, queries = self._parts(state)
        pulled = queries @ force.T
        pull = (keys * pulled).sum(1).reshape(self.heads, self.rank).sum(1)
        return np.concatenate([pull, (values * pulled).ravel(), (values * (keys @ force)).ravel()])

    def loss(self, product: np.ndarray) -> float:
        """`E (y_hat - y)^2` of one `M`, `[4, 4]`."""
        squares = (self.moment[:, None] * product**2 * self.lam).sum()
        return float((self.lam - 2 * self.lam**2 * product.diagonal()).sum() + squares)


@lru_cache(maxsize=80)
def _scheme(s: int) -> tuple[float, list[tuple[float, float, float, float]]]:
    """Coefficients of the Runge-Kutta-Chebyshev method with `s` stages."""
    w0 = 1 + 2 / (13 * s * s)
    t, dt, ddt = [1.0, w0], [0.0, 1.0], [0.0, 0.0]  # Chebyshev polynomials and derivatives at w0
    for j in range(2, s + 1):
        t.append(2 * w0 * t[j - 1] - t[j - 2])
        dt.append(2 * t[j - 1] + 2 * w0 * dt[j - 1] - dt[j - 2])
        ddt.append(4 * dt[j - 1] + 2 * w0 * ddt[j - 1] - ddt[j - 2])
    w1 = dt[s] / ddt[s]
    b = [ddt[max(j, 2)] / dt[max(j, 2)] ** 2 for j in range(s + 1)]
    stages = []
    for j in range(2, s + 1):
        pull = 2 * b[j] * w1 / b[j - 1]
        back = -(1 - b[j - 1] * t[j - 1]) * pull
        stages.append((2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], pull, back))
    return b[1] * w1, stages


class _Flow:
    """A run in the making: a stabilised explicit method of second order, its steps adapted.

    After the drops that are over, training is stiff: what is learned returns to its place fast,
    what is not yet learned hardly moves. The number of stages follows an estimate of the largest
    curvature (one power iteration a step), the step size one of the error.
    """

    def __init__(self, model: _Model) -> None:
        self.model, self.state = model, model.start
        self.speed = model.speed(self.state)
        self.probe, self.size, self.steps = self.speed, 0.1, 0
        self.kept: list[tuple[float, float, float, np.ndarray]] = []
        self._keep(0.0)

    def _keep(self, time: float) -> None:
        product, fall = self.model.product(self.state), 2 * float(self.speed @ self.speed)
        self.kept.append((time, self.model.loss(product), fall, product))

    def follow(self, until: float, loss: float) -> None:
        """Go on until a time, or until the loss is no larger than this."""
        model = self.model
        while self.steps < MOST_STEPS and self.kept[-1][0] < until and self.kept[-1][1] > loss:
            self.steps += 1
            state, speed, time = self.state, self.speed, self.kept[-1][0]
            long = np.linalg.norm(self.probe)
            nudge = 1e-4 * np.linalg.norm(state) / long
            turned = (model.speed(state + nudge * self.probe) - speed) / nudge / long
            if turned.any():
                self.probe = turned
            curvature = 1.3 * np.linalg.norm(self.probe) + 1e-12
            self.size = min(self.size, until - time, 0.65 * MOST_STAGES**2 / curvature)
            stages = max(2, 1 + int(np.ceil(np.sqrt(1 + 1.54 * self.size * curvature))))
            following = self._step(self.size, stages)
            there = model.speed(following)
            part = 0.8 * (state - following) + 0.4 * self.size * (speed + there)
            scale = TOLERANCE * (model.size + np.maximum(np.abs(state), np.abs(following)))
            error = float(np.sqrt(np.mean((part / scale) ** 2)))
            tried = self.size
            if not np.isfinite(error):
                self.size *= 0.2
                continue
            self.size *= min(3.0, max(0.2, 0.8 * (error + 1e-12) ** (-1 / 3)))
            if error <= 1:
                self.state, self.speed = following, there
                self._keep(time + tried)

    def _step(self, size: float, s: int) -> np.ndarray:
        first, stages = _scheme(s)
        start, speed = self.state, self.speed
        before, now = start, start + first * size * speed
        for mu, nu, pull, back in stages:
            at = self.model.speed(now)
            following = (1 - mu - nu) * start + mu * now + nu * before
            before, now = now, following + size * (pull * at + back * speed)
        return now


@lru_cache(maxsize=32)
def _runs(eigenvalues, examples, size, heads, rank, seed) -> dict[str, Run]:
    """Both parametrisations until both have arrived and a quarter longer."""
    levels = plateau_losses(np.array(eigenvalues), examples)
    least = levels[D - 1] - levels[D]
    ends = {"merged": levels[D], "separate": levels[min(D, heads * rank)]}
    flows = {}
    for kind in KINDS:
        flows[kind] = _Flow(_Model(kind, eigenvalues, examples, size, heads, rank, seed))
        flows[kind].follow(np.inf, ends[kind] + NEAR * least)
    horizon = 1.25 * max(flow.kept[-1][0] for flow in flows.values())
    runs = {}
    for kind, flow in flows.items():
        flow.follow(horizon, ends[kind] + REST * least)
        kept = flow.kept
        if kept[-1][0] < horizon:
            kept = [*kept, (horizon, *kept[-1][1:])]
        runs[kind] = Run(*(np.array(part) for part in zip(*kept, strict=True)))
    return runs


class PlateauExplorer(DrawnExplorable):
    """Training of linear attention on regression in context, with merged and separate heads.

    `x ~ N(0, Lambda)` with four eigenvalues, `w ~ N(0, I)`, no noise. The layer predicts
    `y_hat = beta^T M x_q` with `beta = 1/N sum_i y_i x_i` and `M = sum_h v_h U_h` (merged) or
    `M = sum_h v_h sum_r k_hr q_hr^T` (separate) [zhang2025training]. Training is gradient flow,
    `tau d theta/dt = -1/2 dL/d theta` on `L = E (y_hat - y)^2`, exact, from normal numbers of
    standard deviation `start`. Everything is written in the eigenbasis of `Lambda`: the law of the
    start is the same in every basis.

    Args:
        eigenvalues: four variances of the inputs, each between 0.05 and 1.
        start: standard deviation of every number at the start, 0.002 to 1.
        examples: `N`, 1 to 200.
        heads: 1 to 8, in both parametrisations.
        rank: `R` of a separate head's keys and queries, 1 to 4.
        seed: of the start, 0 to 999.
        time: the moment looked at, in units of `tau`, at least 0.
        shown: whose directions are shown, "separate" or "merged".
        time_axis: "log" or "linear".

    Raises:
        ValueError: a value outside these ranges. The error names the trait.
    """

    _esm = component_source("training_plateaus")
    _figure_size = (6.4, 4.2)

    eigenvalues = Numbers([0.4, 0.3, 0.2, 0.1], 0.05, 1.0, D).tag(sync=True)
    start = Number(0.01, 0.002, 1.0).tag(sync=True)
    examples = WholeNumber(31, 1, 200).tag(sync=True)
    heads = WholeNumber(5, 1, MOST_HEADS).tag(sync=True)
    rank = WholeNumber(1, 1, MOST_RANK).tag(sync=True)
    seed = WholeNumber(0, 0, 999).tag(sync=True)
    time = Number(1060.0, 0.0, 1e9).tag(sync=True)
    shown = Choice(("separate", "merged")).tag(sync=True)
    time_axis = Choice(("log", "linear")).tag(sync=True)

    @traitlets.validate("eigenvalues")
    def _four_numbers(self, proposal: dict[str, Any]) -> list[float]:
        if len(proposal["value"]) != D:
            raise InvalidTrait(f"eigenvalues must hold {D} numbers, got {len(proposal['value'])}")
        return proposal["value"]

    def runs(self) -> dict[str, Run]:
        """Training of both: `{"merged": ..., "separate": ...}`."""
        law = tuple(self.eigenvalues), self.examples
        return _runs(*law, self.start, self.heads, self.rank, self.seed)

    def plateau_losses(self) -> np.ndarray:
        """Losses at the fixed points with 0, 1, ..., 4 directions, `[5]`."""
        return plateau_losses(np.array(self.eigenvalues), self.examples)

    def product(self, kind: str) -> np.ndarray:
        """`M` of one parametrisation at `time`, `[4, 4]`, on the line between two steps."""
        run = self.runs()[kind]
        flat = run.products.reshape(len(run.times), D * D)
        return np.array([np.interp(self.time, run.times, part) for part in flat.T]).reshape(D, D)

    def _in_words(self) -> str:
        runs = self.runs()
        found = {kind: [run.losses[end] for _, end in run.drops()] for kind, run in runs.items()}
        said = {kind: ", ".join(f"{loss:.3f}" for loss in found[kind]) for kind in KINDS}
        theory = ", ".join(f"{loss:.3f}" for loss in self.plateau_losses()[1:])
        return (
            f"Training of linear attention with {plural(self.heads, 'head')} on inputs with "
            f"variances {', '.join(f'{value:g}' for value in self.eigenvalues)}, from a start of "
            f"size {self.start:g}. Merged key-query matrices: "
            f"{plural(len(found['merged']), 'drop')} of the loss, to {said['merged']}. Separate "
            f"keys and queries of rank {self.rank}: {plural(len(found['separate']), 'drop')}, to "
            f"{said['separate']}. Theory has plateaus at {theory}."
        )

    def _draw(self, axes: Any) -> None:
        levels = self.plateau_losses()
        axes.hlines(levels, 0, 1, transform=axes.get_yaxis_transform(), color="#1b1b1b", lw=0.8)
        looks = {"merged": ("--", "#44505c"), "separate": ("-", "#006b52")}
        first = np.inf
        for kind, run in self.runs().items():
            style, color = looks[kind]
            label = "merged key-query" if kind == "merged" else "separate keys and queries"
            axes.plot(run.times, run.losses, style, color=color, lw=2, label=label)
            moved = np.abs(run.losses - run.losses[0]) > 0.01 * levels[0]
            first = min(first, run.times[moved.argmax()])
        if self.time_axis == "log":
            axes.set_xscale("log")
            axes.set_xlim(left=first / 3)
        axes.axvline(self.time, color="#44505c", lw=1)
        axes.set(ylim=(0, 1.1 * levels[0]), xlabel="time in τ", ylabel="loss, E(ŷ − y)²")
        axes.legend(frameon=False, loc="lower left")
