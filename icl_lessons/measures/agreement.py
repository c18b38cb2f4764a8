"""Do two learners agree? In what they predict, and in how the prediction changes with the query.

Every function takes learners, whatever they are made of, and a batch of contexts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_context, check_tensor
from icl_lessons.types import Batch, Learner


def _predict(
    learner: Learner, batch: Batch, x_query: Tensor | None = None
) -> Float[Tensor, "batch n_query m"]:
    """The learner's predictions; another shape would broadcast into numbers that mean nothing."""
    prediction = learner(batch.xs, batch.ys, batch.x_query if x_query is None else x_query)
    if prediction.shape != batch.y_query.shape:
        raise ValueError(
            f"learner: predicted shape {tuple(prediction.shape)}; "
            f"use [batch, n_query, m] = {tuple(batch.y_query.shape)}"
        )
    return prediction


RELATIVE_ERROR = "largest error over size of the answer, float64"  # the unit of the next function


def relative_error(got: Tensor, expected: Tensor) -> float:
    """``max |got - expected| / max(1, max |expected|)``: by how much two tensors are not equal.

    What the identities of the ledger are held to.
    """
    return ((got - expected).abs().max() / expected.abs().max().clamp_min(1.0)).item()


def mean_squared_error(learner: Learner, batch: Batch) -> float:
    """Half the mean squared error, ``1/2 E |y_hat - y_query|^2``, summed over outputs.

    The half is von Oswald et al.'s; Garg et al. print the error without it and divided by ``d``.
    """
    error = _predict(learner, batch) - batch.y_query
    return 0.5 * error.square().sum(-1).mean().item()


def squared_error(learner: Learner, batch: Batch) -> float:
    """``E (y_hat - y_query)^2`` without the half, a mean over outputs: 1 for an answer of 0 to
    targets of variance 1.
    """
    with torch.no_grad():
        return (_predict(learner, batch) - batch.y_query).square().mean().item()


def prediction_difference(first: Learner, second: Learner, batch: Batch) -> float:
    """Mean of ``|y_hat_1 - y_hat_2|`` (Euclidean over outputs), in the targets' unit.

    [vonoswald2023transformers, section 3, measure 1]
    """
    difference = _predict(first, batch) - _predict(second, batch)
    return difference.norm(dim=-1).mean().item()


def squared_prediction_difference(first: Learner, second: Learner, batch: Batch) -> float:
    """Mean of ``|y_hat_1 - y_hat_2|^2``, summed over outputs, not divided by ``d``.

    [akyurek2023what, eq. 13; their figures divide by ``d``]
    """
    difference = _predict(first, batch) - _predict(second, batch)
    return difference.square().sum(-1).mean().item()


def sensitivity(learner: Learner, batch: Batch) -> Float[Tensor, "batch n_query m d"]:
    """Derivative of each prediction with respect to its own query input.

    For a learner that is linear in the query these are the weights it holds, so comparing
    sensitivities compares the models that two learners have fitted.
    """
    x_query = batch.x_query.detach().requires_grad_()
    with torch.enable_grad():
        prediction = _predict(learner, batch, x_query)
        if not prediction.requires_grad:
            return prediction.new_zeros(*prediction.shape, x_query.shape[-1])
        rows = [
            torch.autograd.grad(
                prediction[..., k].sum(), x_query, retain_graph=True, materialize_grads=True
            )[0]
            for k in range(prediction.shape[-1])
        ]
    return torch.stack(rows, -2)


def sensitivity_cosine(first: Learner, second: Learner, batch: Batch) -> float:
    """Mean cosine between the two sensitivities, flattened over outputs and inputs.

    It is 1 for any two learners whose fitted weights are parallel, whatever their lengths: read it
    beside :func:`model_difference`. [vonoswald2023transformers, section 3, measure 2]
    """
    one, two = (sensitivity(learner, batch).flatten(2) for learner in (first, second))
    return torch.nn.functional.cosine_similarity(one, two, dim=-1).mean().item()


def model_difference(first: Learner, second: Learner, batch: Batch) -> float:
    """Mean Euclidean norm of the difference of sensitivities.

    [vonoswald2023transformers, section 3, measure 3]
    """
    difference = sensitivity(first, batch) - sensitivity(second, batch)
    return difference.flatten(2).norm(dim=-1).mean().item()


class Agreement(NamedTuple):
    """The three measures of von Oswald et al., section 3, on one batch."""

    prediction_difference: float
    sensitivity_cosine: float
    model_difference: float


def agreement(first: Learner, second: Learner, batch: Batch) -> Agreement:
    """All three at once: the same numbers as the three functions, with less work."""
    one, two = (sensitivity(learner, batch).flatten(2) for learner in (first, second))
    cosine = torch.nn.functional.cosine_similarity(one, two, dim=-1).mean().item()
    difference = (one - two).norm(dim=-1).mean().item()
    return Agreement(prediction_difference(first, second, batch), cosine, difference)


class ImplicitLinearModel(NamedTuple):
    """The linear model closest to a learner on given inputs, and how much of it that explains."""

    weights: Float[Tensor, "batch m d"]
    r_squared: Float[Tensor, " batch"]


def implicit_linear_weights(
    learner: Learner,
    xs: Float[Tensor, "batch n_context d"],
    ys: Float[Tensor, "batch n_context m"],
    x_probe: Float[Tensor, "batch n_probe d"],
) -> ImplicitLinearModel:
    """Fit ``y_hat = W x`` to a learner's predictions on fresh inputs [akyurek2023what, eq. 14].

    Args:
        x_probe: at least ``d`` inputs for each context.

    Returns:
        The fitted weights and, for each context, the share of the predictions' square that they
        explain: 1 for a learner that is linear in its query.
    """
    check_context(xs, ys, x_probe)
    if x_probe.shape[1] < x_probe.shape[2]:
        raise ValueError(
            f"x_probe: {x_probe.shape[1]} inputs cannot fix {x_probe.shape[2]} weights; "
            "use at least d of them"
        )
    with torch.no_grad():
        predictions = learner(xs, ys, x_probe)
    check_tensor("learner's predictions", predictions, "batch n_probe m")
    weights = torch.linalg.lstsq(x_probe.double(), predictions.double()).solution.to(xs.dtype)
    residual = (predictions - x_probe @ weights).square().sum((1, 2))
    total = predictions.square().sum((1, 2))
    explained = torch.where(total > 0, 1 - residual / total, torch.ones_like(total))
    return ImplicitLinearModel(weights.mT, explained)


def implicit_linear_weight_difference(
    first: Learner, second: Learner, batch: Batch, x_probe: Float[Tensor, "batch n_probe d"]
) -> float:
    """Mean of ``|w_1 - w_2|^2`` between implicit linear weights [akyurek2023what, eq. 15]."""
    one, two = (
        implicit_linear_weights(learner, batch.xs, batch.ys, x_probe).weights
        for learner in (first, second)
    )
    return (one - two).square().sum((1, 2)).mean().item()
