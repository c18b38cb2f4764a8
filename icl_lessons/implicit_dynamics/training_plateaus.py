"""How training finds linear attention's solution: in one drop, or in one for each direction.

One layer of linear attention on regression in context, ``x ~ N(0, Lambda)``, ``w ~ N(0, I)``, no
noise. From the start of [zhang2025training] the blocks of its matrices that mix inputs and targets
stay 0, and what is left predicts

.. math:: \\hat y = \\beta^\\top M x_q, \\qquad \\beta = \\frac1N \\sum_i y_i x_i, \\qquad
          M = \\sum_h v_h U_h \\ \\text{ or }\\
          M = \\sum_h v_h \\sum_{r \\le R} k_{hr} q_{hr}^\\top

with one merged key-query matrix ``U_h`` for each head, or separate keys and queries of rank ``R``.
The expected loss depends on ``M`` alone, so training can be followed without sampling, on ``D x D``
matrices. Both parametrisations reach the same minimum. Merged heads leave the start once; separate
ones pass by ``D`` further saddle points, at which the layer does principal component regression
with 1, 2, ... components.

Losses are ``E (y_hat - y)^2`` without a half, and time runs as in the paper: gradient flow
``tau d theta/dt = -1/2 dL/d theta``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.estimators.preconditioned_law import Matrix, second_moment
from icl_lessons.runtime import (
    check_choice,
    check_context,
    check_integer,
    check_number,
    check_tensor,
)

Eigenvalues = Float[Tensor, " d"]
Matrices = Float[Tensor, "*runs d d"]


def _check_law(eigenvalues: Tensor, n_context: int) -> None:
    check_tensor("eigenvalues", eigenvalues, "d")
    if not (eigenvalues > 0).all():
        raise ValueError("eigenvalues: use positive numbers, the variances of the directions")
    check_integer("n_context", n_context, at_least=1)


def rising_spectrum(d: int) -> Eigenvalues:
    """The paper's eigenvalues, proportional to ``d, ..., 1`` with sum 1."""
    check_integer("d", d, at_least=1)
    steps = torch.arange(d, 0, -1, dtype=torch.float64)
    return steps / steps.sum()


def in_random_basis(eigenvalues: Eigenvalues, generator: torch.Generator) -> Matrix:
    """A covariance with these eigenvalues and random eigenvectors."""
    d = len(eigenvalues)
    turn, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=eigenvalues.dtype))
    covariance = turn * eigenvalues @ turn.T
    return (covariance + covariance.T) / 2


# --- heads --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MergedHeads:
    """Heads with one key-query matrix each; several layers at once if there are axes before them.

    Attributes:
        values: ``v_h``, ``[*runs, heads]``.
        key_query: ``U_h``, ``[*runs, heads, d, d]``.
    """

    values: Float[Tensor, "*runs heads"]
    key_query: Float[Tensor, "*runs heads d d"]

    @property
    def product(self) -> Matrices:
        """``M``, all that the predictions depend on."""
        return (self.values[..., None, None] * self.key_query).sum(-3)

    def step(self, force: Matrices, size: float) -> "MergedHeads":
        """One Euler step of the flow; ``force`` is ``-1/2 dL/dM``."""
        force = force[..., None, :, :]
        return MergedHeads(
            self.values + size * (self.key_query * force).sum((-2, -1)),
            self.key_query + size * self.values[..., None, None] * force,
        )


@dataclass(frozen=True)
class SeparateHeads:
    """Heads with separate keys and queries of low rank; several layers at once, as above.

    Attributes:
        values: ``v_h``, ``[*runs, heads]``.
        keys, queries: ``[*runs, heads, rank, d]``.
    """

    values: Float[Tensor, "*runs heads"]
    keys: Float[Tensor, "*runs heads rank d"]
    queries: Float[Tensor, "*runs heads rank d"]

    @property
    def product(self) -> Matrices:
        """``M``, all that the predictions depend on."""
        weighted = self.values[..., None, None] * self.keys
        return weighted.flatten(-3, -2).mT @ self.queries.flatten(-3, -2)

    def step(self, force: Matrices, size: float) -> "SeparateHeads":
        """One Euler step of the flow; ``force`` is ``-1/2 dL/dM``."""
        values, force = self.values[..., None, None], force[..., None, :, :]
        pulled = self.queries @ force.mT  # force q for every q
        return SeparateHeads(
            self.values + size * (self.keys * pulled).sum((-2, -1)),
            self.keys + size * values * pulled,
            self.queries + size * values * (self.keys @ force),
        )


def random_heads(
    parametrisation: str, heads: int, d: int, size: float, generator: torch.Generator, rank: int = 1
) -> MergedHeads | SeparateHeads:
    """Heads at a small random start, every number normal with standard deviation ``size``.

    Args:
        parametrisation: ``"merged"`` or ``"separate"``.
        heads, d: number of heads and coordinates of an input.
        rank: of a separate head's key-query product; unused for merged ones.
    """
    check_choice("parametrisation", parametrisation, ("merged", "separate"))
    for name, count in (("heads", heads), ("d", d), ("rank", rank)):
        check_integer(name, count, at_least=1)
    check_number("size", size, positive=True)

    def normal(*shape: int) -> Tensor:
        return size * torch.randn(shape, generator=generator, dtype=torch.float64)

    if parametrisation == "merged":
        return MergedHeads(normal(heads), normal(heads, d, d))
    return SeparateHeads(normal(heads), normal(heads, rank, d), normal(heads, rank, d))


def stack_heads(several: Sequence):
    """Heads of several layers with one axis more, the first; they are then trained together."""
    kind = type(several[0])
    names = [field.name for field in fields(kind)]
    return kind(**{name: torch.stack([getattr(one, name) for one in several]) for name in names})


def attention_matrices(
    heads: MergedHeads | SeparateHeads, n_context: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The heads as matrices of an attention layer on tokens ``(x, y)`` and ``(x_q, 0)``.

    Returns:
        ``w_query, w_key, w_value, projection`` for
        :func:`~icl_lessons.models.attention.linear_attention`; the query token may be a key, since
        its target slot is 0. The prediction is plus the query's last entry.
    """
    if isinstance(heads, MergedHeads):
        queries = heads.key_query
        keys = torch.eye(queries.shape[-1]).to(queries).expand_as(queries)
    else:
        keys, queries = heads.keys, heads.queries
    n_heads, rank, d = keys.shape
    zero = keys.new_zeros(n_heads, rank, 1)
    w_value = keys.new_zeros(n_heads, 1, d + 1)
    w_value[:, 0, -1] = heads.values
    projection = keys.new_zeros(n_heads, d + 1, 1)
    projection[:, -1] = 1 / n_context
    return torch.cat([queries, zero], -1), torch.cat([keys, zero], -1), w_value, projection


# --- the flow -----------------------------------------------------------------------------------


class Flow(NamedTuple):
    """Training, followed in time.

    Attributes:
        times: ``[moments]``, in units of ``tau``.
        losses: ``E (y_hat - y)^2``, ``[moments, *runs]``.
        products: ``M``, ``[moments, *runs, d, d]``.
        values: ``v_h``, ``[moments, *runs, heads]``.
        heads: where it ended.
    """

    times: Float[Tensor, " moments"]
    losses: Float[Tensor, "moments *runs"]
    products: Float[Tensor, "moments *runs d d"]
    values: Float[Tensor, "moments *runs heads"]
    heads: MergedHeads | SeparateHeads


def gradient_flow(
    heads: MergedHeads | SeparateHeads,
    covariance: Matrices,
    n_context: int,
    *,
    steps: int,
    step_size: float,
    keep_every: int = 1,
) -> Flow:
    """Follow ``tau d theta/dt = -1/2 dL/d theta`` on the exact expected loss by Euler steps.

    Args:
        heads: the start.
        covariance: ``Lambda``, ``[d, d]``; or one for each run, ``[*runs, d, d]``.
        n_context: examples in a context, ``N``.
        steps, step_size: Euler's; ``step_size`` in units of ``tau``.
        keep_every: keep every so manyth moment, the first and the last included.
    """
    check_integer("steps", steps, at_least=1)
    check_integer("keep_every", keep_every, at_least=1)
    check_number("step_size", step_size, positive=True)
    laws = covariance.reshape(-1, *covariance.shape[-2:])
    moment = torch.stack([second_moment(law, n_context) for law in laws]).view_as(covariance)
    square = covariance @ covariance
    times, products, values = [], [], []
    for step in range(steps + 1):
        product = heads.product
        if step % keep_every == 0 or step == steps:
            times.append(step * step_size)
            products.append(product)
            values.append(heads.values)
        if step < steps:
            heads = heads.step(square - moment @ product @ covariance, step_size)
    kept = torch.stack(products)
    variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    losses = variance + ((moment @ kept @ covariance - 2 * square) * kept).sum((-2, -1))
    return Flow(torch.tensor(times), losses, kept, torch.stack(values), heads)


# --- what theory says of it ---------------------------------------------------------------------


def shrinkage(eigenvalues: Eigenvalues, n_context: int) -> Eigenvalues:
    """``rho_d = 1 / (1 + (1 + tr Lambda / lambda_d) / N)``: 1 for endless contexts."""
    _check_law(eigenvalues, n_context)
    return 1 / (1 + (1 + eigenvalues.sum() / eigenvalues) / n_context)


def plateau_losses(
    eigenvalues: Eigenvalues, n_context: int
) -> Float[Tensor, "{len(eigenvalues)+1}"]:
    """Losses at the fixed points that training passes: ``tr Lambda - sum_{d <= m} lambda_d rho_d``.

    For ``m = 0, ..., D`` components, the largest eigenvalues first; for endless contexts the sum
    of the eigenvalues not yet learned.
    """
    ordered = eigenvalues.sort(descending=True).values
    learned = (ordered * shrinkage(ordered, n_context)).cumsum(0)
    return eigenvalues.sum() - torch.cat([learned.new_zeros(1), learned])


def fixed_point(covariance: Matrix, n_context: int, components: list[int] | int) -> Matrix:
    """``M = sum_d rho_d / lambda_d e_d e_d^T`` over some eigenvectors of the covariance.

    Args:
        components: how many, the largest eigenvalues first; or which, by their rank from 0. Every
            subset of the ``D`` is a fixed point of the flow: ``2^D`` of them.
    """
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    rho = shrinkage(eigenvalues, n_context)
    which = list(range(components)) if isinstance(components, int) else list(components)
    if any(not 0 <= i < len(eigenvalues) for i in which):
        raise ValueError(
            f"components: got {components}; use ranks from 0 to {len(eigenvalues) - 1}"
        )
    chosen = vectors[:, which]
    return chosen * (rho / eigenvalues)[which] @ chosen.T


def escape_step(
    value: Float[Tensor, "*some"], eigenvalue: Float[Tensor, "*some"], rho: Float[Tensor, "*some"]
) -> Float[Tensor, "*some"]:
    """``tau dv/dt = lambda^2 v^2 - lambda^3 v^5 / rho``: one head leaves a saddle.

    The reduced equation of a separate head of rank one that has aligned with an eigenvector ``e``,
    ``k = q = v e``. It ends at ``v = (rho / lambda)^{1/3}``.
    """
    return eigenvalue.square() * value.square() - eigenvalue**3 * value**5 / rho


def reduced_flow(
    eigenvalues: Eigenvalues,
    n_context: int,
    start: float | Eigenvalues,
    *,
    steps: int,
    step_size: float,
) -> Float[Tensor, "{steps}+1 d"]:
    """One number for each direction in place of all heads: the values ``v_d`` over time.

    Args:
        eigenvalues: of the covariance, ``[d]``.
        n_context: examples in a context, ``N``.
        start: ``v_d`` at the beginning, positive; one for all or one for each direction.
        steps, step_size: Euler's; ``step_size`` in units of ``tau``.

    Returns:
        ``v`` before and after each step; the loss it implies is :func:`reduced_losses`.
    """
    check_integer("steps", steps, at_least=0)
    check_number("step_size", step_size, positive=True)
    rho = shrinkage(eigenvalues, n_context)
    value = torch.as_tensor(start, dtype=eigenvalues.dtype).expand_as(eigenvalues).clone()
    if not (value > 0).all():
        raise ValueError("start: use positive numbers; a head at 0 never leaves")
    path = [value]
    for _ in range(steps):
        value = value + step_size * escape_step(value, eigenvalues, rho)
        path.append(value)
    return torch.stack(path)


def reduced_losses(
    values: Float[Tensor, "moments d"], eigenvalues: Eigenvalues, n_context: int
) -> Float[Tensor, " moments"]:
    """``E (y_hat - y)^2`` of heads ``v_d (v_d e_d)(v_d e_d)^T``: direction by direction."""
    rho = shrinkage(eigenvalues, n_context)
    strength = values**3 * eigenvalues  # 1 is least squares, rho the minimum
    return (eigenvalues * (1 - 2 * strength + strength.square() / rho)).sum(-1)


def white_merged_strength(
    times: Float[Tensor, " moments"], d: int, n_context: int, start: float
) -> Float[Tensor, " moments"]:
    """``sigma(t)`` with ``y_hat = sigma(t) beta^T x_q``: merged heads, inputs ``N(0, I)``.

    From a balanced start of norm ``start`` along ``vec(I)``:
    ``e^{2 sqrt(D) t} / ((1 + (1 + D)/N) (e^{2 sqrt(D) t} - 1) + sqrt(D) / start^2)``.
    """
    check_integer("d", d, at_least=1)
    check_integer("n_context", n_context, at_least=1)
    check_number("start", start, positive=True)
    left = torch.exp(-2 * d**0.5 * times)  # what both halves are divided by does not overflow
    return 1 / ((1 + (1 + d) / n_context) * (1 - left) + left * d**0.5 / start**2)


@dataclass(frozen=True)
class PrincipalComponentRegression:
    """The learner at a plateau: ``y_hat = beta^T M x_q``, ``M`` of some directions only.

    Attributes:
        covariance: of the inputs, over all contexts; not that of one context.
        components: how many directions, the largest variances first.
    """

    covariance: Matrix
    components: int

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        n = xs.shape[1]
        beta = ys.mT @ xs / n
        return x_query @ fixed_point(self.covariance, n, self.components).mT @ beta.mT
