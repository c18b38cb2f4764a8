"""How much each label of a context moves a prediction, and what inner problem that implies.

The derivative of a prediction by the labels shows an inner learner at work: one step of gradient
descent from ``W_0``, with metric ``Gamma``, has

.. math:: \\frac{\\partial \\hat y_q}{\\partial y_i} = \\frac1N\\, x_i^\\top \\Gamma x_q\\, I_m .

Two traps. The ``1/N`` belongs to the formula: without it the metric comes out ``N`` times too
small. And the derivative by the *query* is another thing: it holds the weights that a learner has
fitted **plus** any direct path from the query to the answer, so a model that ignores its context
altogether has a large derivative by the query and none by the labels.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.types import Batch, Learner


def label_influence(learner: Learner, batch: Batch) -> Float[Tensor, "batch n_query m n_context m"]:
    """``d y_hat[q, k] / d y[i, l]``, by automatic differentiation; contexts are independent.

    For a learner that is linear in the labels, changing a label by ``delta`` moves the prediction
    by exactly this times ``delta``; for any other it is the slope at the labels given.

    Raises:
        ValueError: predictions of another shape than ``batch.y_query``.
    """
    ys = batch.ys.detach().requires_grad_()
    with torch.enable_grad():
        prediction = learner(batch.xs, ys, batch.x_query)
        if prediction.shape != batch.y_query.shape:
            raise ValueError(
                f"learner: predicted shape {tuple(prediction.shape)}; "
                f"use [batch, n_query, m] = {tuple(batch.y_query.shape)}"
            )
        _, n_query, m = prediction.shape
        if not prediction.requires_grad:
            return ys.new_zeros(*prediction.shape, *ys.shape[1:])
        rows = [
            torch.autograd.grad(
                prediction[:, q, k].sum(), ys, retain_graph=True, materialize_grads=True
            )[0]
            for q in range(n_query)
            for k in range(m)
        ]
    return torch.stack(rows, 1).unflatten(1, (n_query, m))


class ImpliedPreconditioner(NamedTuple):
    """The metric closest to a learner's label influence, and the share that it explains."""

    preconditioner: Float[Tensor, "d d"]
    r_squared: float


def implied_preconditioner(learner: Learner, batch: Batch) -> ImpliedPreconditioner:
    """Fit ``Gamma`` in ``d y_hat_q / d y_i = x_i^T Gamma x_q / N`` by least squares.

    One ``Gamma`` for all contexts and outputs. ``r_squared`` is the share of the influence's square
    that it explains, cross-influence between outputs counted as unexplained: 1 for one step of
    preconditioned gradient descent, 0 for a learner that uses no labels; near 1 is "GD-ness".

    Args:
        batch: at least ``d`` examples and queries in all for each direction to be seen; the
            influence of ``batch * n_query * n_context`` pairs determines ``d^2`` entries.

    Raises:
        ValueError: fewer pairs than entries.
    """
    _, n, d = batch.xs.shape
    influence = label_influence(learner, batch).double()  # [batch, q, m, i, m]
    xs, x_query = batch.xs.double(), batch.x_query.double()
    features = torch.einsum("bic,bqe->bqice", xs, x_query).flatten(3).flatten(0, 2) / n
    if len(features) < d * d:
        raise ValueError(
            f"batch: {len(features)} pairs of example and query for {d * d} entries of Gamma; "
            "use more contexts, examples or queries"
        )
    own = influence.diagonal(dim1=2, dim2=4)  # [batch, q, i, m]
    target = own.mean(-1).reshape(-1, 1)
    solution = torch.linalg.lstsq(features, target, driver="gelsd").solution
    fitted = (features @ solution).reshape(own.shape[:-1])
    total = influence.square().sum()
    left = (own - fitted[..., None]).square().sum() + total - own.square().sum()
    r_squared = (1 - left / total).item() if total > 0 else 0.0
    return ImpliedPreconditioner(solution.reshape(d, d), r_squared)
