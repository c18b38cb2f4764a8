"""The layers of the experiment on multi-head softmax attention, trained and watched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from icl_lessons.estimators.preconditioned_law import optimal_preconditioner
from icl_lessons.implicit_dynamics.multi_head_softmax import (
    MultiHeadLayer,
    heads_predictions,
    read_pattern,
)
from icl_lessons.runtime import (
    check_integer,
    check_number,
    device,
    one_thread,
    seeded,
    trusted_inputs,
)
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.zoo import State, models_from, recipe

DATA_SEED, TEST_SEED = 2_503_127, 2_503_139
UNEQUAL, STARTED = "unequal variances", "starts"


@dataclass(frozen=True)
class Design:
    """Which layer is trained: how many heads, from which start, with which attention."""

    heads: int
    start: str = "random"
    attention: str = "softmax"

    @property
    def name(self) -> str:
        """As figures and tables call it."""
        count = f"{self.heads} head{'s' if self.heads > 1 else ''}"
        if self.attention == "linear":
            return "linear attention"
        return count if self.start == "random" else f"{count}, opposite start"


@dataclass(frozen=True, kw_only=True)
class HeadsTraining:
    """What the weights depend on; the defaults are the lesson's.

    Attributes:
        d, n_context, noise_variance: of the tasks, ``w ~ N(0, I/d)``, so that ``w.x`` has
            variance 1.
        heads: numbers of heads to train, beside two heads from the opposite start and one head of
            linear attention.
        start_size: standard deviation of the start.
        stages: Adam's learning rates, each with its number of steps.
        batch_size: contexts in each step.
        variances: of the inputs' coordinates, where they are unequal; their mean is 1.
        start_heads, n_starts, start_steps, start_batch: numbers of heads trained from many random
            starts, how many, how long (at the first learning rate), and on how many contexts.
        keep_every: steps between the moments at which the pattern is kept.
        seeds: one layer of each kind each.
    """

    d: int = 5
    n_context: int = 40
    noise_variance: float = 0.1
    heads: tuple[int, ...] = (1, 2, 4)
    start_size: float = 0.05
    stages: tuple[tuple[float, int], ...] = ((5e-3, 1500), (5e-4, 1000))
    batch_size: int = 128
    variances: tuple[float, ...] = (0.2, 0.4, 0.8, 1.4, 2.2)
    start_heads: tuple[int, ...] = (2, 4)
    n_starts: int = 32
    start_steps: int = 1000
    start_batch: int = 64
    keep_every: int = 25
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "batch_size", "n_starts", "start_steps", "start_batch", "keep_every"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_context", self.n_context, at_least=2)
        check_number("noise_variance", self.noise_variance)
        check_number("start_size", self.start_size, positive=True)
        if not {1, 2, 4} <= set(self.heads):
            raise ValueError(f"heads: got {self.heads}; include 1, 2 and 4")
        if len(self.variances) != self.d:
            raise ValueError(
                f"variances: got {len(self.variances)}; use one for each of d={self.d}"
            )

    @property
    def designs(self) -> tuple[Design, ...]:
        """The layers on inputs of equal variances."""
        random = tuple(Design(heads) for heads in self.heads)
        return (*random, Design(2, "opposite"), Design(1, "random", "linear"))

    @property
    def task(self) -> LinearRegression:
        """The tasks, inputs ``N(0, I)``."""
        return LinearRegression(
            d=self.d, noise_std=self.noise_variance**0.5, task_scale=self.d**-0.5
        )

    @property
    def unequal_task(self) -> LinearRegression:
        """The tasks with inputs of unequal variances."""
        rows = torch.diag(torch.tensor(self.variances, dtype=torch.float64)).tolist()
        return LinearRegression(
            d=self.d,
            noise_std=self.noise_variance**0.5,
            task_scale=self.d**-0.5,
            covariance=tuple(map(tuple, rows)),
        )

    def layer(self, design: Design, generator: torch.Generator) -> MultiHeadLayer:
        """One layer before training."""
        return MultiHeadLayer(
            self.d,
            design.heads,
            design.attention,
            start=design.start,
            start_size=self.start_size,
            generator=generator,
        )


def _trained(
    config: HeadsTraining,
    designs: tuple[Design, ...],
    task: LinearRegression,
    seeds: tuple[int, ...],
    batch_size: int,
    stages: tuple[tuple[float, int], ...],
) -> State:
    """Every design with every seed, as one program; all designs of a seed see the same contexts.

    Returns:
        For each design's name ``key_query`` and ``read_out`` at the end, ``[seeds, ...]``, and at
        every moment kept ``omega`` and ``mu``, ``[moments, seeds, heads]``, and ``loss``, the mean
        since the moment before, ``[moments, seeds]``.
    """
    place = device(config.device)
    weights: dict[Design, tuple[Tensor, Tensor]] = {}
    for design in designs:
        layers = [config.layer(design, seeded(seed)) for seed in seeds]
        stacks = [(x.key_query for x in layers), (x.read_out for x in layers)]
        weights[design] = tuple(
            torch.stack([part.detach() for part in parts]).to(place).requires_grad_()
            for parts in stacks
        )
    streams = [seeded(DATA_SEED + seed) for seed in seeds]
    optimizer = torch.optim.Adam([part for pair in weights.values() for part in pair], fused=True)
    rates = [rate for rate, steps in stages for _ in range(steps)]
    kept: dict[str, list[Tensor]] = {}
    since: dict[Design, list[Tensor]] = {design: [] for design in designs}
    latest: dict[Design, Tensor] = {}

    def keep() -> None:
        for design, pair in weights.items():
            pattern = read_pattern(*(part.detach() for part in pair))
            if since[design]:  # else the last step is also the last moment
                latest[design] = torch.stack(since[design]).mean(0)
            for name, value in (
                ("omega", pattern.omega),
                ("mu", pattern.mu),
                ("loss", latest[design]),
            ):
                kept.setdefault(f"{design.name}.{name}", []).append(value.cpu().clone())
            since[design].clear()

    for step, rate in enumerate(rates):
        batches = [task.sample(batch_size, config.n_context, generator=g) for g in streams]
        examples = torch.stack([torch.cat([b.xs, b.ys], -1) for b in batches]).to(place)
        x_query = torch.stack([b.x_query for b in batches]).to(place)
        y_query = torch.stack([b.y_query[..., 0] for b in batches]).to(place)
        total = torch.zeros((), device=place)
        for design, pair in weights.items():
            answer = heads_predictions(*pair, examples, x_query, design.attention)
            losses = (answer - y_query).square().mean((1, 2))
            since[design].append(losses.detach())
            total = total + losses.sum()
        if step % config.keep_every == 0:
            keep()
        optimizer.zero_grad()
        total.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    keep()
    tensors = {name: torch.stack(values) for name, values in kept.items()}
    for design, (key_query, read_out) in weights.items():
        tensors[f"{design.name}.key_query"] = key_query.detach().cpu()
        tensors[f"{design.name}.read_out"] = read_out.detach().cpu()
    return tensors


def trained_layers(state: State, config: HeadsTraining, design: Design) -> list[MultiHeadLayer]:
    """The trained layers of a design, one for each seed."""
    names = ("key_query", "read_out")
    own = {name: state[f"{design.name}.{name}"] for name in names}
    return models_from(config.layer(design, seeded(0)), own)


def _measure(state: State, config: HeadsTraining) -> Mapping[str, float]:
    batch = config.task.sample(4096, config.n_context, generator=seeded(TEST_SEED))
    with torch.no_grad(), one_thread():
        return {
            f"{design.name}, seed {seed}": (layer(*batch.context) - batch.y_query)
            .square()
            .mean()
            .item()
            for design in config.designs
            for seed, layer in zip(config.seeds, trained_layers(state, config, design), strict=True)
        }


@recipe("multi_head_softmax", config=HeadsTraining(), measure=_measure)
def heads_weights(config: HeadsTraining) -> State:
    """The layers on equal variances, two heads on unequal ones, and many random starts.

    The latter two have names that begin with ``unequal variances.`` and ``starts.``.
    """
    opposite, whole = (Design(2, "opposite"),), config.batch_size
    many = tuple(Design(heads) for heads in config.start_heads)
    first = ((config.stages[0][0], config.start_steps),)
    with one_thread(), trusted_inputs():
        tensors = _trained(config, config.designs, config.task, config.seeds, whole, config.stages)
        unequal = _trained(
            config, opposite, config.unequal_task, config.seeds, whole, config.stages
        )
        starts = tuple(range(config.n_starts))
        started = _trained(config, many, config.task, starts, config.start_batch, first)
    tensors |= {f"{UNEQUAL}.{name}": value for name, value in unequal.items()}
    return tensors | {f"{STARTED}.{name}": value for name, value in started.items()}


# --- what is read off the weights ---------------------------------------------------------------


def starts_read(config: HeadsTraining, state: State) -> dict[str, Any]:
    """Which signs the heads of many random starts take, and what that leaves them with."""
    one_sign, at_start, kept, loss = [], [], [], []
    for heads in config.start_heads:
        name = f"{STARTED}.{Design(heads).name}"
        omega, mu = state[f"{name}.omega"].numpy(), state[f"{name}.mu"].numpy()
        begun, ended = np.sign(omega[0] + mu[0]), np.sign(omega[-1])
        one_sign.append(np.abs(ended.sum(-1)) == heads)
        at_start.append(np.abs(begun.sum(-1)) == heads)
        kept.append((begun == ended).mean())
        loss.append(state[f"{name}.loss"].numpy())
    return {
        "start_heads": config.start_heads,
        "start_moments": moments_kept(config, len(loss[0]), config.start_steps),
        "start_loss": np.stack(loss),
        "one_sign": np.stack(one_sign),
        "one_sign_at_start": np.stack(at_start),
        "sign_kept": np.array(kept),
    }


def moments_kept(config: HeadsTraining, count: int, steps: int) -> Int[np.ndarray, " moments"]:
    """Updates of the weights at each of the moments kept."""
    return np.minimum(np.arange(count) * config.keep_every, steps)


def unequal_read(config: HeadsTraining, state: State) -> dict[str, Any]:
    """What takes the place of the identity when the inputs' variances differ."""
    own = {k.removeprefix(f"{UNEQUAL}."): v for k, v in state.items() if k.startswith(UNEQUAL)}
    layers = trained_layers(own, config, Design(2, "opposite"))
    matrices = [
        torch.einsum("h,hij->ij", layer.pattern.mu, layer.key_query[:, : config.d])
        for layer in layers
    ]
    covariance = torch.diag(torch.tensor(config.variances))
    law = (covariance, config.n_context, config.noise_variance, 1 / config.d)
    candidates = (
        torch.eye(config.d),
        torch.linalg.inv(covariance),
        optimal_preconditioner(*law),
    )
    cosine = [
        [((a * b).sum() / (a.norm() * b.norm())).item() for a in matrices] for b in candidates
    ]
    return {
        "variances": np.array(config.variances),
        "score_matrix": torch.stack(matrices).numpy(),
        "cosine": np.array(cosine),
    }
