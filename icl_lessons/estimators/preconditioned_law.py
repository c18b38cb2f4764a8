"""The expected loss of one preconditioned step over all contexts of a normal law, in closed form.

One step from zero weights with a preconditioner ``A`` predicts ``c^T A x_q`` with ``c = 1/N sum_i
y_i x_i``. For inputs ``x ~ N(0, Lambda)`` and tasks ``w ~ N(0, tau^2 I)`` its expected loss is a
quadratic function of ``A``, whose lowest point is ``Gamma^{-1}`` and not ``Lambda^{-1}``
[ahn2023transformers, Theorem 1; zhang2024trained]:

.. math:: \\Gamma = \\Big(1 + \\frac1N\\Big)\\Lambda
          + \\frac{\\operatorname{tr}\\Lambda + \\sigma^2/\\tau^2}{N}\\, I

All losses are ``1/2 E (y_hat - w.x_q)^2``, against the target without its noise.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_integer, check_number, check_tensor

Matrix = Float[Tensor, "d d"]


def law_of_contexts(
    covariance, n_context, noise_variance, task_variance
) -> tuple[Matrix, Matrix, float]:
    """The arguments of a law, checked: ``Lambda``, ``Omega`` and ``1/N`` (0 for no end of it).

    Arguments as in :func:`second_moment`.

    Raises:
        ValueError: a covariance that is not symmetric, or another argument out of its range.
    """
    check_tensor("covariance", covariance, "d d")
    if covariance.shape[0] != covariance.shape[1] or not torch.allclose(covariance, covariance.T):
        raise ValueError("covariance: use a symmetric matrix [d, d]")
    if n_context != math.inf:
        check_integer("n_context", n_context, at_least=1)
    check_number("noise_variance", noise_variance)
    if isinstance(task_variance, Tensor):
        check_tensor("task_variance", task_variance, "d d")
        return covariance, task_variance.to(covariance), 1 / n_context
    check_number("task_variance", task_variance, positive=True)
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return covariance, task_variance * eye, 1 / n_context


def second_moment(
    covariance: Matrix,
    n_context: int | float,
    noise_variance: float = 0.0,
    task_variance: float | Matrix = 1.0,
) -> Matrix:
    """``E[c c^T]`` for ``c = 1/N sum_i y_i x_i``: all that an expected loss needs of a context.

    ``(1 + 1/N) Lambda Omega Lambda + (tr(Omega Lambda) + sigma^2)/N Lambda``; for ``Omega = I``
    and no noise this is ``E S^2 = Lambda Gamma``, with ``S`` the empirical covariance.

    Args:
        covariance: ``Lambda``, of normal inputs with mean 0.
        n_context: ``N``; ``math.inf`` for a context without end.
        noise_variance: ``sigma^2``, of the targets.
        task_variance: ``tau^2`` for tasks ``N(0, tau^2 I)``, or a whole matrix ``Omega``.
    """
    lam, omega, share = law_of_contexts(covariance, n_context, noise_variance, task_variance)
    signal = lam @ omega
    return (1 + share) * signal @ lam + share * (signal.trace() + noise_variance) * lam


def optimal_preconditioner(
    covariance: Matrix,
    n_context: int,
    noise_variance: float = 0.0,
    task_variance: float | Matrix = 1.0,
) -> Matrix:
    """The ``A`` of smallest expected loss: ``E[c c^T]^{-1} Lambda Omega``.

    For ``Omega = tau^2 I`` it is ``Gamma^{-1}`` of this module's first lines, without noise the
    matrix of [ahn2023transformers, Theorem 1] and [zhang2024trained]. For
    ``Omega = Lambda^{-1}`` it is ``Lambda^{-1} / (1 + (d + 1 + sigma^2)/N)``
    [mahankali2024one]. Arguments as in :func:`second_moment`.

    Raises:
        ValueError: a covariance without inverse, for which the lowest point is not a single one.
    """
    lam, omega, _ = law_of_contexts(covariance, n_context, noise_variance, task_variance)
    if torch.linalg.matrix_rank(lam, hermitian=True) < len(lam):
        raise ValueError("covariance: has no inverse; give every direction a positive variance")
    moment = second_moment(covariance, n_context, noise_variance, task_variance)
    return torch.linalg.solve(moment, lam @ omega)


def preconditioned_population_loss(
    preconditioner: Float[Tensor, "*models d d"],
    covariance: Matrix,
    n_context: int | float,
    noise_variance: float = 0.0,
    task_variance: float | Matrix = 1.0,
) -> Float[Tensor, "*models"]:
    """Expected loss ``1/2 E (c^T A x_q - w.x_q)^2`` of one step with any ``A``, exactly.

    ``1/2 [tr(A Lambda A^T E[c c^T]) - 2 tr(A Lambda Omega Lambda) + tr(Lambda Omega)]``, for
    normal inputs; the query has the covariance of the context. Other arguments as in
    :func:`second_moment`; ``A`` may be a stack of matrices.
    """
    lam, omega, _ = law_of_contexts(covariance, n_context, noise_variance, task_variance)
    moment = second_moment(covariance, n_context, noise_variance, task_variance)
    squares = ((moment @ preconditioner) * (preconditioner @ lam)).sum((-2, -1))
    products = (preconditioner * (lam @ omega @ lam)).sum((-2, -1))
    return 0.5 * (squares - 2 * products + (lam @ omega).trace())
