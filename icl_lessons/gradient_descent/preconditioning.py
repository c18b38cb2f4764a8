"""What one linear attention layer learns: gradient descent with a fixed preconditioner.

A layer that compares inputs through a matrix ``A`` takes, from zero weights, the step

.. math:: W_1 = -\\nabla L(0)\\, A, \\qquad \\hat y = c^\\top A\\, x_q, \\qquad
          c = \\frac1N \\sum_i y_i x_i

For inputs ``x ~ N(0, Lambda)`` and tasks ``w ~ N(0, tau^2 I)`` its expected loss is a quadratic
function of ``A``, whose lowest point is ``Gamma^{-1}`` and not ``Lambda^{-1}``
[ahn2023transformers, Theorem 1; zhang2024trained]:

.. math:: \\Gamma = \\Big(1 + \\frac1N\\Big)\\Lambda
          + \\frac{\\operatorname{tr}\\Lambda + \\sigma^2/\\tau^2}{N}\\, I

All losses are ``1/2 E (y_hat - w.x_q)^2``, against the target without its noise. Ahn et al. print
twice that number, Zhang et al. this one.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.estimators.preconditioned_law import (
    Matrix,
    law_of_contexts,
    second_moment,
)
from icl_lessons.gradient_descent.one_step import LinearSelfAttentionLearner
from icl_lessons.gradient_descent.population_loss import BestStep
from icl_lessons.models.attention import SelfAttention
from icl_lessons.runtime import check_context, check_integer, check_number, check_tensor
from icl_lessons.types import Batch

# --- the layers ---------------------------------------------------------------------------------


def _square_stack(name: str, matrices: Tensor, like: Tensor | None = None) -> None:
    check_tensor(name, matrices, "layers d d")
    if matrices.shape[1] != matrices.shape[2] or len(matrices) == 0:
        raise ValueError(f"{name}: got shape {tuple(matrices.shape)}; use [layers, d, d]")
    if like is not None and (matrices.shape != like.shape or matrices.dtype != like.dtype):
        raise ValueError(
            f"{name}: {tuple(matrices.shape)} of {matrices.dtype}; use {tuple(like.shape)} of "
            f"{like.dtype}, one for each preconditioner"
        )


def preconditioned_attention(
    preconditioners: Float[Tensor, "layers d d"],
    n_context: int,
    input_maps: Float[Tensor, "layers d d"] | None = None,
    m: int = 1,
) -> LinearSelfAttentionLearner:
    """Layers that take preconditioned gradient steps: ``W_{l+1} = W_l - grad L(W_l) A_l``.

    In columns, ``W_K = diag(I, 0)``, ``W_Q = diag(A_l, 0)``, ``W_V = diag(B_l, I_m)`` and
    ``P = -I/N``. The minus sign stands in ``Q`` in [ahn2023transformers], and their weights
    are columns: for them the same layer multiplies the gradient by the transpose of ``A_l``.

    Without ``input_maps`` the inputs stay as they are, and the predictions equal those of
    :class:`~icl_lessons.estimators.preconditioned.PreconditionedGradientDescent`. With them every
    layer also moves the inputs, ``x <- x - 1/N B_l X X^T A_l x``; see
    :func:`effective_preconditioners`. ``A_l = a I``, ``B_l = b I`` is GD++ with a step size ``a``
    and ``gamma = a b / N``.

    Args:
        preconditioners: ``A_l``, of any kind; they need not be symmetric.
        n_context: ``N``; the weights hold ``1/N``.
        input_maps: ``B_l``; zeros if ``None``. That of the last layer has no effect.
        m: coordinates of a target.
    """
    _square_stack("preconditioners", preconditioners)
    check_integer("n_context", n_context, at_least=1)
    check_integer("m", m, at_least=1)
    if input_maps is None:
        input_maps = torch.zeros_like(preconditioners)
    _square_stack("input_maps", input_maps, preconditioners)
    d = preconditioners.shape[1]
    eye = torch.eye(d + m, dtype=preconditioners.dtype, device=preconditioners.device)
    inputs_only = eye.clone()
    inputs_only[d:] = 0
    layers = []
    for a, b in zip(preconditioners, input_maps, strict=True):
        query = torch.block_diag(a, a.new_zeros(m, m))
        value = torch.block_diag(b, eye[d:, d:])
        matrices = query, inputs_only, value, -eye / n_context
        layers.append(SelfAttention.from_matrices(*(matrix[None] for matrix in matrices)))
    return LinearSelfAttentionLearner(layers, d).requires_grad_(False)


def effective_preconditioners(
    xs: Float[Tensor, "batch n_context d"],
    preconditioners: Float[Tensor, "layers d d"],
    input_maps: Float[Tensor, "layers d d"],
) -> Float[Tensor, "layers batch d d"]:
    """Layers with input maps, seen from the inputs as they were given: ``T_l^T A_l T_l``.

    ``T_l``, by which the inputs have been multiplied before layer ``l``, depends on the context:
    ``T_1 = I`` and ``T_{l+1} = (I - B_l T_l S T_l^T A_l) T_l`` with ``S = X X^T / N``. So a stack
    with input maps is preconditioned descent again, with a matrix made from each context.
    """
    check_tensor("xs", xs, "batch n_context d")
    _square_stack("preconditioners", preconditioners)
    _square_stack("input_maps", input_maps, preconditioners)
    eye = torch.eye(xs.shape[2], dtype=xs.dtype, device=xs.device)
    covariance, now = xs.mT @ xs / xs.shape[1], eye.expand(len(xs), -1, -1)
    effective = []
    for a, b in zip(preconditioners, input_maps, strict=True):
        effective.append(now.mT @ a @ now)
        now = (eye - b @ now @ covariance @ now.mT @ a) @ now
    return torch.stack(effective)


# --- closed forms -------------------------------------------------------------------------------


def best_scalar_step(
    covariance: Matrix,
    n_context: int,
    noise_variance: float = 0.0,
    task_variance: float | Matrix = 1.0,
) -> BestStep:
    """The best ``A = eta I``: plain gradient descent, all directions alike.

    ``eta = tr(Lambda Omega Lambda) / tr(Lambda E[c c^T])``. Arguments as in
    :func:`second_moment`.
    """
    lam, omega, _ = law_of_contexts(covariance, n_context, noise_variance, task_variance)
    moment = second_moment(covariance, n_context, noise_variance, task_variance)
    gain, zero = (lam @ omega @ lam).trace().item(), 0.5 * (lam @ omega).trace().item()
    step = gain / (lam @ moment).trace().item()
    return BestStep(step, zero - 0.5 * step * gain, zero)


def optimal_step(
    n_context: int,
    d: int,
    noise_variance: float = 0.0,
    task_variance: float = 1.0,
    *,
    normalised: bool = True,
) -> float:
    """The best step size for inputs ``N(0, I)``: ``N / (N + d + 1 + sigma^2/tau^2)``.

    Args:
        normalised: of ``y_hat = eta/N sum_i y_i x_i.x_q``, as everywhere in this course. Without,
            ``eta`` of ``eta sum_i y_i x_i.x_q``, smaller by a factor ``N``, as
            [mahankali2024one] prints it.
    """
    check_integer("n_context", n_context, at_least=1)
    check_integer("d", d, at_least=1)
    check_number("noise_variance", noise_variance)
    check_number("task_variance", task_variance, positive=True)
    step = 1 / (n_context + d + 1 + noise_variance / task_variance)
    return n_context * step if normalised else step


def random_covariance_factor(n_context: int | float, d: int) -> float:
    """``a`` of the best ``A = a I`` when each context has its own diagonal covariance.

    For entries ``lambda`` exponential with mean 1: ``E lambda^2 / E[lambda^2 Gamma]``, which is
    ``N / (3 N + d + 5)``. With the query held fixed, the prediction averaged over covariances is
    ``a`` times the truth: a third of it at best, however long the context
    [zhang2024trained].
    """
    if n_context != math.inf:
        check_integer("n_context", n_context, at_least=1)
    check_integer("d", d, at_least=1)
    return 1 / (3 + (d + 5) / n_context)


def nonlinear_optimal_step(g: Callable[[Tensor], Tensor], d: int, n_context: int) -> float:
    """The best step size for targets ``y = g(w.x)``, with ``x`` and ``w`` both ``N(0, I_d)``.

    ``E[y_q c.x_q] / E[(c.x_q)^2]``. Given ``r = |w|`` both are averages over ``z = w.x/r``: with
    ``alpha(r) = E[g(r z) z]``, the numerator is ``E alpha^2`` and the denominator
    ``(1 - 1/N) E alpha^2 + 1/N E[g(r z)^2 (z^2 + d - 1)]``. They are summed over a grid.
    [mahankali2024one: a nonlinear target changes nothing but the step size]

    Args:
        g: of one real variable, elementwise; odd, or the layer sees no trend to follow.
    """
    check_integer("d", d, at_least=1)
    check_integer("n_context", n_context, at_least=1)
    z = torch.linspace(-9, 9, 4000, dtype=torch.float64)
    r = (torch.arange(2000, dtype=torch.float64) + 0.5) * (math.sqrt(d) + 9) / 2000
    normal = (-z.square() / 2).exp()
    chi = ((d - 1) * r.log() - r.square() / 2).exp()
    normal, chi = normal / normal.sum(), chi / chi.sum()
    values = g(r[:, None] * z)
    trend = chi @ (values @ (z * normal)).square()
    energy = chi @ (values.square() @ ((z.square() + d - 1) * normal))
    return (trend / ((1 - 1 / n_context) * trend + energy / n_context)).item()


# --- found from data, and by training -----------------------------------------------------------


def fitted_preconditioner(batches: Batch | Iterable[Batch]) -> Matrix:
    """The ``A`` of smallest squared error on given prompts, by least squares.

    The prediction ``c^T A x_q`` is linear in ``A``, so the loss has one lowest point and no
    training is needed to find it: ``d^2`` unknowns, one equation for each query and target.

    Args:
        batches: one batch, or several that are too large to hold at once.
    """
    gram = target = None
    for batch in [batches] if isinstance(batches, Batch) else batches:
        check_context(*batch.context)
        mean = batch.ys.mT.double() @ batch.xs.double() / batch.xs.shape[1]  # c^T of each target
        features = torch.einsum("bmi,bqj->bqmij", mean, batch.x_query.double()).flatten(3)
        features, values = features.flatten(0, 2), batch.y_query.double().flatten()
        if gram is None:
            gram, target = features.T @ features, features.T @ values
        else:
            gram, target = gram + features.T @ features, target + features.T @ values
    if gram is None:
        raise ValueError("batches: got none; give at least one")
    d = math.isqrt(len(gram))
    return torch.linalg.lstsq(gram, target[:, None], driver="gelsd").solution.reshape(d, d)


def distance_to_identity(matrix: Float[Tensor, "*stack d d"]) -> Float[Tensor, "*stack"]:
    """``min_alpha |M - alpha I| / |M|`` (Frobenius), reached at ``alpha = tr M / d``.

    0 for a multiple of the identity, at most 1. [ahn2023transformers]
    """
    d = matrix.shape[-1]
    if matrix.ndim < 2 or matrix.shape[-2] != d:
        raise ValueError(f"matrix: got shape {tuple(matrix.shape)}; use [..., d, d]")
    alpha = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    rest = matrix - alpha * torch.eye(d, dtype=matrix.dtype, device=matrix.device)
    return rest.flatten(-2).norm(dim=-1) / matrix.flatten(-2).norm(dim=-1)


class Descent(NamedTuple):
    """Training on the exact expected loss, ``logged`` moments of it for each start.

    Attributes:
        updates: made before each moment.
        key_query: the block ``U`` of ``W_K^T W_Q`` that compares inputs.
        projection_value: the corner ``u`` of ``P W_V``, times ``N``; ``A = u U``.
    """

    updates: list[int]
    key_query: Float[Tensor, "logged starts d d"]
    projection_value: Float[Tensor, "logged starts"]

    @property
    def preconditioner(self) -> Float[Tensor, "logged starts d d"]:
        """``A = u U``."""
        return self.projection_value[..., None, None] * self.key_query


def descend_from_balanced_start(
    thetas: Float[Tensor, "starts d d"],
    covariance: Matrix,
    n_context: int,
    *,
    scale: float = 0.1,
    learning_rate: float = 0.1,
    updates: Sequence[int] = (0, 10, 100, 1000, 10_000),
) -> Descent:
    """Small steps of gradient descent on the exact loss of one layer, from a balanced start.

    ``U = scale Theta Theta^T / |Theta Theta^T|`` and ``u = scale``: both blocks of the same norm,
    which gradient flow keeps. From this start the other blocks of the two matrices have gradient 0
    and stay 0. The flow ends at ``U = tr(Gamma^{-2})^{-1/4} Gamma^{-1}``,
    ``u = tr(Gamma^{-2})^{1/4}`` [zhang2024trained].

    Args:
        thetas: one start each, all run at once.
        covariance: ``Lambda``; tasks are ``N(0, I)``, without noise.
        n_context: ``N``.
        scale: the theorem asks for ``scale^2 |Gamma| sqrt(d) < 2``.
        learning_rate: of each update; the flow is its limit 0.
        updates: when to look, in increasing order.
    """
    check_tensor("thetas", thetas, "starts d d")
    check_number("scale", scale, positive=True)
    check_number("learning_rate", learning_rate, positive=True)
    lam, moment = covariance, second_moment(covariance, n_context)
    gamma_norm = torch.linalg.matrix_norm(torch.linalg.solve(lam, moment), 2).item()
    if scale**2 * gamma_norm * math.sqrt(len(lam)) >= 2:
        raise ValueError(f"scale: got {scale}; scale^2 |Gamma| sqrt(d) must be below 2")
    square = thetas @ thetas.mT
    key_query = scale * square / square.flatten(1).norm(dim=1)[:, None, None]
    value = key_query.new_full((len(thetas),), scale)
    logged, goal = [], lam @ lam
    for update in range(max(updates) + 1):
        if update in updates:
            logged.append((key_query, value))
        gradient = moment @ (value[:, None, None] * key_query) @ lam - goal  # of the loss, in A
        slope = (gradient * key_query).sum((1, 2))
        key_query = key_query - learning_rate * value[:, None, None] * gradient
        value = value - learning_rate * slope
    return Descent(sorted(updates), *(torch.stack(part) for part in zip(*logged, strict=True)))
