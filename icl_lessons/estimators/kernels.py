"""Kernels, the posterior mean they give, and gradient descent in the space of functions.

A kernel here is a function ``kernel(queries, keys)`` of two sets of inputs, ``[..., p, d]`` and
``[..., q, d]``, to the numbers ``[..., p, q]``. All but :class:`SoftmaxWeights` are symmetric and
positive semi-definite, each the inner product of some features of its two inputs.

Descent in the space of functions that a kernel spans starts from ``f_0 = 0`` and adds, for
``1/2 sum_i (f(x_i) - y_i)^2``, the gradient in that space [cheng2024transformers]:

.. math:: f_{l+1} = f_l + r_l \\sum_i (y_i - f_l(x_i))\\, k(\\cdot, x_i).

There is no ``1/N``: a step ``eta`` of descent on the mean loss is a rate ``eta / N`` of the linear
kernel.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_context, check_number

Inputs = Float[Tensor, "batch n_context d"]
Targets = Float[Tensor, "batch n_context m"]
Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LinearKernel:
    """``k(a, b) = a . b``."""

    def __call__(
        self, queries: Float[Tensor, "*batch p d"], keys: Float[Tensor, "*batch q d"]
    ) -> Float[Tensor, "*batch p q"]:
        return queries @ keys.mT


@dataclass(frozen=True)
class RBFKernel:
    """``k(a, b) = exp(-|a - b|^2 / (2 length_scale^2))``, the radial basis function."""

    length_scale: float = 1.0

    def __post_init__(self):
        check_number("length_scale", self.length_scale, positive=True)

    def __call__(
        self, queries: Float[Tensor, "*batch p d"], keys: Float[Tensor, "*batch q d"]
    ) -> Float[Tensor, "*batch p q"]:
        squares = (queries[..., :, None, :] - keys[..., None, :, :]).square().sum(-1)
        return (-squares / (2 * self.length_scale**2)).exp()


@dataclass(frozen=True)
class ExponentialKernel:
    """``k(a, b) = exp(a . b / temperature)``: softmax attention before it divides.

    On inputs of one length it is a multiple of the radial basis function.
    """

    temperature: float = 1.0

    def __post_init__(self):
        check_number("temperature", self.temperature, positive=True)

    def __call__(
        self, queries: Float[Tensor, "*batch p d"], keys: Float[Tensor, "*batch q d"]
    ) -> Float[Tensor, "*batch p q"]:
        return (queries @ keys.mT / self.temperature).exp()


@dataclass(frozen=True)
class ArcCosineKernel:
    """``k(a, b) = E relu(w . a) relu(w . b)``, ``w`` standard normal: all ReLU features at once.

    In closed form ``|a| |b| (sin t + (pi - t) cos t) / (2 pi)`` with ``t`` the angle between.
    """

    def __call__(
        self, queries: Float[Tensor, "*batch p d"], keys: Float[Tensor, "*batch q d"]
    ) -> Float[Tensor, "*batch p q"]:
        lengths = queries.norm(dim=-1)[..., :, None] * keys.norm(dim=-1)[..., None, :]
        cosine = queries @ keys.mT / lengths.clamp_min(torch.finfo(queries.dtype).tiny)
        angle = cosine.clamp(-1, 1).acos()
        return lengths * (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)


@dataclass(frozen=True)
class SoftmaxWeights:
    """The exponential kernel with each query's row divided by its sum: softmax attention.

    Not symmetric, so that adding multiples of it follows no gradient in the kernel's own space.
    """

    temperature: float = 1.0

    def __post_init__(self):
        check_number("temperature", self.temperature, positive=True)

    def __call__(
        self, queries: Float[Tensor, "*batch p d"], keys: Float[Tensor, "*batch q d"]
    ) -> Float[Tensor, "*batch p q"]:
        return (queries @ keys.mT / self.temperature).softmax(-1)


def check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """The rates as a tuple; raises a ValueError unless each is finite and 0 or more."""
    try:
        rates = tuple(float(rate) for rate in rates)
    except (TypeError, ValueError):
        raise TypeError(f"rates: got {rates!r}; use a sequence of numbers, one a step") from None
    for rate in rates:
        check_number("rates", rate)
    return rates


def kernel_descent_path(
    kernel: Kernel,
    xs: Inputs,
    ys: Targets,
    x_query: Float[Tensor, "batch n_query d"],
    rates: Sequence[float] | Float[Tensor, " steps"],
) -> Float[Tensor, "{len(rates)}+1 batch n_query m"]:
    """Predictions at the queries after 0, 1, ... steps of descent in the space of functions.

    The function after each step is ``sum_i a_i k(., x_i)``; a step adds ``r`` times the residual of
    example ``i`` to ``a_i``.

    Args:
        kernel: called as ``kernel(x_query, xs)`` and ``kernel(xs, xs)``.
        rates: one for each step. A tensor of them may carry gradients.
    """
    check_context(xs, ys, x_query)
    if not isinstance(rates, Tensor):
        rates = check_rates(rates)
    among, to_query = kernel(xs, xs), kernel(x_query, xs)
    coefficients = torch.zeros_like(ys)
    path = [to_query @ coefficients]
    for rate in rates:
        coefficients = coefficients + rate * (ys - among @ coefficients)
        path.append(to_query @ coefficients)
    return torch.stack(path)


@dataclass(frozen=True)
class FunctionalGradientDescent:
    """The learner that takes a step of each rate in the kernel's space, then predicts."""

    kernel: Kernel
    rates: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "rates", check_rates(self.rates))

    def __call__(self, xs: Inputs, ys: Targets, x_query: Tensor) -> Tensor:
        return kernel_descent_path(self.kernel, xs, ys, x_query, self.rates)[-1]


@dataclass(frozen=True)
class KernelRidge:
    """``k(x_q, X) (K + penalty I)^{-1} y``: where descent in the kernel's space ends, for 0.

    With the kernel that the targets were drawn from and ``penalty`` the noise variance it is the
    posterior mean of the Gaussian process, the best prediction in squared error. Where ``K`` is
    singular up to rounding, the solution of smallest norm is taken.
    """

    kernel: Kernel
    penalty: float = 0.0

    def __post_init__(self):
        check_number("penalty", self.penalty)

    def __call__(self, xs: Inputs, ys: Targets, x_query: Tensor) -> Tensor:
        check_context(xs, ys, x_query)
        among = self.kernel(xs, xs).double()
        among = among + self.penalty * torch.eye(xs.shape[1], dtype=among.dtype, device=xs.device)
        cut_off = xs.shape[1] * torch.finfo(xs.dtype).eps
        inverse = torch.linalg.pinv(among, rtol=cut_off, hermitian=True).to(xs.dtype)
        return self.kernel(x_query, xs) @ (inverse @ ys)
