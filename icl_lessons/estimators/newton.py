"""Second-order descent on a context: Newton-Schulz inversion, and the learner made of it.

With ``S = X^T X`` (examples in rows, not divided by ``N``) the iteration

.. math:: M_0 = \\alpha S, \\qquad M_{k+1} = 2 M_k - M_k S M_k, \\qquad
          \\hat W_k = Y^\\top X M_k

converges to least squares for :math:`0 < \\alpha < 2 / \\|S\\|_2^2` [fu2024transformers,
where it is called Iterative Newton]. It has the closed form
:math:`M_k = (I - (I - \\alpha S^2)^{2^k})\\, S^{-1}` on the range of ``S``: each step squares what
is left, so the number of correct digits doubles.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_context, check_integer, check_number, check_tensor

Inputs = Float[Tensor, "batch n_context d"]
Targets = Float[Tensor, "batch n_context m"]


def newton_start(
    S: Float[Tensor, "batch d d"], alpha: float | None = None
) -> Float[Tensor, " batch"]:
    """``alpha`` of each matrix: the one given, or ``1 / |S S^T|_F`` as the paper's code has it.

    The Frobenius norm is at least the spectral one, so the default always converges.

    Raises:
        ValueError: an ``alpha`` outside ``0 < alpha < 2 / |S|_2^2`` for one of the matrices.
    """
    if alpha is None:
        size = (S @ S.mT).norm(dim=(1, 2))
        return torch.where(size > 0, 1 / size, torch.zeros_like(size))
    check_number("alpha", alpha, positive=True)
    largest = torch.linalg.matrix_norm(S, 2).square().max().item() if S.numel() else 0.0
    if alpha * largest >= 2:
        raise ValueError(
            f"alpha: got {alpha:g}; Newton-Schulz converges for 0 < alpha < 2 / |S|_2^2, which is "
            f"{2 / largest:.4g} for the largest matrix given. Use less, or None for 1 / |S S^T|_F"
        )
    return S.new_full((len(S),), alpha)


def newton_schulz_inverses(
    S: Float[Tensor, "batch d d"], steps: int, alpha: float | None = None
) -> Float[Tensor, "{steps}+1 batch d d"]:
    """``M_0, ..., M_steps``, which approach the (pseudo-)inverse of each symmetric ``S``.

    Only products of matrices are taken. Where ``S`` is singular, rounding errors outside its range
    double at every step, so that some fifty steps in float64 undo what was gained.

    Args:
        S: symmetric, without negative eigenvalues.
        steps: of the iteration, 0 or more.
        alpha: of the start ``M_0 = alpha S``; ``None`` for ``1 / |S S^T|_F``, matrix by matrix.

    Raises:
        ValueError: a matrix that is not square and symmetric; an ``alpha`` that diverges.
    """
    check_tensor("S", S, "batch d d")
    check_integer("steps", steps, at_least=0)
    if S.shape[1] != S.shape[2] or not torch.allclose(S, S.mT, rtol=1e-4):
        raise ValueError(f"S: got shape {tuple(S.shape)}; use symmetric matrices [batch, d, d]")
    inverse = newton_start(S, alpha)[:, None, None] * S
    path = [inverse]
    for _ in range(steps):
        inverse = 2 * inverse - inverse @ S @ inverse
        path.append(inverse)
    return torch.stack(path)


def iterative_newton_path(
    xs: Inputs, ys: Targets, steps: int, alpha: float | None = None
) -> Float[Tensor, "{steps}+1 batch m d"]:
    """The weights ``Y^T X M_k`` after 0, 1, ..., ``steps`` steps.

    The first of them is ``alpha Y^T X S``, not zero: the iteration starts from a matrix that is
    already a multiple of ``S``. With fewer examples than coordinates the limit is the
    least-squares solution of smallest norm.

    Args:
        xs: ``[batch, n_context, d]``.
        ys: ``[batch, n_context, m]``.
        steps, alpha: as in :func:`newton_schulz_inverses`, with ``S = X^T X``.
    """
    check_context(xs, ys)
    return (ys.mT @ xs) @ newton_schulz_inverses(xs.mT @ xs, steps, alpha)


@dataclass(frozen=True)
class IterativeNewton:
    """The learner that inverts ``X^T X`` by ``steps`` of Newton-Schulz, then predicts."""

    steps: int
    alpha: float | None = None

    def __post_init__(self):
        check_integer("steps", self.steps, at_least=0)
        if self.alpha is not None:
            check_number("alpha", self.alpha, positive=True)

    def __call__(self, xs: Inputs, ys: Targets, x_query: Tensor) -> Tensor:
        check_context(xs, ys, x_query)
        return x_query @ iterative_newton_path(xs, ys, self.steps, self.alpha)[-1].mT
