"""Gradient descent on a context's own loss, ``L(W) = 1/(2N) sum_i |W x_i - y_i|^2``."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_context, check_integer, check_number, check_tensor, seeded

Inputs = Float[Tensor, "batch n_context d"]
Targets = Float[Tensor, "batch n_context m"]
StepSizes = float | Sequence[float]


def step_sizes(step_size: StepSizes, steps: int) -> tuple[float, ...]:
    """One step size for each step, from a shared one or a sequence of them.

    Raises:
        ValueError: a negative step size, or a sequence of another length than ``steps``.
    """
    check_integer("steps", steps, at_least=0)
    shared = isinstance(step_size, int | float)
    try:
        sizes = (step_size,) * steps if shared else tuple(float(size) for size in step_size)
    except (TypeError, ValueError):
        raise TypeError(
            f"step_size: got {step_size!r}; use a number, or a sequence of one for each step"
        ) from None
    for size in (step_size,) if shared else sizes:
        check_number("step_size", size)
    if len(sizes) != steps:
        raise ValueError(f"step_size: {len(sizes)} sizes for {steps} steps; give one for each")
    return tuple(map(float, sizes))


def start_weights(
    xs: Inputs, ys: Targets, initial_weights: Tensor | None
) -> Float[Tensor, "batch m d"]:
    """``W_0`` for every context: zeros, or one ``[m, d]`` for all, or ``[batch, m, d]``."""
    batch, _, d = xs.shape
    m = ys.shape[2]
    if initial_weights is None:
        return xs.new_zeros(batch, m, d)
    if not isinstance(initial_weights, Tensor):
        raise TypeError(
            f"initial_weights: got {type(initial_weights).__name__}; use a tensor of shape [m, d]"
        )
    allowed = ((m, d), (batch, m, d))
    if tuple(initial_weights.shape) not in allowed:
        raise ValueError(
            f"initial_weights: got shape {tuple(initial_weights.shape)}; use [m, d] = {(m, d)} or "
            f"[batch, m, d] = {(batch, m, d)}"
        )
    check_tensor("initial_weights", initial_weights.reshape(-1, m, d), "batch m d")
    if initial_weights.dtype != xs.dtype or initial_weights.device != xs.device:
        raise TypeError(
            f"initial_weights: {initial_weights.dtype} on {initial_weights.device}, but xs is "
            f"{xs.dtype} on {xs.device}"
        )
    return initial_weights.expand(batch, m, d)


def context_loss(
    weights: Float[Tensor, "batch m d"], xs: Inputs, ys: Targets
) -> Float[Tensor, " batch"]:
    """``1/(2N) sum_i |W x_i - y_i|^2`` of each context."""
    check_context(xs, ys)
    return (xs @ weights.mT - ys).square().sum((1, 2)) / (2 * xs.shape[1])


def context_gradient(
    weights: Float[Tensor, "batch m d"], xs: Inputs, ys: Targets
) -> Float[Tensor, "batch m d"]:
    """Gradient of :func:`context_loss`: ``1/N sum_i (W x_i - y_i) x_i^T``."""
    return (xs @ weights.mT - ys).mT @ xs / xs.shape[1]


def gradient_descent_path(
    xs: Inputs,
    ys: Targets,
    step_size: StepSizes,
    steps: int,
    initial_weights: Tensor | None = None,
) -> Float[Tensor, "{steps}+1 batch m d"]:
    """The weights after 0, 1, ..., ``steps`` steps of full-batch gradient descent.

    Args:
        xs: ``[batch, n_context, d]``.
        ys: ``[batch, n_context, m]``.
        step_size: ``eta``, shared or one for each step; 0 or more.
        steps: number of steps.
        initial_weights: ``W_0``, ``[m, d]`` or ``[batch, m, d]``; zeros if ``None``.
    """
    check_context(xs, ys)
    weights = start_weights(xs, ys, initial_weights)
    path = [weights]
    for size in step_sizes(step_size, steps):
        weights = weights - size * context_gradient(weights, xs, ys)
        path.append(weights)
    return torch.stack(path)


def stochastic_gradient_descent_weights(
    xs: Inputs,
    ys: Targets,
    step_size: float,
    *,
    passes: int = 1,
    batch_size: int = 1,
    initial_weights: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch m d"]:
    """The weights after ``passes`` over the context in mini-batches.

    Args:
        batch_size: examples for each step; the last of a pass may be smaller. At ``n_context``
            every step is one of full-batch descent.
        generator: shuffles the examples before each pass, in the same order for every context;
            ``None`` takes them as they stand, so that their order matters in a known way.
    """
    check_context(xs, ys)
    check_number("step_size", step_size)
    check_integer("passes", passes, at_least=0)
    check_integer("batch_size", batch_size, at_least=1)
    weights = start_weights(xs, ys, initial_weights)
    n = xs.shape[1]
    for _ in range(passes):
        order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
        for some in order.to(xs.device).split(batch_size):
            weights = weights - step_size * context_gradient(weights, xs[:, some], ys[:, some])
    return weights


@dataclass(frozen=True)
class GradientDescent:
    """The learner that takes ``steps`` of gradient descent on the context, then predicts."""

    step_size: StepSizes
    steps: int = 1
    initial_weights: Tensor | None = None

    def __post_init__(self):
        step_sizes(self.step_size, self.steps)

    def __call__(self, xs: Inputs, ys: Targets, x_query: Tensor) -> Tensor:
        check_context(xs, ys, x_query)
        path = gradient_descent_path(xs, ys, self.step_size, self.steps, self.initial_weights)
        return x_query @ path[-1].mT


@dataclass(frozen=True)
class StochasticGradientDescent:
    """The learner that goes through the context in mini-batches, then predicts.

    Attributes:
        step_size: ``eta`` of every step.
        passes: over the context.
        batch_size: examples for each step.
        seed: shuffles the examples before each pass; ``None`` takes them in the order given.
    """

    step_size: float
    passes: int = 1
    batch_size: int = 1
    seed: int | None = None

    def __post_init__(self):
        check_number("step_size", self.step_size)
        check_integer("passes", self.passes, at_least=0)
        check_integer("batch_size", self.batch_size, at_least=1)

    def __call__(self, xs: Inputs, ys: Targets, x_query: Tensor) -> Tensor:
        check_context(xs, ys, x_query)
        weights = stochastic_gradient_descent_weights(
            xs,
            ys,
            self.step_size,
            passes=self.passes,
            batch_size=self.batch_size,
            generator=None if self.seed is None else seeded(self.seed),
        )
        return x_query @ weights.mT
