"""Gradient descent whose every step is turned and stretched by a matrix: preconditioned descent.

The gradient of ``L(W) = 1/(2N) sum_i |W x_i - y_i|^2`` is an ``[m, d]`` matrix, whose rows live in
the space of the inputs. A preconditioner is therefore ``[d, d]`` and acts **from the right**::

    W <- W - eta_k grad L(W) P_k

It need not be symmetric, and ``P_k`` and its transpose are then two different methods. With ``P``
the inverse of the Hessian ``S = X X^T / N``, one step of size 1 from anywhere is least squares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.estimators.descent import (
    Inputs,
    StepSizes,
    Targets,
    context_gradient,
    start_weights,
    step_sizes,
)
from icl_lessons.runtime import check_context, check_tensor

Preconditioners = Float[Tensor, "steps d d"] | Float[Tensor, "steps batch d d"]


def _for_every_context(preconditioners, xs: Inputs) -> Float[Tensor, "steps batch d d"]:
    """Check the preconditioners against a context, and repeat shared ones for each of a batch."""
    if not isinstance(preconditioners, Tensor):
        raise TypeError(
            f"preconditioners: got {type(preconditioners).__name__}; use a tensor of shape "
            "[steps, d, d]"
        )
    batch, _, d = xs.shape
    allowed = ((d, d), (batch, d, d))
    if tuple(preconditioners.shape[1:]) not in allowed:
        raise ValueError(
            f"preconditioners: got shape {tuple(preconditioners.shape)}; use [steps, d, d] with "
            f"d = {d}, or [steps, batch, d, d] with batch = {batch}"
        )
    check_tensor("preconditioners", preconditioners.flatten(1), "steps entries")
    if preconditioners.dtype != xs.dtype or preconditioners.device != xs.device:
        raise TypeError(
            f"preconditioners: {preconditioners.dtype} on {preconditioners.device}, but xs is "
            f"{xs.dtype} on {xs.device}"
        )
    if preconditioners.ndim == 3:
        preconditioners = preconditioners[:, None]
    return preconditioners.expand(-1, batch, d, d)


def preconditioned_descent_path(
    xs: Inputs,
    ys: Targets,
    step_size: StepSizes,
    preconditioners: Preconditioners,
    initial_weights: Tensor | None = None,
) -> Float[Tensor, "steps+1 batch m d"]:
    """The weights before the first step and after each, ``W <- W - eta_k grad L(W) P_k``.

    Args:
        xs: ``[batch, n_context, d]``.
        ys: ``[batch, n_context, m]``.
        step_size: ``eta``, shared or one for each step; 0 or more.
        preconditioners: ``P_k``, ``[steps, d, d]`` for all contexts alike, or ``[steps, batch, d,
            d]``. They act from the right on the ``[m, d]`` gradient and need not be symmetric.
        initial_weights: ``W_0``, ``[m, d]`` or ``[batch, m, d]``; zeros if ``None``.

    Raises:
        TypeError, ValueError: an argument that does not fit the others, by name.
    """
    check_context(xs, ys)
    matrices = _for_every_context(preconditioners, xs)
    weights = start_weights(xs, ys, initial_weights)
    path = [weights]
    for size, matrix in zip(step_sizes(step_size, len(matrices)), matrices, strict=True):
        weights = weights - size * context_gradient(weights, xs, ys) @ matrix
        path.append(weights)
    return torch.stack(path)


@dataclass(frozen=True)
class PreconditionedGradientDescent:
    """The learner that takes a preconditioned step for each matrix, then predicts.

    Attributes:
        step_size, preconditioners, initial_weights: as in :func:`preconditioned_descent_path`.
    """

    step_size: StepSizes
    preconditioners: Tensor
    initial_weights: Tensor | None = None

    def __call__(self, xs: Inputs, ys: Targets, x_query: Tensor) -> Tensor:
        check_context(xs, ys, x_query)
        path = preconditioned_descent_path(
            xs, ys, self.step_size, self.preconditioners, self.initial_weights
        )
        return x_query @ path[-1].mT


# --- GD++ ---------------------------------------------------------------------------------------


def input_maps(xs: Inputs, gammas: Sequence[float]) -> Float[Tensor, "steps batch d d"]:
    """``A_k``, by which the inputs have been multiplied before each layer of GD++.

    ``A_1 = I`` and ``A_{k+1} = (I - gamma_k A_k H A_k) A_k`` with ``H = sum_i x_i x_i^T``, which is
    not divided by ``N``. Every ``A_k`` is a polynomial in ``H``: symmetric, and they all commute.

    Args:
        xs: ``[batch, n_context, d]``.
        gammas: one for each step, of either sign; the last is not used, for it would change the
            inputs only after the last step.

    Raises:
        TypeError, ValueError: ``gammas`` is no sequence of finite numbers.
    """
    check_tensor("xs", xs, "batch n_context d")
    numbers = finite_numbers("gammas", gammas)
    identity = torch.eye(xs.shape[2], dtype=xs.dtype, device=xs.device).expand(len(xs), -1, -1)
    hessian, maps = xs.mT @ xs, [identity]
    for gamma in numbers[:-1]:
        now = maps[-1]
        maps.append((identity - gamma * now @ hessian @ now) @ now)
    return torch.stack(maps[: len(numbers)]) if numbers else xs.new_zeros(0, *identity.shape)


def finite_numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """A sequence of finite numbers as floats; anything else is an error that names it."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: got {values!r}; use a sequence of numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name}: got {values!r}; every number must be finite")
    return numbers


def gradient_descent_plus_plus_path(
    xs: Inputs, ys: Targets, step_sizes: Sequence[float], gammas: Sequence[float]
) -> Float[Tensor, "{len(gammas)}+1 batch m d"]:
    """The weights of GD++ from zero: ``W_{k+1} = W_k - eta_k grad L(W_k) A_k^2``.

    GD++ is defined on tokens: every layer moves the targets by a gradient step and the inputs by
    ``-gamma X X^T x``. Seen from the inputs as they were given, that is descent preconditioned by
    the square of :func:`input_maps`. [vonoswald2023transformers]

    Args:
        xs: ``[batch, n_context, d]``.
        ys: ``[batch, n_context, m]``.
        step_sizes: ``eta_k``, one for each step.
        gammas: ``gamma_k``, as many.
    """
    check_context(xs, ys)
    sizes = tuple(step_sizes)
    if len(sizes) != len(tuple(gammas)):
        raise ValueError(
            f"gammas: {len(tuple(gammas))} for {len(sizes)} step sizes; give one for each"
        )
    maps = input_maps(xs, gammas)
    return preconditioned_descent_path(xs, ys, sizes, maps @ maps)


@dataclass(frozen=True)
class GradientDescentPlusPlus:
    """The learner of GD++: a step size and a ``gamma`` for each step, from zero weights.

    Attributes:
        step_sizes, gammas: as in :func:`gradient_descent_plus_plus_path`.
    """

    step_sizes: Sequence[float]
    gammas: Sequence[float]

    def __post_init__(self):
        sizes = step_sizes(self.step_sizes, len(self.gammas))
        object.__setattr__(self, "step_sizes", sizes)
        object.__setattr__(self, "gammas", finite_numbers("gammas", self.gammas))

    def __call__(self, xs: Inputs, ys: Targets, x_query: Tensor) -> Tensor:
        check_context(xs, ys, x_query)
        path = gradient_descent_plus_plus_path(xs, ys, self.step_sizes, self.gammas)
        return x_query @ path[-1].mT
