"""An inner objective that learnt to trust a cue: a merged linear attention layer, in closed form.

On the task of :class:`~icl_lessons.tasks.spurious_feature.SpuriousFeature` one linear attention
layer, its key and query matrices merged, answers ``y_hat = beta M z_q`` with
``beta = 1/N sum_i y_i z_i^T``. That is one step of gradient descent from ``W = 0`` on

.. math:: \\frac1{2N} \\sum_i \\big(y_i - W M^{1/2} z_i\\big)^2

in the coordinates ``M^{1/2} z``, for a symmetric ``M`` without negative eigenvalues: the entries of
``M`` say how much the inner objective trusts each input. And since the answer is linear in ``M``,
training to convergence is linear regression of the query's target on the features ``beta^T z_q^T``:
:func:`fitted_layer` for prompts that were drawn, :func:`population_weights` for all prompts at
once.

**Closed form.** Turning the core inputs and flipping the cue change nothing in the law of the task,
so the best ``M`` is ``diag(a, ..., a, b)``. With ``P = beta_x . x_q`` and ``Q = beta_s s_q`` the
answer is ``a P + b Q``, and ``(a, b)`` solves two normal equations in moments of normal variables.

Losses here are ``E (y_hat - y)^2``, without the half.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.measures.agreement import squared_error as squared_error
from icl_lessons.measures.label_influence import label_influence
from icl_lessons.runtime import check_context, check_integer, check_tensor
from icl_lessons.tasks.spurious_feature import SpuriousFeature
from icl_lessons.types import Batch, Learner

TRAINING_LAWS = ("corr", "mixed", "dec")
TEST_MODES = ("corr", "dec", "anti", "queryflip")


@dataclass(frozen=True)
class MergedLinearAttention:
    """The learner ``y_hat = (1/N sum_i y_i z_i^T) M z_q``: one step from 0 in the metric ``M``.

    Attributes:
        matrix: ``M``, ``[d, d]``; it need not be symmetric.
    """

    matrix: Float[Tensor, "d d"]

    def __post_init__(self):
        check_tensor("matrix", self.matrix, "d d")
        if self.matrix.shape[0] != self.matrix.shape[1]:
            raise ValueError(f"matrix: got shape {tuple(self.matrix.shape)}; use a square matrix")

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        if xs.shape[2] != len(self.matrix):
            raise ValueError(f"xs: {xs.shape[2]} coordinates for a layer of {len(self.matrix)}")
        return x_query @ (ys.mT @ xs @ self.matrix / xs.shape[1]).mT


def fitted_layer(batch: Batch) -> MergedLinearAttention:
    """The layer with the least squared error on these prompts: training, run to convergence.

    Solved in float64 by the normal equations; of one target (``m = 1``).

    Raises:
        ValueError: several targets, or fewer queries than entries of ``M``.
    """
    d = batch.xs.shape[2]
    if batch.ys.shape[2] != 1:
        raise ValueError(f"batch: {batch.ys.shape[2]} targets; this fit is for one")
    beta = (batch.ys.mT @ batch.xs)[:, 0].double() / batch.xs.shape[1]
    features = (beta[:, None, :, None] * batch.x_query.double()[..., None, :]).flatten(2)
    features = features.flatten(0, 1)
    if len(features) < d * d:
        raise ValueError(f"batch: {len(features)} queries for {d * d} entries; draw more prompts")
    target = batch.y_query.double().flatten()
    entries = torch.linalg.solve(features.mT @ features, features.mT @ target)
    return MergedLinearAttention(entries.reshape(d, d).to(batch.xs.dtype))


# --- over all prompts at once -------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """What the normal equations of ``a P + b Q`` need, and what its loss needs.

    Attributes:
        second: ``E [P, Q]^T [P, Q]``, ``[2, 2]``.
        cross: ``E y [P, Q]``, ``[2]``.
        target: ``E y^2``.
    """

    second: Float[Tensor, "2 2"]
    cross: Float[Tensor, " 2"]
    target: float


def moments(task: SpuriousFeature, n_context: int) -> Moments:
    """The moments of one task, exactly, in float64.

    Write ``v = E y^2`` and ``t`` for ``cue_noise``. A cue that follows has
    ``E beta_s = v``, ``E beta_s^2 = v^2 + (2 v^2 + t^2 v) / N`` and
    ``E (beta_x . w) beta_s = v + 2 v / N``; one that is free has ``0``, ``v (v + t^2) / N`` and
    ``0``. Both in the unit of ``cue_scale``.
    """
    check_integer("n_context", n_context, at_least=1)
    if task.mode == "mixed":
        parts = [
            (share, moments(SpuriousFeature(**{**vars(task), "mode": mode}), n_context))
            for share, mode in ((task.share, "corr"), (1 - task.share, "dec"))
        ]
        return Moments(
            sum(share * part.second for share, part in parts),
            sum(share * part.cross for share, part in parts),
            task.target_variance,
        )
    n, v, t2, scale = n_context, task.target_variance, task.cue_noise**2, task.cue_scale**2
    in_context = {"dec": 0.0, "anti": -1.0}.get(task.mode, 1.0)  # sign of the relation there
    at_query = {"dec": 0.0, "querydec": 0.0, "anti": -1.0, "queryflip": -1.0}.get(task.mode, 1.0)
    cue_square = v**2 + (2 * v**2 + t2 * v) / n if in_context else v * (v + t2) / n
    pp = 1 + (1 + v + (task.d - 1) * v) / n
    pq = scale * in_context * at_query * (v + 2 * v / n)
    qq = scale**2 * cue_square * (v + t2)
    cross = [1.0, scale * in_context * at_query * v**2]
    return Moments(
        torch.tensor([[pp, pq], [pq, qq]], dtype=torch.float64),
        torch.tensor(cross, dtype=torch.float64),
        v,
    )


def population_weights(task: SpuriousFeature, n_context: int) -> Float[Tensor, " 2"]:
    """``(a, b)`` of the best layer ``diag(a, ..., a, b)`` over all prompts of a task."""
    exact = moments(task, n_context)
    return torch.linalg.solve(exact.second, exact.cross)


def population_layer(task: SpuriousFeature, n_context: int) -> MergedLinearAttention:
    """That layer, in float64."""
    core, cue = population_weights(task, n_context)
    return MergedLinearAttention(torch.diag(torch.cat([core.expand(task.d), cue[None]])))


def population_loss(weights: Float[Tensor, " 2"], task: SpuriousFeature, n_context: int) -> float:
    """``E (y_hat - y)^2`` of the layer ``diag(a, ..., a, b)`` over all prompts of a task."""
    check_tensor("weights", weights, "two")
    if weights.shape != (2,):
        raise ValueError(f"weights: got shape {tuple(weights.shape)}; use the two numbers (a, b)")
    exact = moments(task, n_context)
    weights = weights.double()
    return (exact.target - 2 * weights @ exact.cross + weights @ exact.second @ weights).item()


# --- reading ------------------------------------------------------------------------------------


def cue_share(matrix: Float[Tensor, "d d"]) -> float:
    """Share of the diagonal's absolute sum that stands at the cue, the last input.

    Raises:
        ValueError: a diagonal of zeros, of which nothing has a share.
    """
    diagonal = matrix.diagonal().abs()
    if not diagonal.any():
        raise ValueError("matrix: its diagonal is 0; there is no inner objective to share in")
    return (diagonal[-1] / diagonal.sum()).item()


def label_use(learner: Learner, batch: Batch) -> float:
    """Root mean square of ``N d y_hat / d y_i``: how far a prediction rests on the labels at all.

    About ``sqrt(d)`` for one full step on ``d`` standard normal inputs, 0 for a fixed rule.
    """
    return batch.xs.shape[1] * label_influence(learner, batch).square().mean().sqrt().item()
