"""Expected losses over all tasks and contexts, in closed form: no sampling, no noise.

For one linear attention layer and for one step of gradient descent, the expectation over tasks
``w ~ N(0, I)`` and inputs with independent coordinates needs only two moments of a coordinate: its
variance ``s2`` and its fourth moment ``m4``. All losses are ``1/2 E (y_hat - y)^2`` with one
target, without noise.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_integer
from icl_lessons.tasks.regression import LinearRegression


class BestStep(NamedTuple):
    """The best single step from zero, and the losses it is measured by."""

    step_size: float
    loss: float
    loss_of_zero: float


def _check(task: LinearRegression) -> None:
    if task.m != 1 or task.noise_std != 0:
        raise ValueError(
            f"task: the closed form is for one target without noise; got m={task.m}, "
            f"noise_std={task.noise_std}"
        )
    if task.input_variance == 0:
        raise ValueError("task: its inputs are all zero (input_scale=0); no step has any effect")


def best_single_step(task: LinearRegression, n_context: int) -> BestStep:
    """The step size from ``W_0 = 0`` whose expected loss is smallest.

    With ``tau = (m4 + (d-1) s2^2)/N + (1 - 1/N) s2^2``, the expected square of the empirical
    covariance, ``eta* = s2 / tau`` and ``L* = s2 d/2 (1 - s2^2 / tau)``.

    Args:
        task: one target, no noise, independent input coordinates.
        n_context: ``N``, 1 or more.
    """
    _check(task)
    check_integer("n_context", n_context, at_least=1)
    s2, m4, d = task.input_variance, task.input_fourth_moment, task.d
    tau = (m4 + (d - 1) * s2**2) / n_context + (1 - 1 / n_context) * s2**2
    zero = 0.5 * s2 * d * task.task_scale**2
    return BestStep(s2 / tau, zero * (1 - s2**2 / tau), zero)


def single_step_loss(
    task: LinearRegression, n_context: int, step_size: float, input_scale: float = 1.0
) -> float:
    """Expected loss of one step from zero with any step size.

    Args:
        input_scale: multiplies the inputs of ``task`` while the step size stays: a shift away from
            the law that the step was made for.
    """
    _check(task)
    check_integer("n_context", n_context, at_least=1)
    s2 = task.input_variance * input_scale**2
    m4 = task.input_fourth_moment * input_scale**4
    tau = (m4 + (task.d - 1) * s2**2) / n_context + (1 - 1 / n_context) * s2**2
    shrink = 1 - 2 * step_size * s2 + step_size**2 * tau
    return 0.5 * s2 * task.d * task.task_scale**2 * shrink


def attention_population_loss(
    key_query: Float[Tensor, "*models {task.d}+1 {task.d}+1"],
    projection_value: Float[Tensor, "*models {task.d}+1 {task.d}+1"],
    task: LinearRegression,
    n_context: int,
) -> Float[Tensor, "*models"]:
    """Expected loss of one linear attention layer with any weights, as a polynomial in them.

    The layer reads ``(x_i, y_i)`` tokens and a query ``(x_q, 0)`` that is not a key, and its
    prediction is minus the query's last slot; ``key_query`` is ``W_K^T W_Q`` and
    ``projection_value`` is ``P W_V``. Only the first ``d`` columns of the former (the query's
    target slot is 0) and the last row of the latter (only that slot is read) matter.

    Args:
        key_query: one matrix, or a stack of them for several models at once.
        projection_value: likewise.
        task: one target, no noise, independent coordinates, ``task_scale`` 1.
        n_context: ``N``.

    Returns:
        The expected ``1/2 (y_hat - y)^2``, one number for each model.
    """
    _check(task)
    check_integer("n_context", n_context, at_least=1)
    if task.task_scale != 1.0:
        raise ValueError(f"task: the closed form is for task_scale 1, got {task.task_scale}")
    for name, matrix in {"key_query": key_query, "projection_value": projection_value}.items():
        if matrix.ndim < 2 or matrix.shape[-2:] != (task.d + 1, task.d + 1):
            raise ValueError(
                f"{name}: got shape {tuple(matrix.shape)}; use [..., d+1, d+1] with d = {task.d}"
            )
    d, s2 = task.d, task.input_variance
    squares, select, products = (c.to(key_query) for c in _moments(task, n_context))
    k, u = key_query[..., :, :d], projection_value[..., d, :]
    # A = k without its last row b; u_x = u without its last entry u_y. Few operations on purpose:
    # training spends its time here, and on matrices this small each costs the same.
    linear = (u[..., :d] * k[..., d, :] + u[..., d:] * k.diagonal(dim1=-2, dim2=-1)).sum(-1)
    norms = k.square().sum(-1)
    parts = (select * u[..., None, :]) @ k  # u_x^T A, and u_y b^T
    quadratic = (norms * (u.square() @ squares)).sum(-1)
    quadratic = quadratic + (parts * (products @ parts)).sum((-2, -1))
    return (s2 / 2) * (d + 2 * n_context * s2 * linear + quadratic)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve in training too
def _moments(task: LinearRegression, n_context: int) -> tuple[Tensor, Tensor, Tensor]:
    """The averages over inputs and tasks in the expected square of the prediction.

    With ``y_hat = -sum_i (u_x.x_i + u_y w.x_i) (x_i.A x_q + w.x_i b.x_q)``, ``E y_hat^2 / s2`` is
    ``r^T G p + |u_x^T A|^2 n (n+1) s2^2 + 2 (c2 + c3) u_y u_x^T A b``, where ``r`` holds the
    squared norms of the rows of ``A`` and of ``b``, and ``p`` the squares of ``u``.

    Returns:
        ``G``; the matrix that cuts ``u`` into ``u_x`` and ``u_y``; the factors of the two other
        terms as a symmetric matrix.
    """
    n, d, s2 = n_context, task.d, task.input_variance
    kappa = task.input_fourth_moment - 3 * s2**2  # fourth cumulant: 0 for normal inputs
    one = s2**2 * (d + 2) + kappa  # E |x|^2 x x^T = one * I
    c2 = n * one + n * (n - 1) * s2**2  # E S^2 = c2 * I, S = sum_i x_i x_i^T
    c3 = n * one + n * (n - 1) * d * s2**2  # E S tr S = c3 * I
    c4 = (  # E (tr S)^2 + 2 tr S^2: the square of w.S w
        n * (d * (kappa + 3 * s2**2) + d * (d - 1) * s2**2)
        + n * (n - 1) * d**2 * s2**2
        + 2 * d * c2
    )
    squares = torch.full((d + 1, d + 1), n * s2**2, dtype=torch.float64)
    squares[:d, :d] += n * kappa * torch.eye(d, dtype=torch.float64)
    squares[d, :] = squares[:, d] = c2
    squares[d, d] = c4
    select = torch.zeros(2, d + 1, dtype=torch.float64)
    select[0, :d] = select[1, d] = 1
    products = torch.tensor([[n * (n + 1) * s2**2, c2 + c3], [c2 + c3, 0]], dtype=torch.float64)
    return squares, select, products
