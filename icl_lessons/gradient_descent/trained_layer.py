"""A linear attention layer found by training, set beside the one written down.

The comparisons are those of von Oswald et al., section 3 and figure 2: loss against the best single
step of gradient descent, agreement of predictions and of sensitivities, the weights halfway between
the two, and inputs or tasks of another size than those of training.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.one_step import LinearSelfAttentionLearner
from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.models.attention import SelfAttention
from icl_lessons.runtime import check_integer, seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Batch


def untrained_layer(
    generator: torch.Generator, *, d: int, m: int = 1, init_std: float = 0.0135
) -> LinearSelfAttentionLearner:
    """One linear self-attention head of width ``d + m`` with small random matrices.

    The paper passes ``0.002`` as a variance scale with fan-in, which is a standard deviation of
    0.0135 for ``d = 10``; its text calls it the standard deviation.
    """
    layer = SelfAttention(d + m, init_std=init_std, generator=generator)
    return LinearSelfAttentionLearner([layer], d)


def line_search_step(batch: Batch) -> float:
    """The step size from zero weights with the smallest loss on the queries of ``batch``.

    The loss is a parabola in the step size, so its lowest point is computed and not searched for:
    with ``p`` the prediction of a step of size 1, it is at ``sum(p y) / sum(p p)``.
    """
    unit = GradientDescent(1.0)(*batch.context)
    return ((unit * batch.y_query).sum() / unit.square().sum()).item()


def learner_from_products(
    key_query: Float[Tensor, "width width"],
    projection_value: Float[Tensor, "width width"],
    d: int,
) -> LinearSelfAttentionLearner:
    """One layer with the given ``W_K^T W_Q`` and ``P W_V``, on which alone its output depends."""
    identity = torch.eye(len(key_query), dtype=key_query.dtype, device=key_query.device)
    layer = SelfAttention.from_matrices(
        key_query[None], identity[None], projection_value[None], identity[None]
    )
    return LinearSelfAttentionLearner([layer], d).requires_grad_(False)


def rescaled_products(
    learner: LinearSelfAttentionLearner,
) -> tuple[Float[Tensor, "width width"], Float[Tensor, "width width"], float]:
    """``(W_K^T W_Q / beta, beta P W_V, beta)`` with ``beta`` the mean of the first ``d`` diagonal
    entries of ``W_K^T W_Q``.

    A layer's output does not change when one product is divided by a number and the other
    multiplied by it. Dividing by ``beta``, sign included, brings a trained layer to the scale and
    sign at which the construction is written. [vonoswald2023transformers, section 3]

    Raises:
        ValueError: unless the learner has one layer of one head; for a ``beta`` of 0.
    """
    if len(learner.order) != 1 or learner.layers[0].w_query.shape[0] != 1:
        raise ValueError("learner: the rescaling is for one layer with one head")
    layer = learner.layers[0]
    key_query, projection_value = layer.key_query()[0], layer.projection_value()[0]
    beta = key_query.diagonal()[: learner.d].mean().item()
    if beta == 0:
        raise ValueError("learner: the mean diagonal of W_K^T W_Q is 0; nothing to rescale by")
    return (key_query / beta).detach(), (projection_value * beta).detach(), beta


def interpolated(
    trained: LinearSelfAttentionLearner,
    constructed: LinearSelfAttentionLearner,
    mixture: float,
    *,
    rescale: bool = True,
) -> LinearSelfAttentionLearner:
    """A layer whose two products are ``(1 - mixture)`` trained and ``mixture`` constructed.

    Args:
        rescale: bring the trained products to the construction's scale first. Without this two
            layers that compute the same may have an average that computes nothing alike.
    """
    layer = trained.layers[0]
    if rescale:
        key_query, projection_value, _ = rescaled_products(trained)
    else:
        key_query, projection_value = layer.key_query()[0], layer.projection_value()[0]
    target = constructed.layers[0]
    mixed = [
        torch.lerp(own.detach(), goal[0].detach().to(own), mixture)
        for own, goal in (
            (key_query, target.key_query()),
            (projection_value, target.projection_value()),
        )
    ]
    return learner_from_products(*mixed, trained.d)


def loss_at_scales(
    learner,
    task: LinearRegression,
    n_context: int,
    *,
    input_scales: Sequence[float] = (1.0,),
    task_scales: Sequence[float] = (1.0,),
    batch_size: int,
    seed: int,
    device: str = "cpu",
) -> Float[np.ndarray, "input_scales task_scales"]:
    """Loss on contexts whose inputs and tasks are larger or smaller than those of training.

    The contexts at all scales are the same up to the scale, so a curve is smooth by design.
    """
    check_integer("batch_size", batch_size, at_least=1)
    batch = task.sample(batch_size, n_context, generator=seeded(seed), device=device)
    losses = np.empty((len(input_scales), len(task_scales)))
    with torch.no_grad():
        for i, a in enumerate(input_scales):
            for j, b in enumerate(task_scales):
                shifted = Batch(
                    batch.xs * a, batch.ys * (a * b), batch.x_query * a, batch.y_query * (a * b)
                )
                losses[i, j] = mean_squared_error(learner, shifted)
    return losses
