"""Solving ``A x = b`` by steps that only multiply by ``A``: Richardson, Neumann, Chebyshev.

A layer of attention can multiply by the covariance of what it sees, and cannot invert it; these
are the classical ways of getting from the one to the other. Every function returns the path of
iterates, for a batch of symmetric positive definite matrices of any leading shape.

With the spectrum of ``A`` in ``[low, high]`` and ``condition = high / low``, the error after ``k``
steps is at most :func:`richardson_bound` or :func:`chebyshev_bound` times that at the start: the
number of steps to a given accuracy grows like ``condition``, or like its square root.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_integer, check_number, check_tensor

Matrices = Float[Tensor, "*batch n n"]
Vectors = Float[Tensor, "*batch n"]
Path = Float[Tensor, "{steps}+1 *batch n"]
Number = float | int | Float[Tensor, "*batch"]


def richardson(
    A: Matrices, b: Vectors, step_size: Number, steps: int, start: Vectors | None = None
) -> Path:
    """``x_{k+1} = x_k + step_size (b - A x_k)``: gradient descent on ``1/2 x^T A x - b^T x``.

    It converges for ``0 < step_size < 2 / high``; the best step is ``2 / (low + high)``.

    Args:
        A: ``[..., n, n]``, symmetric.
        b: ``[..., n]``.
        step_size: greater than 0; one number, or one for each system.
        steps: 0 or more.
        start: ``x_0``; zeros if ``None``.

    Returns:
        ``[steps + 1, ..., n]``: the start and every iterate.
    """
    x = _start(A, b, steps, start)
    size = _for_each("step_size", step_size, b)
    path = [x]
    for _ in range(steps):
        x = x + size * (b - _times(A, x))
        path.append(x)
    return torch.stack(path)


def neumann(A: Matrices, b: Vectors, steps: int) -> Path:
    """Partial sums ``sum_{j <= k} (I - A)^j b`` of the series of the inverse.

    As a recursion, ``x_{k+1} = (I - A) x_k + b`` from ``x_0 = b``: Richardson with a step of 1. It
    converges if all eigenvalues of ``A`` lie between 0 and 2. For others scale both ``A`` and
    ``b``.
    """
    return richardson(A, b, 1.0, steps, b)


def chebyshev(
    A: Matrices,
    b: Vectors,
    low: Number,
    high: Number,
    steps: int,
    start: Vectors | None = None,
) -> Path:
    """Chebyshev's iteration: of all methods of ``k`` products, the best for a spectrum in a range.

    ``x_{k+1} = x_k + a_k p_k`` with ``p_k = r_k + b_k p_{k-1}``, where ``r_k = b - A x_k``; the
    numbers ``a_k, b_k`` are those of :func:`chebyshev_coefficients` and do not depend on ``A``.

    Args:
        A, b, steps, start: as in :func:`richardson`.
        low, high: bounds of the spectrum, ``0 < low <= high``; one each, or one for each system.
            Eigenvalues above ``high`` make it diverge, and fast.
    """
    x = _start(A, b, steps, start)
    direction, path = torch.zeros_like(x), [x]
    for length, momentum in chebyshev_coefficients(low, high, steps):
        residual = b - _times(A, x)
        direction = residual + _for_each("momentum", momentum, b, zero=True) * direction
        x = x + _for_each("length", length, b) * direction
        path.append(x)
    return torch.stack(path)


def chebyshev_coefficients(low: Number, high: Number, steps: int) -> list[tuple]:
    """``(a_k, b_k)`` of every step of :func:`chebyshev`; the first ``b`` is 0.

    With ``theta = (high + low) / 2`` and ``delta = (high - low) / 2``: ``a_0 = 1 / theta``,
    ``b_1 = (delta a_0)^2 / 2``, then ``b_k = (delta a_{k-1} / 2)^2`` and
    ``a_k = 1 / (theta - b_k / a_{k-1})``.
    """
    _check_spectrum(low, high)
    check_integer("steps", steps, at_least=0)
    theta, delta = (high + low) / 2, (high - low) / 2
    pairs = [(1 / theta, 0 * theta)]
    for k in range(1, steps):
        before = pairs[-1][0]
        momentum = (delta * before) ** 2 / (2 if k == 1 else 4)
        pairs.append((1 / (theta - momentum / before), momentum))
    return pairs[:steps]


def richardson_bound(condition: float | int, steps: int) -> float:
    """By what factor ``steps`` of Richardson at its best step reduce the error, at least."""
    check_integer("steps", steps, at_least=0)
    return ((_checked(condition) - 1) / (condition + 1)) ** steps


def chebyshev_bound(condition: float | int, steps: int) -> float:
    """By what factor ``steps`` of Chebyshev reduce the error, at least: ``1 / T_steps``.

    ``T_k((condition + 1) / (condition - 1)) = (rho^k + rho^-k) / 2`` with ``rho = (sqrt(condition)
    + 1) / (sqrt(condition) - 1)``.
    """
    check_integer("steps", steps, at_least=0)
    root = math.sqrt(_checked(condition))
    if root == 1:
        return 1.0 if steps == 0 else 0.0
    rho = (root - 1) / (root + 1)
    return 2 * rho**steps / (1 + rho ** (2 * steps))


def _times(A, x):
    return (A @ x[..., None])[..., 0]


def _start(A, b, steps, start):
    check_integer("steps", steps, at_least=0)
    for name, value in {"A": A, "b": b}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: got {type(value).__name__}; use a tensor")
    check_tensor("b", b.reshape(-1, b.shape[-1]), "batch n")
    if A.shape != (*b.shape, b.shape[-1]):
        raise ValueError(f"A: got shape {tuple(A.shape)}; use {(*b.shape, b.shape[-1])}, as b has")
    if A.dtype != b.dtype:
        raise TypeError(f"A: {A.dtype}, but b is {b.dtype}")
    if not torch.allclose(A, A.mT, rtol=1e-4, atol=1e-6):
        raise ValueError("A: not symmetric; these methods need a symmetric matrix")
    if start is not None and start.shape != b.shape:
        raise ValueError(f"start: got shape {tuple(start.shape)}; use {tuple(b.shape)}, as b has")
    return torch.zeros_like(b) if start is None else start


def _for_each(name, value, b, *, zero=False):
    """A number as it is; one for each system with an axis for the coordinates."""
    if not isinstance(value, Tensor):
        check_number(name, value, positive=not zero)
        return value
    if value.shape != b.shape[:-1] or not (value >= 0).all() or not (zero or (value > 0).all()):
        raise ValueError(f"{name}: use positive numbers of shape {tuple(b.shape[:-1])}, or one")
    return value[..., None]


def _check_spectrum(low, high) -> None:
    check_number("low", low.min().item() if isinstance(low, Tensor) else low, positive=True)
    check_number("high", high.max().item() if isinstance(high, Tensor) else high, positive=True)
    below = high < low
    if below.any() if isinstance(below, Tensor) else below:
        raise ValueError(f"low: got {low}, above high, {high}; a spectrum lies in [low, high]")


def _checked(condition):
    check_number("condition", condition, positive=True)
    if condition < 1:
        raise ValueError(f"condition: got {condition}; high / low is 1 or more")
    return condition
