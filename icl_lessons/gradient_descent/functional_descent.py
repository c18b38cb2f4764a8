"""Attention whose scores are a kernel descends in that kernel's space of functions.

Cheng, Chen & Sra [cheng2024transformers]: on tokens ``(x_j, y_j)`` with the query's target slot at
0, the layer

.. math:: y_j \\leftarrow y_j - r \\sum_{i \\le N} k(x_j, x_i)\\, y_i,

whose keys and values are the context's tokens only, keeps in every target slot the residual of the
current function, and takes one step of
:func:`~icl_lessons.estimators.kernels.kernel_descent_path`. The prediction is minus the query's
target slot. In matrices ``Y_l = (I - r_l K) ... (I - r_1 K) Y``: Richardson's iteration for ``K a =
Y``, which ends at the posterior mean without noise for rates below ``2 / lambda_max(K)``.

With ``k(a, b) = a . b`` and ``r = eta / N`` the layer is that of Proposition 1 with zero initial
weights [vonoswald2023transformers]; with the rows of ``exp(a . b)`` divided by their sums it is
softmax attention.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.estimators.kernels import Kernel, check_rates
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import check_integer
from icl_lessons.types import Batch


class KernelAttention(nn.Module):
    """A residual attention layer with scores ``k(W_Q e_j, W_K e_i)``, one head.

    The matrices are those of Proposition 1 from zero weights: queries and keys read the input
    slot, values minus the target slot, and ``P`` is the rate times the identity.
    """

    def __init__(self, kernel: Kernel, d: int, m: int, rate: float):
        super().__init__()
        self.kernel = kernel
        w_query, w_value = torch.zeros(2, d + m, d + m, dtype=torch.float64)
        w_query[:d, :d] = torch.eye(d)
        w_value[d:, d:] = -torch.eye(m)
        self.register_buffer("w_query", w_query)
        self.register_buffer("w_key", w_query.clone())
        self.register_buffer("w_value", w_value)
        self.register_buffer("projection", rate * torch.eye(d + m, dtype=torch.float64))

    def forward(
        self, tokens: Float[Tensor, "batch sequence width"], n_context: int
    ) -> Float[Tensor, "batch sequence width"]:
        """All tokens look at the first ``n_context``."""
        context = tokens[:, :n_context]
        matrices = (self.w_query, self.w_key, self.w_value, self.projection)
        w_query, w_key, w_value, project = (w.to(tokens.dtype) for w in matrices)
        scores = self.kernel(tokens @ w_query.mT, context @ w_key.mT)
        return tokens + scores @ (context @ w_value.mT) @ project.mT


class KernelAttentionLearner(nn.Module):
    """A stack of :class:`KernelAttention` layers, one for each rate, read as a learner."""

    def __init__(self, kernel: Kernel, rates: Sequence[float]):
        super().__init__()
        self.kernel = kernel
        self.rates = check_rates(rates)

    def token_path(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "{len(self.rates)}+1 batch sequence d+m"]:
        """The tokens before the first layer and after each."""
        path = [joint_tokens(xs, ys, x_query)]
        for rate in self.rates:
            layer = KernelAttention(self.kernel, xs.shape[2], ys.shape[2], rate).to(xs.device)
            path.append(layer(path[-1], xs.shape[1]))
        return torch.stack(path)

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        """Minus the target slots of the queries after the last layer."""
        return -self.token_path(xs, ys, x_query)[-1, :, xs.shape[1] :, xs.shape[2] :]


def kernel_attention(kernel: Kernel, rates: Sequence[float]) -> KernelAttentionLearner:
    """One layer for each rate, whose scores are ``kernel``: functional gradient descent.

    Its predictions equal those of
    :class:`~icl_lessons.estimators.kernels.FunctionalGradientDescent` for every context.

    Args:
        kernel: any of :mod:`icl_lessons.estimators.kernels`.
        rates: ``r_l``, 0 or more, without a ``1/N``.
    """
    return KernelAttentionLearner(kernel, rates)


def relative_error(prediction: Tensor, batch: Batch) -> float:
    """Mean squared error at the queries over the mean square of their targets: 1 for saying 0."""
    error = (prediction - batch.y_query).square().mean()
    return (error / batch.y_query.square().mean()).item()


def tuned_rates(kernel: Kernel, batch: Batch, layers: int) -> list[tuple[float, ...]]:
    """The rates with the smallest squared error on a batch, for 1, 2, ..., ``layers`` layers.

    After ``L`` layers the prediction is ``k(x_q, X) q(K) Y`` with the polynomial ``q`` for which
    ``1 - t q(t)`` is the product of all ``1 - r_l t``. It is linear in the ``L`` coefficients of
    ``q``, so that after one QR factorisation an error costs ``L^2`` operations, whatever the number
    of contexts. The rates are found by Levenberg and Marquardt's method on their logarithms, from
    two starts for each depth: the rates of the depth before with a small one added, and rates
    spread evenly in logarithm. Equal rates are no start: the error is symmetric in them, and from
    a symmetric point its gradient never leads away.

    Returns:
        One tuple of rates for each depth, sorted.
    """
    check_integer("layers", layers, at_least=1)
    features, size = power_features(kernel, batch, layers)
    target = batch.y_query.double().reshape(-1).cpu().numpy()
    found, best = [], np.zeros(0)
    for depth in range(1, layers + 1):
        q, r = np.linalg.qr(features[:, :depth])
        spread = np.linspace(-0.5, 0.5 * depth, depth)
        starts = [spread, np.append(best, -1.0)]
        best = min((_descend(r, q.T @ target, s) for s in starts), key=lambda pair: pair[0])[1]
        found.append(tuple(sorted((np.exp(best) / size).tolist())))
    return found


def power_features(
    kernel: Kernel, batch: Batch, layers: int
) -> tuple[Float[np.ndarray, "predictions {layers}"], float]:
    """``k(x_q, X) K^l Y`` for ``l = 0, 1, ...``, one column each, with the kernel over its size.

    Returns:
        The columns over all queries and targets of the batch, and the size: the mean over contexts
        of the Frobenius norm of ``K``.
    """
    xs, ys, x_query = (tensor.double() for tensor in batch.context)
    among, to_query = kernel(xs, xs), kernel(x_query, xs)
    size = torch.linalg.matrix_norm(among).mean()
    powers = [ys / size]
    for _ in range(layers - 1):
        powers.append(among @ powers[-1] / size)
    return torch.stack([(to_query @ p).reshape(-1) for p in powers], 1).cpu().numpy(), size.item()


def errors_of_rates(
    kernel: Kernel, batch: Batch, rates: Sequence[Sequence[float]]
) -> Float[np.ndarray, " {len(rates)}"]:
    """:func:`relative_error` of one stack of layers for each row of rates, all in one pass."""
    features, size = power_features(kernel, batch, max(map(len, rates)))
    target = batch.y_query.double().reshape(-1).cpu().numpy()
    predictions = (
        -features[:, : len(row)] @ product_polynomial(size * np.asarray(row))[1:] for row in rates
    )
    return np.array([np.square(p - target).sum() for p in predictions]) / np.square(target).sum()


def product_polynomial(rates: np.ndarray) -> Float[np.ndarray, " {len(rates)}+1"]:
    """Coefficients of the product of all ``1 - r t``, the constant first."""
    coefficients = np.zeros(len(rates) + 1)
    coefficients[0] = 1.0
    for rate in rates:
        coefficients[1:] -= rate * coefficients[:-1]
    return coefficients


def _products_without_one(rates: np.ndarray) -> np.ndarray:
    """In column ``k``, the coefficients of the product of all ``1 - r t`` but the ``k``-th."""
    coefficients = np.zeros((len(rates), len(rates)))
    coefficients[0] = 1.0
    for k, rate in enumerate(rates):
        factors = np.full(len(rates), rate)
        factors[k] = 0.0
        coefficients[1:] -= factors * coefficients[:-1]
    return coefficients


def _descend(r: np.ndarray, target: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """Smallest ``|r c - target|^2`` over logarithms of rates, and where it is."""

    def residual(log_rates: np.ndarray) -> np.ndarray:
        return -r @ product_polynomial(np.exp(log_rates))[1:] - target

    point, damping = start, 1e-2
    now = residual(point)
    for _ in range(100):
        rates = np.exp(point)
        jacobian = r @ _products_without_one(rates) * rates
        normal = jacobian.T @ jacobian
        guard = damping * (np.diag(normal) + 1e-9 * normal.max())
        step = np.linalg.solve(normal + np.diag(guard), -jacobian.T @ now).clip(-1, 1)
        then = residual(point + step)
        gain = now @ now - then @ then
        if gain > 0:
            point, now, damping = point + step, then, damping / 4
            if gain < 1e-11 * (now @ now + target @ target):
                break
        else:
            damping *= 4
            if damping > 1e12:
                break
    return now @ now, point
