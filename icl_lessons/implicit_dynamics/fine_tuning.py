"""Gradient descent on the examples, to compare with the change that the context is worth.

The dense matrix ``W`` of a block that reads no context is moved by gradients of the loss on the
examples, each shown as a query: one example a step, as in the paper's experiment
[dherin2025learning, section 4], or all of them at every step. Whether the implicit update goes the
same way is a question of directions: :func:`cosine` compares changes of the matrix, and
:func:`cosine_at_query` the part of them that the query can see.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from icl_lessons.implicit_dynamics.block_regressor import BlockRegressor, without_context
from icl_lessons.runtime import check_context, check_integer, check_number

Weights = Float[Tensor, "batch hidden width"]


def starting_weights(model: BlockRegressor, batch: int) -> Weights:
    """``W_0``, once for each context."""
    return model.block.dense_weight.detach().expand(batch, -1, -1)


def example_gradient(
    model: BlockRegressor,
    xs: Float[Tensor, "batch n d"],
    ys: Float[Tensor, "batch n 1"],
    weights: Weights,
) -> Weights:
    """Gradient of ``1/(2n) sum_i (y_hat_i - y_i)^2`` in ``W``, for each context by itself."""
    check_context(xs, ys)
    weights = weights.detach().requires_grad_(True)
    with torch.enable_grad():
        error = without_context(model, xs, weights) - ys
        (gradient,) = torch.autograd.grad(0.5 * error.square().mean(1).sum(), weights)
    return gradient


def stochastic_steps(
    model: BlockRegressor,
    xs: Float[Tensor, "batch n d"],
    ys: Float[Tensor, "batch n 1"],
    learning_rate: float | int,
) -> Iterator[Weights]:
    """``W_0`` and the weights after each example, one step on each in their order."""
    check_number("learning_rate", learning_rate)
    weights = starting_weights(model, xs.shape[0])
    yield weights
    for i in range(xs.shape[1]):
        gradient = example_gradient(model, xs[:, i : i + 1], ys[:, i : i + 1], weights)
        weights = weights - learning_rate * gradient
        yield weights


def full_batch_steps(
    model: BlockRegressor,
    xs: Float[Tensor, "batch n d"],
    ys: Float[Tensor, "batch n 1"],
    learning_rate: float | int,
    steps: int,
) -> Iterator[Weights]:
    """``W_0`` and the weights after each of ``steps`` steps on all examples at once."""
    check_number("learning_rate", learning_rate)
    check_integer("steps", steps, at_least=0)
    weights = starting_weights(model, xs.shape[0])
    yield weights
    for _ in range(steps):
        weights = weights - learning_rate * example_gradient(model, xs, ys, weights)
        yield weights


def cosine(first: Weights, second: Weights) -> Float[Tensor, " batch"]:
    """Cosine between two changes of a matrix, ``<A, B>_F / (|A|_F |B|_F)``."""
    return F.cosine_similarity(first.flatten(1), second.flatten(1), dim=-1)


def cosine_at_query(
    first: Weights, second: Weights, fed: Float[Tensor, "batch width"]
) -> Float[Tensor, " batch"]:
    """Cosine between what two changes do where the dense layer is fed ``fed``.

    The implicit update acts in this one direction of its input and a change made from examples in
    many; here only what the query sees of either is compared.
    """
    seen = ((change @ fed[..., None])[..., 0] for change in (first, second))
    return F.cosine_similarity(*seen, dim=-1)
