"""Self-attention, linear and softmax, as functions of explicit matrices and as trainable layers.

In the book tokens are columns :math:`e_j`; in code they are rows, so a matrix ``W`` acts from the
right as ``tokens @ W.T``. For one head, with the sum running over the tokens ``i`` that the mask
lets token ``j`` see,

.. math:: e_j \\leftarrow e_j + P \\sum_i (W_V e_i)\\, s_{ij}, \\qquad
          s_{ij} = (W_K e_i)^\\top (W_Q e_j)

for linear attention [vonoswald2023transformers, eq. 1]; softmax attention replaces the scores of
each ``j`` by their softmax over ``i``. Linear attention divides by nothing: a factor such as
:math:`1/N` belongs to ``P``, where the construction of von Oswald et al. puts it.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from icl_lessons.runtime import check_choice, check_integer, check_number, check_tensor

Kind = Literal["linear", "softmax"]
Matrices = Float[Tensor, "heads head_width width"]
Values = Float[Tensor, "heads value_width width"]
Projections = Float[Tensor, "heads width value_width"]
Tokens = Float[Tensor, "batch sequence width"]
Mask = Bool[Tensor, "sequence sequence"]


def context_mask(
    n_context: int, n_query: int = 1, *, query_is_key: bool = False, device=None
) -> Mask:
    """Which tokens are keys for which: the context is, for all; a query is not, for any.

    Args:
        n_context: context tokens, first in the sequence.
        n_query: query tokens after them.
        query_is_key: let each query also attend to itself, as ordinary self-attention would. The
            construction of Proposition 1 is exact without it.

    Returns:
        ``[sequence, sequence]``; entry ``[j, i]`` is true where token ``j`` may look at ``i``.
    """
    check_integer("n_context", n_context, at_least=0)
    check_integer("n_query", n_query, at_least=0)
    mask = torch.zeros(n_context + n_query, n_context + n_query, dtype=torch.bool, device=device)
    mask[:, :n_context] = True
    if query_is_key:
        queries = torch.arange(n_context, n_context + n_query)
        mask[queries, queries] = True
    return mask


def causal_mask(sequence: int, *, device=None) -> Mask:
    """Every token looks at itself and at the tokens before it."""
    check_integer("sequence", sequence, at_least=0)
    return torch.ones(sequence, sequence, dtype=torch.bool, device=device).tril()


def attention_scores(
    tokens: Tokens, w_query: Matrices, w_key: Matrices
) -> Float[Tensor, "batch heads sequence sequence"]:
    """``s[b, h, j, i] = (W_K e_i) . (W_Q e_j)``: one number for each pair of tokens and each head.

    The second-last axis is the token that asks (``j``), the last the token asked (``i``).
    """
    queries = torch.einsum("bjw,hkw->bhjk", tokens, w_query)
    keys = torch.einsum("biw,hkw->bhik", tokens, w_key)
    return queries @ keys.mT


def _attend(tokens, scores, w_value, projection):
    values = torch.einsum("biw,hkw->bhik", tokens, w_value)
    return tokens + torch.einsum("bhjk,hwk->bjw", scores @ values, projection)


def linear_attention(
    tokens: Tokens,
    w_query: Matrices,
    w_key: Matrices,
    w_value: Values,
    projection: Projections,
    mask: Mask | None = None,
) -> Tokens:
    """One residual layer of linear self-attention, heads summed. Scores are used as they are.

    Args:
        tokens: ``[batch, sequence, width]``, rows.
        w_query, w_key: ``[heads, head_width, width]``.
        w_value: ``[heads, value_width, width]``; values may be wider or narrower than keys.
        projection: ``P``, ``[heads, width, value_width]``.
        mask: ``[sequence, sequence]``, true where token ``j`` (row) may look at ``i`` (column);
            ``None`` lets every token see every token.

    Returns:
        ``[batch, sequence, width]``.
    """
    check_attention(tokens, w_query, w_key, w_value, projection, mask)
    scores = attention_scores(tokens, w_query, w_key)
    if mask is not None:
        scores = scores * mask
    return _attend(tokens, scores, w_value, projection)


def softmax_attention(
    tokens: Tokens,
    w_query: Matrices,
    w_key: Matrices,
    w_value: Values,
    projection: Projections,
    mask: Mask | None = None,
    scale: float | None = None,
) -> Tokens:
    """One residual layer of softmax self-attention: each token averages the values it sees.

    Args:
        tokens, w_query, w_key, w_value, projection, mask: as in :func:`linear_attention`.
        scale: factor on the scores before the softmax; ``1 / sqrt(head_width)`` if ``None``.

    Returns:
        ``[batch, sequence, width]``. A token that may look at nothing is passed on unchanged.
    """
    check_attention(tokens, w_query, w_key, w_value, projection, mask)
    scores = attention_scores(tokens, w_query, w_key)
    scores = scores * (w_query.shape[1] ** -0.5 if scale is None else scale)
    if mask is None:
        return _attend(tokens, scores.softmax(-1), w_value, projection)
    # A row without any key stays finite on the way: a softmax over nothing would be NaN.
    sees = mask.any(-1, keepdim=True)
    weights = scores.masked_fill(~mask & sees, -torch.inf).softmax(-1) * sees
    return _attend(tokens, weights, w_value, projection)


def check_attention(tokens, w_query, w_key, w_value, projection, mask=None) -> None:
    """Raise the error that names the argument which does not fit the others."""
    check_tensor("tokens", tokens, "batch sequence width")
    matrices = {"w_query": w_query, "w_key": w_key, "w_value": w_value, "projection": projection}
    for name, matrix in matrices.items():
        shape = "heads width value_width" if name == "projection" else "heads head_width width"
        check_tensor(name, matrix, shape)
        width = matrix.shape[1 if name == "projection" else 2]
        if width != tokens.shape[2]:
            raise ValueError(f"{name}: made for tokens of width {width}; got {tokens.shape[2]}")
        if matrix.dtype != tokens.dtype:
            raise TypeError(f"{name}: dtype {matrix.dtype} differs from tokens', {tokens.dtype}")
        if matrix.device != tokens.device:
            raise ValueError(f"{name}: on {matrix.device}, but tokens is on {tokens.device}")
        if matrix.shape[0] != w_query.shape[0]:
            raise ValueError(f"{name}: {matrix.shape[0]} heads; w_query has {w_query.shape[0]}")
    if w_query.shape[1] != w_key.shape[1]:
        raise ValueError(
            f"w_key: head width {w_key.shape[1]} differs from w_query's, {w_query.shape[1]}; "
            "a score is their dot product"
        )
    if w_value.shape[1] != projection.shape[2]:
        raise ValueError(
            f"projection: takes values of width {projection.shape[2]}, w_value makes "
            f"{w_value.shape[1]}"
        )
    if mask is not None and (
        mask.dtype != torch.bool or mask.shape != (tokens.shape[1], tokens.shape[1])
    ):
        raise ValueError(
            f"mask: got {mask.dtype} of shape {tuple(mask.shape)}; use bool of shape "
            f"({tokens.shape[1]}, {tokens.shape[1]})"
        )


class SelfAttention(nn.Module):
    """A residual self-attention layer whose matrices can be written down or trained.

    Args:
        width: width of a token.
        heads: number of heads, summed.
        head_width: width of queries, keys and values; ``width`` if ``None``.
        kind: ``"linear"`` or ``"softmax"``.
        init_std: standard deviation of the normal start of every matrix.
        generator: where the start comes from; a seed of 0 if ``None``.

    The parameters are ``w_query``, ``w_key``, ``w_value`` (``[heads, head_width, width]``) and
    ``projection`` (``[heads, width, head_width]``), without biases.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        head_width: int | None = None,
        kind: Kind = "linear",
        *,
        init_std: float = 0.02,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_integer("width", width, at_least=1)
        check_integer("heads", heads, at_least=1)
        head_width = width if head_width is None else head_width
        check_integer("head_width", head_width, at_least=1)
        check_choice("kind", kind, ("linear", "softmax"))
        check_number("init_std", init_std)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.kind = kind
        for name, shape in {
            "w_query": (heads, head_width, width),
            "w_key": (heads, head_width, width),
            "w_value": (heads, head_width, width),
            "projection": (heads, width, head_width),
        }.items():
            start = init_std * torch.randn(shape, generator=generator, dtype=dtype)
            self.register_parameter(name, nn.Parameter(start))

    @classmethod
    def from_matrices(
        cls,
        w_query: Matrices,
        w_key: Matrices,
        w_value: Values,
        projection: Projections,
        kind: Kind = "linear",
    ) -> "SelfAttention":
        """A layer that holds the given matrices (copied).

        Raises:
            TypeError, ValueError: a matrix that does not fit the others, by name.
        """
        check_tensor("w_query", w_query, "heads head_width width")
        heads, head_width, width = w_query.shape
        one_token = w_query.new_zeros(1, 1, width)
        check_attention(one_token, w_query, w_key, w_value, projection)
        layer = cls(width, heads, head_width, kind, init_std=0.0, dtype=w_query.dtype)
        for name, matrix in zip(
            ("w_query", "w_key", "w_value", "projection"),
            (w_query, w_key, w_value, projection),
            strict=True,
        ):
            setattr(layer, name, nn.Parameter(matrix.detach().clone()))
        return layer

    @property
    def matrices(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(w_query, w_key, w_value, projection)``."""
        return self.w_query, self.w_key, self.w_value, self.projection

    def key_query(self) -> Float[Tensor, "heads width width"]:
        """``W_K^T W_Q`` of each head: all that a linear layer's scores depend on."""
        return self.w_key.mT @ self.w_query

    def projection_value(self) -> Float[Tensor, "heads width width"]:
        """``P W_V`` of each head: all that a layer's update depends on."""
        return self.projection @ self.w_value

    def forward(self, tokens: Tokens, mask: Mask | None = None) -> Tokens:
        """``[batch, sequence, width]`` to the same; ``mask`` as in :func:`linear_attention`."""
        attend = linear_attention if self.kind == "linear" else softmax_attention
        return attend(tokens, *self.matrices, mask)
