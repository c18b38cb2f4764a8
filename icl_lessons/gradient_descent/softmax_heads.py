"""Softmax attention and one step of gradient descent: why it takes two heads.

A softmax head with small scores ``eps x_i . x_q`` averages values with weights ``1/N (1 + eps (s_i
- s_mean) + ...)``: first the plain mean, which no linear layer has, then the term that is wanted.
Two heads with scores of opposite sign and outputs of opposite sign cancel the mean, and every even
order with it:

.. math:: \\frac{\\eta}{2 \\varepsilon} \\sum_i (p_i(\\varepsilon) - p_i(-\\varepsilon))\\, y_i
          = \\eta \\frac1N \\sum_i (y_i - \\bar y)(x_i - \\bar x)^\\top x_q + O(\\varepsilon^2).

What is left is one step of gradient descent on the *centred* context: the normaliser of the softmax
takes out the means. The softmax divides by ``N`` itself, so the weights hold ``eta`` and not ``eta
/ N``. [vonoswald2023transformers, appendix A.9; the limit is derived here]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.estimators.descent import GradientDescent, StepSizes, step_sizes
from icl_lessons.gradient_descent.one_step import (
    LinearSelfAttentionLearner,
    gradient_descent_matrices,
)
from icl_lessons.gradient_descent.population_loss import BestStep
from icl_lessons.models.attention import SelfAttention
from icl_lessons.runtime import check_context, check_integer, check_number
from icl_lessons.tasks.regression import LinearRegression


@dataclass(frozen=True)
class CentredDescent:
    """Gradient descent on the context less its means: ``x_i - x_mean`` with ``y_i - y_mean``.

    The query is not centred and no mean is added to the prediction. One step from ``W_0`` is ``W_0
    + eta/N sum_i (y_i - y_mean - W_0 (x_i - x_mean)) (x_i - x_mean)^T``.
    """

    step_size: StepSizes
    steps: int = 1
    initial_weights: Tensor | None = None

    def __post_init__(self):
        step_sizes(self.step_size, self.steps)

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        descent = GradientDescent(self.step_size, self.steps, self.initial_weights)
        return descent(xs - xs.mean(1, keepdim=True), ys - ys.mean(1, keepdim=True), x_query)


def best_centred_step(task: LinearRegression, n_context: int) -> BestStep:
    """The centred step from ``W_0 = 0`` whose expected loss is smallest, in closed form.

    The empirical covariance of ``N`` centred inputs has the mean ``(1 - 1/N) s2`` and, with ``k =
    m4 - 3 s2^2``, the expected square ``tau = (s2^2 (N-1)(d + N) + k (N-1)^2/N) / N^2``.

    Args:
        task: one target, no noise, independent input coordinates.
        n_context: ``N``, 2 or more: one example less its mean is nothing.
    """
    check_integer("n_context", n_context, at_least=2)
    if task.m != 1 or task.noise_std != 0:
        raise ValueError(
            f"task: the closed form is for one target without noise; got m={task.m}, "
            f"noise_std={task.noise_std}"
        )
    n, d, s2 = n_context, task.d, task.input_variance
    excess = task.input_fourth_moment - 3 * s2**2
    tau = (s2**2 * (n - 1) * (d + n) + excess * (n - 1) ** 2 / n) / n**2
    mean = (1 - 1 / n) * s2
    zero = 0.5 * s2 * d * task.task_scale**2
    return BestStep(mean / tau, zero * (1 - mean**2 / tau), zero)


class SoftmaxAttentionLearner(LinearSelfAttentionLearner):
    """Softmax attention layers on raw ``(x, y)`` tokens, read as a learner; no query is a key.

    As :class:`~icl_lessons.gradient_descent.one_step.LinearSelfAttentionLearner`, computing no more
    than is read: of the last layer only the queries.
    """

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        """Minus the target slots of the queries after the last layer."""
        tokens, n = self.tokens(xs, ys, x_query), xs.shape[1]
        *first, last = (self.layers[index] for index in self.order)
        for layer in first:
            tokens = tokens + _softmax_update(layer, tokens, tokens[:, :n])
        query = tokens[:, n:]
        return -(query + _softmax_update(last, query, tokens[:, :n]))[..., self.d :]


def _softmax_update(layer: SelfAttention, asking: Tensor, context: Tensor) -> Tensor:
    scores = asking[:, None] @ score_matrices(layer).mT @ context[:, None].mT
    values = context[:, None] @ layer.projection_value().mT
    return (scores.softmax(-1) @ values).sum(1)


def score_matrices(layer: SelfAttention) -> Float[Tensor, "heads width width"]:
    """``W_K^T W_Q`` of each head with the softmax's scale in it: ``score = e_i . A e_j``."""
    return layer.key_query() * layer.w_query.shape[1] ** -0.5


def softmax_layer(
    score_scales: Sequence[float],
    output_scales: Sequence[float],
    d: int,
    m: int,
    initial_weights: Float[Tensor, "m d"] | None = None,
    dtype: torch.dtype = torch.float64,
) -> SelfAttention:
    """A softmax layer whose head ``h`` has scores ``a_h x_i . x_j`` and writes ``c_h`` times the
    average of ``W_0 x_i - y_i`` into the target slot.

    Args:
        score_scales: ``a_h``, one for each head, of any sign.
        output_scales: ``c_h``.
        d, m, initial_weights: as of the linear construction.
    """
    if len(score_scales) != len(output_scales) or not score_scales:
        raise ValueError(
            f"output_scales: {len(output_scales)} for {len(score_scales)} score_scales; give one "
            "of each for every head"
        )
    w_query, w_key, w_value, _ = gradient_descent_matrices(
        d, m, 1, 1.0, initial_weights, dtype=dtype
    )
    width = d + m
    heads = torch.tensor(score_scales, dtype=dtype)[:, None, None]
    writes = torch.tensor(output_scales, dtype=dtype)[:, None, None]
    return SelfAttention.from_matrices(
        heads * width**0.5 * w_query,  # undoes the softmax's scale
        w_key.expand(len(heads), -1, -1),
        w_value.expand(len(heads), -1, -1),
        writes * torch.eye(width, dtype=dtype),
        kind="softmax",
    )


def two_softmax_heads(
    d: int,
    m: int,
    step_size: float,
    score_scale: float,
    initial_weights: Float[Tensor, "m d"] | None = None,
    steps: int = 1,
    dtype: torch.dtype = torch.float64,
) -> SoftmaxAttentionLearner:
    """Two softmax heads that approach one step of centred gradient descent as their scores shrink.

    Head 1 has scores ``eps x_i . x_j`` and writes ``eta / (2 eps)`` times its average, head 2 has
    ``-eps`` and ``-eta / (2 eps)``. The difference from :class:`CentredDescent` falls as ``eps^2``.

    Args:
        d, m, initial_weights: as of the linear construction. No ``n_context``: a softmax divides
            by the number of examples itself, whatever it is.
        step_size: ``eta``, 0 or more.
        score_scale: ``eps``, greater than 0: the inverse of a temperature.
        steps: layers, the same one again and again.
    """
    check_number("step_size", step_size)
    check_number("score_scale", score_scale, positive=True)
    check_integer("steps", steps, at_least=1)
    write = step_size / (2 * score_scale)
    layer = softmax_layer(
        (score_scale, -score_scale), (write, -write), d, m, initial_weights, dtype
    )
    return SoftmaxAttentionLearner([layer] * steps, d, initial_weights).requires_grad_(False)


def softmax_average(
    scores: Float[Tensor, "batch n_query n_context"], values: Float[Tensor, "batch n_context m"]
) -> Float[Tensor, "batch n_query m"]:
    """``sum_i softmax(scores)_i values_i``: what one head writes."""
    return scores.softmax(-1) @ values


def remainder_coefficient(
    xs: Float[Tensor, "batch n_context d"],
    ys: Float[Tensor, "batch n_context m"],
    x_query: Float[Tensor, "batch n_query d"],
) -> Float[Tensor, "batch n_query m"]:
    """What two heads add to the centred step at order ``eps^2``, divided by ``eta eps^2 / 6``.

    With ``s_i = x_i . x_q``, it is the joint cumulant of ``y, s, s, s`` over the context: ``mean(y
    s^3) - 3 mean(s^2) mean(y s)``, all less their means.
    """
    check_context(xs, ys, x_query)
    s = x_query @ xs.mT  # [batch, n_query, n_context]
    s, y = s - s.mean(-1, keepdim=True), ys - ys.mean(1, keepdim=True)
    n = xs.shape[1]
    return s**3 @ y / n - 3 * s.square().mean(-1, keepdim=True) * (s @ y / n)


def best_output_scales(
    averages: Float[Tensor, "samples heads"], targets: Float[Tensor, " samples"]
) -> tuple[Float[Tensor, " heads"], float]:
    """The output scales ``c_h`` with which ``sum_h c_h averages_h`` is nearest to the targets, and
    the loss ``1/2 E (y_hat - y)^2`` that they leave: the best heads of given scores."""
    gram, cross = averages.mT @ averages, averages.mT @ targets
    scales = torch.linalg.solve(gram, cross)
    loss = 0.5 * (targets.square().sum() - scales @ cross) / len(targets)
    return scales, loss.item()


class NormalisedAttentionLearner(nn.Module):
    """A linear layer that sees its tokens through LayerNorm, the residual stream left as it is.

    ``e_q <- e_q + P W_V sum_i n_i (W_K n_i)^T (W_Q n_q)`` with ``n = LayerNorm(e)``, gain and
    offset trained. Normalised tokens are as large for large inputs as for small ones.

    Args:
        attention: one linear layer, without initial weights.
    """

    def __init__(self, attention: LinearSelfAttentionLearner):
        super().__init__()
        if len(attention.order) != 1 or attention.layers[0].kind != "linear":
            raise ValueError("attention: use a learner of one linear layer")
        self.attention = attention
        layer = attention.layers[0]
        self.norm = nn.LayerNorm(layer.w_query.shape[-1], dtype=layer.w_query.dtype)

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        tokens = self.norm(self.attention.tokens(xs, ys, x_query))
        context, query = tokens[:, : xs.shape[1]], tokens[:, xs.shape[1] :]
        layer, d = self.attention.layers[0], self.attention.d
        scores = query[:, None] @ layer.key_query().mT @ context[:, None].mT
        return -(scores @ (context[:, None] @ layer.projection_value()[:, d:].mT)).sum(1)
