"""The mesa layer: attention that solves its own least-squares problem at every position.

Each head of the layer keeps a linear model from keys to values and applies it to the query
[vonoswald2023uncovering, section on the mesa layer]. At position ``t`` the model is the minimiser

.. math:: \\hat\\Phi_t = \\arg\\min_\\Phi \\tfrac12 \\sum_{t' \\le t} \\|v_{t'} - \\Phi k_{t'}\\|^2
          + \\tfrac{1}{2\\lambda} \\|\\Phi\\|_F^2
          = \\Big(\\sum_{t' \\le t} v_{t'} k_{t'}^\\top\\Big) R_t, \\qquad
          R_t = \\Big(\\sum_{t' \\le t} k_{t'} k_{t'}^\\top + \\tfrac1\\lambda I\\Big)^{-1},

and the head's output is :math:`\\hat\\Phi_t q_t`. The objective is a **sum** over pairs, as in the
paper, not a mean: :math:`1/\\lambda` is the ``penalty`` of
:func:`~icl_lessons.estimators.least_squares.ridge_weights`. The pair of position ``t`` itself is
included. A small :math:`\\lambda` is a strong prior, and in that limit
:math:`\\hat\\Phi_t / \\lambda` is what linear attention computes.

With forgetting :math:`\\gamma_t \\in (0, 1]` both sums shrink by :math:`\\gamma_t` before the pair
of position ``t`` is added, the prior's share :math:`I/\\lambda` too.

Three functions return the same numbers: :func:`mesa_attention` solves a system at every position,
:func:`recursive_mesa_attention` carries ``R_t`` along by the Sherman-Morrison formula, and
:func:`memory_free_mesa_attention` does so without keeping any ``R_t`` for its backward pass.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from icl_lessons.models.attention import Matrices, Projections, Tokens, check_attention
from icl_lessons.runtime import (
    check_choice,
    check_integer,
    check_number,
    check_tensor,
    inside_transform,
)

Keys = Float[Tensor, "batch heads length key_width"]
PairValues = Float[Tensor, "batch heads length value_width"]
Regularization = float | int | Float[Tensor, " heads"]
Forgetting = Float[Tensor, "batch heads length"]
Method = Literal["closed form", "recursive", "memory free"]


def mesa_attention(
    keys: Keys,
    values: PairValues,
    queries: Keys,
    regularization: Regularization,
    forgetting: Forgetting | None = None,
) -> PairValues:
    """``\\hat Phi_t q_t`` at every position, from cumulative sums and one solve each.

    Differentiable in every tensor it is given. It holds a ``[key_width, key_width]`` matrix for
    each position, head and sequence.

    Args:
        keys, queries: ``[batch, heads, length, key_width]``.
        values: ``[batch, heads, length, value_width]``.
        regularization: ``lambda``, one for all heads or ``[heads]``; greater than 0. The prior's
            weight is ``1 / lambda``.
        forgetting: ``gamma_t`` in (0, 1], ``[batch, heads, length]``; 1 everywhere if ``None``.

    Returns:
        ``[batch, heads, length, value_width]``.

    Raises:
        TypeError, ValueError: an argument that does not fit the others, by name; a product of
            forgetting factors too small for the dtype (:func:`recursive_mesa_attention` goes on, as
            long as the keys that are not yet forgotten span all directions).
    """
    strength = _checked(keys, values, queries, regularization, forgetting)
    weighted = keys
    if forgetting is not None:
        # Both sums carry the factor gamma_1 ... gamma_t, which cancels: pair t' keeps its inverse.
        share = forgetting.cumprod(-1)
        if share.min() < torch.finfo(keys.dtype).tiny ** 0.5:
            raise ValueError(
                f"forgetting: its product falls to {share.min().item():.1g}, too small for "
                f"{keys.dtype}; use float64 or recursive_mesa_attention"
            )
        weighted = keys / share[..., None]
    covariance = torch.einsum("bhti,bhtj->bhtij", weighted, keys).cumsum(2)
    products = torch.einsum("bhtv,bhtj->bhtvj", values, weighted).cumsum(2)
    prior = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)
    system = covariance + prior / strength[:, None, None, None]
    turned = torch.linalg.solve(system, queries[..., None])  # R_t q_t
    return (products @ turned)[..., 0]


def recursive_mesa_attention(
    keys: Keys,
    values: PairValues,
    queries: Keys,
    regularization: Regularization,
    forgetting: Forgetting | None = None,
) -> PairValues:
    """The same by recursive least squares: ``R_0 = lambda I`` and one rank-one update a position.

    .. math:: R_t = \\gamma_t^{-1} \\Big(R_{t-1} - \\frac{R_{t-1} k_t k_t^\\top R_{t-1}}
              {\\gamma_t + k_t^\\top R_{t-1} k_t}\\Big), \\qquad
              N_t = \\gamma_t N_{t-1} + v_t k_t^\\top, \\qquad \\text{output } N_t R_t q_t .

    Arguments and result as in :func:`mesa_attention`.
    """
    strength = _checked(keys, values, queries, regularization, forgetting)
    gamma = keys.new_ones(keys.shape[:3]) if forgetting is None else forgetting
    inverse, products = _start(keys, values, strength)
    outputs = []
    for t in range(keys.shape[2]):
        inverse, products = _step(inverse, products, keys[:, :, t], values[:, :, t], gamma[:, :, t])
        outputs.append(_apply(products, _apply(inverse, queries[:, :, t])))
    return torch.stack(outputs, 2)


def memory_free_mesa_attention(
    keys: Keys,
    values: PairValues,
    queries: Keys,
    regularization: Regularization,
    forgetting: Forgetting | None = None,
) -> PairValues:
    """The same recursion, whose backward pass computes every ``R_{t-1}`` again from ``R_t``.

    Autograd would keep a matrix for each position. Here only the last ones are kept, and the
    Sherman-Morrison formula is run in reverse (:func:`reverse_update`). **Use float64**: every
    reverse step loses some digits, and in float32 long sequences or large ``lambda`` lose them all.
    First derivatives only.

    Arguments and result as in :func:`mesa_attention`.
    """
    strength = _checked(keys, values, queries, regularization, forgetting)
    gamma = keys.new_ones(keys.shape[:3]) if forgetting is None else forgetting
    return _MemoryFree.apply(keys, values, queries, strength, gamma)


def reverse_update(
    inverse: Float[Tensor, "batch heads key_width key_width"],
    key: Float[Tensor, "batch heads key_width"],
    gamma: Float[Tensor, "batch heads"] | float | int = 1.0,
) -> Float[Tensor, "batch heads key_width key_width"]:
    """``R_{t-1}`` from ``R_t`` and ``k_t``: the Sherman-Morrison formula run backwards.

    .. math:: R_{t-1} = \\gamma_t \\Big(R_t
              - \\frac{R_t k_t k_t^\\top R_t}{k_t^\\top R_t k_t - 1}\\Big)

    The denominator is never 0, since :math:`k_t^\\top R_t k_t < 1`; it comes close where ``lambda``
    is large, and digits are lost there.
    """
    turned = _apply(inverse, key)
    gap = (key * turned).sum(-1)[..., None, None] - 1
    gamma = gamma[..., None, None] if isinstance(gamma, Tensor) else gamma
    return gamma * (inverse - _outer(turned, turned) / gap)


class MesaAttention(nn.Module):
    """A residual mesa layer whose matrices can be written down or trained.

    ``e_t <- e_t + sum_h P_h Phi_t^h W_Q^h e_t`` with keys ``W_K^h e_t'`` and values ``W_V^h e_t'``
    of all positions up to ``t``: causal without a mask.

    Args:
        width: width of a token.
        heads: number of heads, summed.
        head_width: width of queries, keys and values; ``width`` if ``None``.
        regularization: ``lambda`` of every head at the start; greater than 0.
        method: which of the three functions computes it. They agree up to rounding.
        init_std: standard deviation of the normal start of every matrix.
        generator: where the start comes from; a seed of 0 if ``None``.

    The parameters are ``w_query``, ``w_key``, ``w_value`` (``[heads, head_width, width]``),
    ``projection`` (``[heads, width, head_width]``) and ``log_regularization`` (``[heads]``).
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        head_width: int | None = None,
        *,
        regularization: float | int = 1.0,
        method: Method = "closed form",
        init_std: float = 0.02,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_integer("width", width, at_least=1)
        check_integer("heads", heads, at_least=1)
        head_width = width if head_width is None else head_width
        check_integer("head_width", head_width, at_least=1)
        check_number("regularization", regularization, positive=True)
        check_choice("method", method, tuple(_METHODS))
        check_number("init_std", init_std)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.method = method
        for name, shape in {
            "w_query": (heads, head_width, width),
            "w_key": (heads, head_width, width),
            "w_value": (heads, head_width, width),
            "projection": (heads, width, head_width),
        }.items():
            start = init_std * torch.randn(shape, generator=generator, dtype=dtype)
            self.register_parameter(name, nn.Parameter(start))
        start = torch.full((heads,), float(regularization), dtype=dtype).log()
        self.log_regularization = nn.Parameter(start)

    @classmethod
    def from_matrices(
        cls,
        w_query: Matrices,
        w_key: Matrices,
        w_value: Float[Tensor, "heads value_width width"],
        projection: Projections,
        regularization: Regularization = 1.0,
        method: Method = "closed form",
    ) -> "MesaAttention":
        """A layer that holds the given matrices (copied); values may be wider than keys.

        Raises:
            TypeError, ValueError: a matrix that does not fit the others, by name.
        """
        check_tensor("w_query", w_query, "heads head_width width")
        heads, head_width, width = w_query.shape
        check_attention(w_query.new_zeros(1, 1, width), w_query, w_key, w_value, projection)
        strength = _per_head(regularization, heads, w_query)
        layer = cls(width, heads, head_width, method=method, init_std=0.0, dtype=w_query.dtype)
        for name, matrix in {
            "w_query": w_query,
            "w_key": w_key,
            "w_value": w_value,
            "projection": projection,
            "log_regularization": strength.log(),
        }.items():
            setattr(layer, name, nn.Parameter(matrix.detach().clone()))
        return layer

    @property
    def regularization(self) -> Float[Tensor, " heads"]:
        """``lambda`` of each head."""
        return self.log_regularization.exp()

    def forward(self, tokens: Tokens) -> Tokens:
        """``[batch, length, width]`` to the same."""
        check_attention(tokens, self.w_query, self.w_key, self.w_value, self.projection)
        keys, values, queries = (
            torch.einsum("btw,hkw->bhtk", tokens, matrix)
            for matrix in (self.w_key, self.w_value, self.w_query)
        )
        outputs = _METHODS[self.method](keys, values, queries, self.regularization)
        return tokens + torch.einsum("bhtk,hwk->btw", outputs, self.projection)


_METHODS = {
    "closed form": mesa_attention,
    "recursive": recursive_mesa_attention,
    "memory free": memory_free_mesa_attention,
}


# --- the recursion, forwards and backwards ------------------------------------------------------


def _apply(matrix, vector):
    return (matrix @ vector[..., None])[..., 0]


def _outer(left, right):
    return left[..., :, None] * right[..., None, :]


def _start(keys, values, strength):
    batch, heads, _, width = keys.shape
    identity = torch.eye(width, dtype=keys.dtype, device=keys.device)
    inverse = (strength[:, None, None] * identity).expand(batch, -1, -1, -1)
    return inverse, keys.new_zeros(batch, heads, values.shape[-1], width)


def _step(inverse, products, key, value, gamma):
    """``R_t, N_t`` from those before."""
    turned = _apply(inverse, key)
    scale = gamma[..., None, None]
    gap = scale + (key * turned).sum(-1)[..., None, None]
    return (inverse - _outer(turned, turned) / gap) / scale, scale * products + _outer(value, key)


class _MemoryFree(torch.autograd.Function):
    """Recursive least squares that keeps nothing but its last state.

    The paper differentiates by ``R_t``. It is shorter by ``H_t = R_t^{-1} = gamma_t H_{t-1} + k_t
    k_t^T``, whose derivative is a running sum: the output ``o_t`` with derivative ``g_t`` adds
    ``-(R_t N_t^T g_t) (R_t q_t)^T``.
    """

    @staticmethod
    def forward(ctx, keys, values, queries, strength, gamma):
        inverse, products = _start(keys, values, strength)
        hessian = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device).expand_as(inverse)
        hessian = hessian / strength[:, None, None]
        outputs = torch.empty_like(values)
        for t in range(keys.shape[2]):
            key, factor = keys[:, :, t], gamma[:, :, t]
            inverse, products = _step(inverse, products, key, values[:, :, t], factor)
            hessian = factor[..., None, None] * hessian + _outer(key, key)
            outputs[:, :, t] = _apply(products, _apply(inverse, queries[:, :, t]))
        last = inverse, products, hessian
        ctx.save_for_backward(keys, values, queries, strength, gamma, *last)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs):
        keys, values, queries, strength, gamma, inverse, products, hessian = ctx.saved_tensors
        grad_keys, grad_values, grad_queries, grad_gamma = map(
            torch.zeros_like, (keys, values, queries, gamma)
        )
        grad_products, grad_hessian = torch.zeros_like(products), torch.zeros_like(hessian)
        for t in reversed(range(keys.shape[2])):
            key, value, grad = keys[:, :, t], values[:, :, t], grad_outputs[:, :, t]
            factor = gamma[:, :, t, None, None]
            turned = _apply(inverse, queries[:, :, t])
            back = _apply(inverse, _apply(products.mT, grad))
            grad_queries[:, :, t] = back
            grad_products = grad_products + _outer(grad, turned)
            grad_hessian = grad_hessian - _outer(back, turned)
            grad_values[:, :, t] = _apply(grad_products, key)
            grad_keys[:, :, t] = _apply(grad_products.mT, value)
            grad_keys[:, :, t] += _apply(grad_hessian + grad_hessian.mT, key)
            # One position back: what pair t added is taken away again.
            products = (products - _outer(value, key)) / factor
            hessian = (hessian - _outer(key, key)) / factor
            inverse = reverse_update(inverse, key, gamma[:, :, t])
            grad_gamma[:, :, t] = (grad_products * products).sum((-2, -1))
            grad_gamma[:, :, t] += (grad_hessian * hessian).sum((-2, -1))
            grad_products, grad_hessian = factor * grad_products, factor * grad_hessian
        trace = grad_hessian.diagonal(dim1=-2, dim2=-1).sum((0, 2))
        return grad_keys, grad_values, grad_queries, -trace / strength.square(), grad_gamma


# --- checks -------------------------------------------------------------------------------------


def _per_head(regularization, heads: int, like: Tensor) -> Float[Tensor, " heads"]:
    if not isinstance(regularization, Tensor):
        check_number("regularization", regularization, positive=True)
        return like.new_full((heads,), float(regularization))
    check_tensor("regularization", regularization, "heads")
    if len(regularization) != heads or regularization.dtype != like.dtype:
        raise ValueError(
            f"regularization: {len(regularization)} numbers of {regularization.dtype}; use one for "
            f"each of the {heads} heads, in {like.dtype}"
        )
    if not inside_transform(regularization) and (regularization <= 0).any():
        raise ValueError("regularization: every lambda must be greater than 0")
    return regularization


def _checked(keys, values, queries, regularization, forgetting) -> Float[Tensor, " heads"]:
    """Raise the error that names the argument which does not fit; ``lambda`` for each head."""
    check_tensor("keys", keys, "batch heads length key_width")
    check_tensor("values", values, "batch heads length value_width")
    check_tensor("queries", queries, "batch heads length key_width")
    if values.shape[:3] != keys.shape[:3]:
        raise ValueError(
            f"values: {tuple(values.shape[:3])} for batch, heads, length; keys has "
            f"{tuple(keys.shape[:3])}"
        )
    if queries.shape != keys.shape:
        raise ValueError(f"queries: {tuple(queries.shape)}; keys has {tuple(keys.shape)}")
    if keys.shape[2] == 0:
        raise ValueError("keys: the sequence is empty; give at least one position")
    for name, other in {"values": values, "queries": queries, "forgetting": forgetting}.items():
        if other is not None and other.dtype != keys.dtype:
            raise TypeError(f"{name}: dtype {other.dtype} differs from that of keys, {keys.dtype}")
    if forgetting is not None:
        check_tensor("forgetting", forgetting, "batch heads length")
        if forgetting.shape != keys.shape[:3]:
            raise ValueError(
                f"forgetting: {tuple(forgetting.shape)}; use [batch, heads, length] = "
                f"{tuple(keys.shape[:3])}"
            )
        if not inside_transform(forgetting) and ((forgetting <= 0) | (forgetting > 1)).any():
            raise ValueError("forgetting: every factor must be above 0 and at most 1")
    return _per_head(regularization, keys.shape[1], keys)
