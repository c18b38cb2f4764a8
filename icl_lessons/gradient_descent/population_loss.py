"""Expected losses over all tasks and contexts, in closed form: no sampling, no noise.

For one linear attention layer and for one step of gradient descent, the expectation over tasks
``w ~ N(0, I)`` and inputs with independent coordinates needs only two moments of a coordinate: its
variance ``s2`` and its fourth moment ``m4``. All losses are ``1/2 E (y_hat - y)^2`` with one
target, without noise.
"""

from typing import NamedTuple

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
    n, d, s2 = n_context, task.d, task.input_variance
    kappa = task.input_fourth_moment - 3 * s2**2  # fourth cumulant: 0 for normal inputs
    a, b = key_query[..., :d, :d], key_query[..., d, :d]
    u_x, u_y = -projection_value[..., d, :d], -projection_value[..., d, d]

    # y_hat = sum_i (u_x.x_i + u_y w.x_i) (x_i.A x_q + w.x_i b.x_q); every x_i, w, x_q is averaged.
    one = s2**2 * (d + 2) + kappa  # E |x|^2 x x^T = one * I
    c2 = n * one + n * (n - 1) * s2**2  # E S^2 = c2 * I, S = sum_i x_i x_i^T
    c3 = n * one + n * (n - 1) * d * s2**2  # E S tr S = c3 * I
    c4 = (  # E (tr S)^2 + 2 tr S^2: the square of w.S w
        n * (d * (kappa + 3 * s2**2) + d * (d - 1) * s2**2)
        + n * (n - 1) * d**2 * s2**2
        + 2 * d * c2
    )
    # The square of the first and the cross terms, |b u_x^T + u_y A^T|^2 and so on, multiplied out,
    # so that nothing larger than a vector is made: training spends all its time in these lines.
    rows, u_squares = a.square().sum(-1), u_x.square()
    a_norm, b_norm, u_norm = rows.sum(-1), b.square().sum(-1), u_squares.sum(-1)
    a_u = (u_x[..., None, :] @ a)[..., 0, :]
    cross = (a_u * b).sum(-1)
    linear = (u_x * b).sum(-1) + u_y * a.diagonal(dim1=-2, dim2=-1).sum(-1)
    quadratic = (
        (c2 * b_norm + n * s2**2 * a_norm) * u_norm
        + u_y * (2 * (c2 + c3) * cross + u_y * (c2 * a_norm + c4 * b_norm))
        + n * (n + 1) * s2**2 * a_u.square().sum(-1)
        + n * kappa * (rows * u_squares).sum(-1)
    )
    return (s2 / 2) * (d - 2 * n * s2 * linear + quadratic)
