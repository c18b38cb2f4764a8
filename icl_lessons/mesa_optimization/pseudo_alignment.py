"""Small models in which the kinds of misalignment of Hubinger et al. can be measured.

Three toys, one for each kind beside the proxy of
:mod:`~icl_lessons.mesa_optimization.goal_misgeneralization`; every one is an in-context learner
whose inner objective can be written down, and none has goals in any wider sense.

* **Outer against inner.** Designers want ``y``. *Inner* misalignment: training pays for ``y``, on
  data that cannot tell ``y`` from a cue. *Outer*: the instrument that labels everything reads the
  cue, so training pays for the cue (:func:`labelled_by_cue`).
* **Approximate.** The metric ``M = A B`` of an inner learner has too low a rank to hold the best
  one. On normal inputs of covariance ``Sigma`` and tasks ``w ~ N(0, I)`` the expected loss is a
  weighted distance from the best metric, so the best of a rank is known (:func:`best_of_rank`).
* **Suboptimality.** A cue repeats the noise in the labels of a context, and is small: descent
  learns it last. After few steps the inner learner answers from the core inputs; more steps of the
  same descent on the same objective answer from the cue (:func:`descent_errors`).

Losses are ``E (y_hat - y)^2``, without the half.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.mesa_optimization.poisoned_contexts import descent_filter
from icl_lessons.runtime import check_integer, check_number, check_tensor
from icl_lessons.tasks.drawing import symmetric_root
from icl_lessons.types import Batch

Square = Float[Tensor, "d d"]


def labelled_by_cue(batch: Batch) -> Batch:
    """The same prompts as an instrument labels them that reads the cue, the last input.

    Context and query alike; ``weights`` then picks out the cue.
    """
    weights = torch.zeros_like(batch.xs[:, :1])
    weights[..., -1] = 1
    return Batch(batch.xs, batch.xs[..., -1:], batch.x_query, batch.x_query[..., -1:], weights)


# --- approximate alignment ----------------------------------------------------------------------


def feature_covariance(covariance: Square, n_context: int) -> Square:
    """``E beta^T beta`` of ``beta = 1/N sum_i y_i x_i^T``, exactly.

    .. math:: K = \\Big(1 + \\frac1N\\Big) \\Sigma^2 + \\frac{\\mathrm{tr}\\,\\Sigma}{N}\\, \\Sigma

    for ``x ~ N(0, Sigma)`` and ``y = w . x`` with ``w ~ N(0, I)``, without noise.
    """
    check_tensor("covariance", covariance, "d d")
    check_integer("n_context", n_context, at_least=1)
    return (1 + 1 / n_context) * covariance @ covariance + (
        covariance.trace() / n_context
    ) * covariance


def metric_loss(matrix: Square, covariance: Square, n_context: int) -> Float[Tensor, ""]:
    """``E (beta M x_q - y_q)^2`` over all prompts; differentiable in ``M``.

    .. math:: \\mathrm{tr}\\,\\Sigma - 2\\,\\mathrm{tr}(\\Sigma M \\Sigma)
        + \\mathrm{tr}(M^\\top K M \\Sigma)
    """
    if matrix.shape != covariance.shape:
        raise ValueError(
            f"matrix: got shape {tuple(matrix.shape)}; covariance has {tuple(covariance.shape)}"
        )
    k = feature_covariance(covariance, n_context)
    cross = (covariance @ matrix @ covariance).trace()
    return covariance.trace() - 2 * cross + (matrix.mT @ k @ matrix @ covariance).trace()


def best_of_rank(covariance: Square, n_context: int, rank: int) -> tuple[Square, float]:
    """The metric of least loss among those of a rank, and its loss.

    The loss is that of the best metric ``M* = K^-1 Sigma`` plus
    ``|K^(1/2) (M - M*) Sigma^(1/2)|^2``, so the singular value decomposition of
    ``K^(1/2) M* Sigma^(1/2)``, cut after ``rank`` values, gives the best one (Eckart and Young).

    Args:
        covariance: positive definite.
        rank: from 0 to ``d``.

    Raises:
        ValueError: a rank above ``d``, or a covariance with an eigenvalue of 0 or below.
    """
    d = len(covariance)
    check_integer("rank", rank, at_least=0)
    if rank > d:
        raise ValueError(f"rank: got {rank}; a {d} by {d} matrix has at most {d}")
    root = symmetric_root("covariance", covariance)
    if torch.linalg.eigvalsh(covariance).min() <= 0:
        raise ValueError("covariance: use a positive definite matrix")
    sigma = covariance.double()
    k_root = symmetric_root("feature covariance", feature_covariance(sigma, n_context))
    best = torch.linalg.solve(k_root @ k_root, sigma)
    u, values, v = torch.linalg.svd(k_root @ best @ root)
    cut = (u[:, :rank] * values[:rank]) @ v[:rank]
    matrix = torch.linalg.solve(k_root, cut)
    matrix = torch.linalg.solve(root, matrix, left=False)
    loss = sigma.trace() - values[:rank].square().sum()
    return matrix, loss.item()


def decaying_covariance(d: int, power: float | int = 1.0) -> Square:
    """Diagonal, with variances in proportion to ``j^-power``, ``j = 1..d``, that sum to 1."""
    check_integer("d", d, at_least=1)
    check_number("power", power)
    variances = torch.arange(1, d + 1, dtype=torch.float64) ** -float(power)
    return torch.diag(variances / variances.sum())


def error_by_direction(matrix: Square, covariance: Square, n_context: int) -> Float[Tensor, " d"]:
    """``E (w - M^T beta^T)_j^2`` for each input direction ``j``: 1 where nothing is learnt of it.

    The diagonal of ``I - 2 M^T Sigma + M^T K M``.
    """
    k = feature_covariance(covariance, n_context)
    error = matrix.mT @ k @ matrix - 2 * matrix.mT @ covariance
    return 1 + error.diagonal()


# --- suboptimality alignment --------------------------------------------------------------------


def descent_in_closed_form(
    batch: Batch, step_size: float | int, steps: int
) -> Float[Tensor, "batch m d"]:
    """The weights after ``steps`` of descent from zero, by the spectrum of the context.

    .. math:: W_K = \\Big(\\frac1N \\sum_i y_i x_i^\\top\\Big)\\, Q\\,
        \\mathrm{diag}\\!\\Big(\\frac{1 - (1 - \\eta \\mu_j)^K}{\\mu_j}\\Big) Q^\\top

    with ``1/N sum_i x_i x_i^T = Q diag(mu) Q^T``; a direction of small ``mu_j`` is learnt at the
    rate ``eta mu_j``, so a cue of small scale comes last.
    """
    check_integer("steps", steps, at_least=0)
    check_number("step_size", step_size)
    n = batch.xs.shape[1]
    values, vectors = torch.linalg.eigh(batch.xs.mT @ batch.xs / n)
    filtered = descent_filter(values, step_size, steps)
    return (batch.ys.mT @ batch.xs / n) @ (vectors * filtered[:, None]) @ vectors.mT


def descent_errors(
    batch: Batch, step_size: float | int, steps: Sequence[int]
) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    """Error at the queries and loss on the context after some numbers of steps of descent.

    Args:
        batch: prompts with the weights of their tasks.
        step_size: of every step, from zero weights.
        steps: numbers of steps, each 0 or more.

    Returns:
        ``E |W_K z_q - w . z_q|^2``, against the query's target without its noise, and
        ``E 1/N sum_i |W_K z_i - y_i|^2``, the inner objective; no half in either.
    """
    if batch.weights is None:
        raise ValueError("batch: its task is not known; use one with weights")
    if len(steps) == 0:
        raise ValueError("steps: got none; give at least one number of steps")
    path = torch.stack([descent_in_closed_form(batch, step_size, count) for count in steps])
    truth = batch.x_query @ batch.weights.mT
    query = (batch.x_query @ path.mT - truth).square().sum(-1).mean((1, 2))
    context = (batch.xs @ path.mT - batch.ys).square().sum(-1).mean((1, 2))
    return query, context


def best_step_size(batch: Batch, steps: int, sizes: Sequence[float]) -> float:
    """Of some step sizes the one with the least error at the queries after ``steps`` of descent.

    What a base optimiser does that can choose nothing but the step size.
    """
    if len(sizes) == 0:
        raise ValueError("sizes: got none; give at least one step size to choose from")
    return min(sizes, key=lambda size: descent_errors(batch, size, [steps])[0].item())
