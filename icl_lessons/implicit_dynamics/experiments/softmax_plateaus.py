"""Softmax attention, merged and separate, from small starts on sampled prompts.

The theory is of linear attention. Here the scores ``x_i^T U x_q`` go through a softmax over the
context and the values are ``v y_i``; everything else is as before, and every step uses all prompts.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment, words
from icl_lessons.implicit_dynamics.experiments.sampled_plateaus import sampled_prompts
from icl_lessons.implicit_dynamics.figures import sampled_plateaus as figures
from icl_lessons.implicit_dynamics.plateau_detector import Rests, find_rests
from icl_lessons.implicit_dynamics.training_plateaus import (
    in_random_basis,
    plateau_losses,
    random_heads,
    rising_spectrum,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.zoo import State, recipe

START_SEED, BASIS_SEED, PROMPT_SEED = 2_531_000, 2_532_000, 2_533_000
KINDS = ("merged", "separate")


@dataclass(frozen=True, kw_only=True)
class SoftmaxPlateausConfig:
    """Settings of :func:`softmax_plateaus`, all of which its curves depend on.

    Attributes:
        d: coordinates of an input; the covariance's eigenvalues are as ``d, ..., 1``, sum 1.
        n_context: examples in a prompt.
        prompts: in the training set.
        heads, init, steps: of merged and of separate heads (of rank 1).
        learning_rate: of gradient descent on ``E (y_hat - y)^2``.
        seeds: a start, a basis and a training set each.
    """

    d: int = 4
    n_context: int = 31
    prompts: int = 1000
    heads: tuple[int, int] = (8, 5)
    init: tuple[float, float] = (1e-3, 0.03)
    steps: tuple[int, int] = (600, 3000)
    learning_rate: float = 0.5
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "prompts"):
            check_integer(name, getattr(self, name), at_least=1)
        for size in (*self.init, self.learning_rate):
            check_number("init and learning_rate", size, positive=True)


@dataclass(frozen=True, kw_only=True)
class SoftmaxPlateausResult:
    """Training losses ``E (y_hat - y)^2`` without a half, and where they rest.

    Attributes:
        plateaus: linear attention's, in theory, at 0, ..., D components.
        losses: after every step, for merged and for separate heads: ``[seeds, steps]``.
        rests: what the detector finds, by kind and seed.
    """

    plateaus: Float[np.ndarray, " rests"]
    losses: tuple[np.ndarray, ...]
    rests: tuple[tuple[Rests, ...], ...] = field(metadata={"stored": False})

    def drops(self) -> Float[np.ndarray, "kinds seeds"]:
        """How many drops each curve has."""
        return np.array([[float(len(found.drops)) for found in kind] for kind in self.rests])

    def summary(self) -> str:
        """Losses at the rests in a few lines."""
        lines = [f"{'linear attention, theory':28s}{words(self.plateaus)}"]
        for name, kind in zip(KINDS, self.rests, strict=True):
            lines += [f"{name:28s}{words(found.losses)}" for found in kind]
        return "\n".join(lines)


def _curve(config: SoftmaxPlateausConfig, kind: int, seed: int) -> Float[torch.Tensor, " steps"]:
    covariance = in_random_basis(rising_spectrum(config.d), seeded(BASIS_SEED + seed))
    batch = sampled_prompts(
        covariance, config.n_context, config.prompts, PROMPT_SEED + seed, whiten=True
    ).to(torch.float32)
    x, y = batch.xs, batch.ys[..., 0]
    query, target = batch.x_query[:, 0], batch.y_query[:, 0, 0]
    start = random_heads(
        KINDS[kind], config.heads[kind], config.d, config.init[kind], seeded(START_SEED + seed)
    )
    parameters = [p.float().requires_grad_() for p in vars(start).values()]
    losses = []
    for _ in range(config.steps[kind]):
        values, *matrices = parameters
        if KINDS[kind] == "merged":
            asked = torch.einsum("hij,bj->bhi", matrices[0], query)
        else:
            keys, queries = (side[:, 0] for side in matrices)
            asked = (query @ queries.T)[..., None] * keys
        weights = torch.softmax(asked @ x.mT, -1)
        loss = ((weights @ y[..., None])[..., 0] @ values - target).square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        losses.append(loss.detach())
        with torch.no_grad():
            for p, gradient in zip(parameters, gradients, strict=True):
                p -= config.learning_rate * gradient
    return torch.stack(losses)


def _measure(state: State, config: SoftmaxPlateausConfig) -> dict[str, float]:
    return {f"mean loss, {kind}": state[kind].mean().item() for kind in KINDS}


@recipe("softmax_plateaus", config=SoftmaxPlateausConfig(), measure=_measure)
def softmax_plateaus_curves(config: SoftmaxPlateausConfig) -> State:
    """The loss curves, ``[seeds, steps]``, of merged and of separate heads."""
    with one_thread():
        return {
            kind: torch.stack([_curve(config, i, seed) for seed in config.seeds])
            for i, kind in enumerate(KINDS)
        }


@experiment(
    "softmax_plateaus",
    paper="zhang2025training",
    chapter="implicit_dynamics/training_dynamics",
    configs={
        Scale.LESSON: SoftmaxPlateausConfig(),
        Scale.PAPER: SoftmaxPlateausConfig(
            prompts=5000, init=(1e-6, 0.01), steps=(2000, 10_000), seeds=(0, 1, 2, 3, 4)
        ),
    },
    figure=figures.softmax_plateaus,
)
def softmax_plateaus(config: SoftmaxPlateausConfig) -> SoftmaxPlateausResult:
    """Softmax attention drops once with merged heads and in steps with separate ones, too."""
    state = softmax_plateaus_curves(config)
    losses = tuple(state[kind].double().numpy() for kind in KINDS)
    rests = tuple(
        tuple(find_rests(np.arange(len(loss), dtype=float), loss) for loss in kind)
        for kind in losses
    )
    theory = plateau_losses(rising_spectrum(config.d), config.n_context).numpy()
    return SoftmaxPlateausResult(plateaus=theory, losses=losses, rests=rests)
