"""What multi-head softmax attention becomes: a gradient step with the mean taken out.

Trained on regression in context, a layer of softmax attention ends at a simple pattern
[he2025incontext]: each head's key-query matrix is ``omega_h I`` on the inputs, its values read the
target alone with a factor ``mu_h``, the sizes of the ``omega_h`` agree, signs go together, and the
factors sum to about 0:

.. math:: \\hat y = \\sum_h \\mu_h \\sum_i y_i\\, \\mathrm{softmax}_i(\\omega_h\\, x_i^\\top x_q).

For two heads ``+-omega``, ``+-mu`` and small ``omega`` this is ``2 mu omega`` times a step of
gradient descent on centred inputs. Where the factors sum to 0 exactly, a constant added to every
target does not change the prediction.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_context, check_integer, check_number, check_tensor

Heads = Float[Tensor, " heads"]


@dataclass(frozen=True)
class SoftmaxHeads:
    """The pattern as a learner.

    Attributes:
        omega: factor on the scores of each head, ``[heads]``.
        mu: factor on the targets that each head averages, ``[heads]``.
    """

    omega: Heads
    mu: Heads

    def __post_init__(self):
        for name in ("omega", "mu"):
            check_tensor(name, getattr(self, name), "heads")
        if self.omega.shape != self.mu.shape:
            raise ValueError(
                f"mu: {len(self.mu)} heads, but omega has {len(self.omega)}; use one for each"
            )

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        scores = x_query @ xs.mT
        weights = (self.omega[:, None, None, None] * scores).softmax(-1)
        return torch.einsum("h,hbqn,bnm->bqm", self.mu, weights, ys)

    def attention_matrices(self, d: int, m: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same as matrices of an attention layer on joint tokens ``(x, y)``.

        Returns:
            ``w_query, w_key, w_value, projection`` for
            :func:`~icl_lessons.models.attention.softmax_attention` with ``scale=1`` and
            :func:`~icl_lessons.models.attention.context_mask`; the prediction is plus the query's
            target slot.
        """
        heads, width = len(self.omega), d + m
        w_query = self.omega.new_zeros(heads, d, width)
        w_key, w_value = w_query.clone(), self.omega.new_zeros(heads, m, width)
        w_key[:, :, :d] = torch.eye(d).to(w_key)
        w_query[:, :, :d] = self.omega[:, None, None] * torch.eye(d).to(w_query)
        w_value[:, :, d:] = torch.eye(m).to(w_value)
        projection = self.omega.new_zeros(heads, width, m)
        projection[:, d:] = self.mu[:, None, None] * torch.eye(m).to(projection)
        return w_query, w_key, w_value, projection


@dataclass(frozen=True)
class DebiasedDescent:
    """``y_hat = eta/N sum_i y_i (x_i - x_mean)^T x_q``: a step from zero on centred inputs."""

    step_size: float

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        centred = xs - xs.mean(1, keepdim=True)
        return self.step_size / xs.shape[1] * (x_query @ centred.mT @ ys)


def _interaction(omega: Heads, d: int, n_context: int, noise_variance: float) -> Tensor:
    check_tensor("omega", omega, "heads")
    check_integer("d", d, at_least=1)
    check_integer("n_context", n_context, at_least=1)
    check_number("noise_variance", noise_variance)
    products = torch.outer(omega, omega)
    return products + (1 + noise_variance) / n_context * (d * products).exp()


def approximate_loss(
    mu: Heads, omega: Heads, d: int, n_context: int, noise_variance: float = 0.0
) -> Float[Tensor, ""]:
    """``1 + s^2 - 2 mu.omega + mu^T (omega omega^T + (1 + s^2)/N exp(d omega omega^T)) mu``.

    The loss of the pattern as He et al. approximate it, with the exponential taken entry by entry,
    for inputs ``N(0, I)``, tasks scaled so that ``w.x`` has variance 1 and noise variance ``s^2``;
    ``E (y_hat - y)^2`` without a half, the query's noise included.
    """
    interaction = _interaction(omega, d, n_context, noise_variance)
    return 1 + noise_variance - 2 * mu @ omega + mu @ interaction @ mu


def best_outputs(omega: Heads, d: int, n_context: int, noise_variance: float = 0.0) -> Heads:
    """``mu*(omega)``, the lowest point of :func:`approximate_loss` for given scores.

    Raises:
        ValueError: two heads with the same ``omega``: only the sum of their outputs matters.
    """
    interaction = _interaction(omega, d, n_context, noise_variance)
    if torch.linalg.cond(interaction) > 1e12:
        raise ValueError("omega: two heads have the same score factor; only their sum has a best")
    return torch.linalg.solve(interaction, omega)
