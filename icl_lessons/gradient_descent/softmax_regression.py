"""Softmax regression: one step on the weights, one self-attention update of the data.

Li et al. [li2023closeness] study ``f(x) = softmax(A x)`` with data ``A``, ``[n, d]``, weights
``x``, ``[d]``, and targets ``b``, ``[n]``, under the loss ``1/2 |f(x) - b|^2``. A gradient step
changes the weights, ``x -> x'``; a self-attention layer changes the data, ``A -> A'``. Each moves
the prediction, and they bound each movement by a constant times the change that caused it. That
both are small is then read as *closeness* of the two. Two vectors below one bound may still point
anywhere; :func:`descent_shift` and :func:`attention_shift` are there to look at where they point.

The constant of the paper is ``n^1.5 exp(10 R^2)`` with ``R`` a bound on the norms of ``A`` and
``x`` (**from memory**: only the abstract was read). Ours follows from the Jacobian of the softmax,
``J = diag(f) - f f^T``. For a unit vector ``u``, ``u^T J u`` is the variance of a variable that
takes the value ``u_i`` with probability ``f_i``; its values lie within an interval of length
``sqrt(2)`` at most, so its variance is at most ``2 / 4``. Hence ``|J| <= 1/2`` and

.. math:: |f_A(x') - f_A(x)| \\le \\tfrac12 |A| |x' - x|, \\qquad
          |f_{A'}(x) - f_A(x)| \\le \\tfrac12 |A' - A| |x|,

in Euclidean and operator norms, without any exponential.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_number, check_tensor

Data = Float[Tensor, "batch n d"]
Weights = Float[Tensor, "batch d"]
Targets = Float[Tensor, "batch n"]


def _check(data: Data, weights: Weights, targets: Targets | None = None) -> None:
    check_tensor("data", data, "batch n d")
    check_tensor("weights", weights, "batch d")
    if weights.shape != (data.shape[0], data.shape[2]):
        raise ValueError(
            f"weights: got shape {tuple(weights.shape)}; use [batch, d] = "
            f"{(data.shape[0], data.shape[2])}"
        )
    if targets is not None:
        check_tensor("targets", targets, "batch n")
        if targets.shape != data.shape[:2]:
            raise ValueError(
                f"targets: got shape {tuple(targets.shape)}; use [batch, n] = "
                f"{tuple(data.shape[:2])}"
            )


def softmax_prediction(data: Data, weights: Weights) -> Targets:
    """``f(x) = softmax(A x)``, entries positive and summing to 1."""
    _check(data, weights)
    return (data @ weights[..., None])[..., 0].softmax(-1)


def softmax_loss(data: Data, weights: Weights, targets: Targets) -> Float[Tensor, " batch"]:
    """``1/2 |f(x) - b|^2``."""
    _check(data, weights, targets)
    return 0.5 * (softmax_prediction(data, weights) - targets).square().sum(-1)


def softmax_jacobian(prediction: Targets) -> Float[Tensor, "batch n n"]:
    """``diag(f) - f f^T``: the derivative of the softmax with respect to its argument."""
    check_tensor("prediction", prediction, "batch n")
    return torch.diag_embed(prediction) - prediction[..., :, None] * prediction[..., None, :]


def softmax_gradient(data: Data, weights: Weights, targets: Targets) -> Weights:
    """Gradient of :func:`softmax_loss` with respect to ``x``: ``A^T (diag f - f f^T) (f - b)``."""
    _check(data, weights, targets)
    prediction = softmax_prediction(data, weights)
    residual = (prediction - targets)[..., None]
    return (data.mT @ (softmax_jacobian(prediction) @ residual))[..., 0]


def descent_step(data: Data, weights: Weights, targets: Targets, step_size: float) -> Weights:
    """The weights ``x'`` after one step of gradient descent."""
    check_number("step_size", step_size)
    return weights - step_size * softmax_gradient(data, weights, targets)


def attention_step(data: Data, step_size: float) -> Data:
    """The data ``A'`` after one residual self-attention layer on its rows.

    Row ``i`` gains ``step_size`` times the average of all rows, weighted by the softmax of their
    dot products with it: queries, keys and values are the rows themselves. With minus the identity
    for the value matrix the prediction moves, to first order, the opposite way.
    """
    check_tensor("data", data, "batch n d")
    check_number("step_size", step_size)
    return data + step_size * (data @ data.mT).softmax(-1) @ data


def descent_shift(data: Data, weights: Weights, targets: Targets, step_size: float) -> Targets:
    """How the step on the weights moves the prediction: ``f_A(x') - f_A(x)``."""
    moved = descent_step(data, weights, targets, step_size)
    return softmax_prediction(data, moved) - softmax_prediction(data, weights)


def attention_shift(data: Data, weights: Weights, step_size: float) -> Targets:
    """How the layer on the data moves the prediction: ``f_{A'}(x) - f_A(x)``."""
    moved = attention_step(data, step_size)
    return softmax_prediction(moved, weights) - softmax_prediction(data, weights)


def weight_shift_bound(data: Data, weights: Weights, moved: Weights) -> Float[Tensor, " batch"]:
    """``1/2 |A| |x' - x|``, at least as large as the prediction's movement."""
    _check(data, weights)
    return 0.5 * torch.linalg.matrix_norm(data, 2) * (moved - weights).norm(dim=-1)


def data_shift_bound(data: Data, moved: Data, weights: Weights) -> Float[Tensor, " batch"]:
    """``1/2 |A' - A| |x|``, at least as large as the prediction's movement."""
    _check(data, weights)
    return 0.5 * torch.linalg.matrix_norm(moved - data, 2) * weights.norm(dim=-1)


def paper_constant(n: int, radius: float) -> float:
    """``n^1.5 exp(10 R^2)``: the paper's factor in place of ``R / 2`` (from memory)."""
    return n**1.5 * math.exp(10 * radius**2)


def equivalent_data(data: Data, weights: Weights, moved: Weights) -> Data:
    """Data ``A'`` for which the old weights predict what the moved ones predict from ``A``.

    ``A' = A + A (x' - x) x^T / |x|^2``, so that ``A' x = A x'``: a change of rank one, the smallest
    there is in Frobenius norm. It exists for every step on the weights, and needs to know ``x``; no
    self-attention on the rows of ``A`` alone can make it.

    Raises:
        ValueError: weights of zero, from which no data predict anything but equal shares.
    """
    _check(data, weights)
    square = weights.square().sum(-1)
    if (square == 0).any():
        raise ValueError("weights: all zero; A' x is then 0 whatever the data")
    along = weights / square[..., None]
    return data + (data @ (moved - weights)[..., None]) @ along[..., None, :]
