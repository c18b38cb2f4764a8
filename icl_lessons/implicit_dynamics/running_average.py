"""Attention is an average, and an average moves less with every term it takes in.

Softmax attention of one head is a mean of values. Let ``A_i`` be that mean over the query and the
first ``i`` tokens, ``v_i`` the value of token ``i`` and ``p_i`` its softmax weight among the query
and the tokens up to ``i``. Then, exactly,

.. math:: A_{i+1} - A_i = p_{i+1} (v_{i+1} - A_i) .

So the weights that stand for the context [dherin2025learning, proposition 3.1] move with token
``i + 1`` by a share ``p_{i+1}`` of something that stays of order one. Where attention is even the
share is ``1 / (i + 2)``: the steps shrink as ``1/i``, in a block that has learned nothing as in one
that has. What tells the two apart is where the steps lead.

Two contexts set it off. When all tokens are the same, ``v - A_i`` shrinks too, and the steps shrink
as ``1/i^2``. Linear attention is a sum: its steps do not shrink at all.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    Context,
    Query,
    check_tokens,
)


@dataclass(frozen=True)
class RunningAverage:
    """What each head's average is made of as the context is read from the front.

    Attributes:
        shares: ``p_1, ..., p_n``, ``[batch, heads, n_context]``.
        values: of the query (first) and of each token, as the head writes them to the stream,
            ``[batch, heads, n_context + 1, width]``.
    """

    shares: Float[Tensor, "batch heads n_context"]
    values: Float[Tensor, "batch heads n_context_plus_1 width"]

    @property
    def averages(self) -> Float[Tensor, "batch heads n_context_plus_1 width"]:
        """``A_0, ..., A_n`` of each head; their sum over heads is what attention writes."""
        reached = [self.values[:, :, 0]]
        for i in range(self.shares.shape[2]):
            step = self.shares[:, :, i, None] * (self.values[:, :, i + 1] - reached[-1])
            reached.append(reached[-1] + step)
        return torch.stack(reached, 2)

    def increments(self, weight: Float[Tensor, "hidden width"]) -> Float[Tensor, "batch n_context"]:
        """``|W_{i+1} - W_i|_F`` for a dense layer with weights ``W_0`` that reads attention alone.

        The same numbers as :attr:`~icl_lessons.implicit_dynamics.token_path.TokenPath.increments`,
        from one pass over the context.
        """
        before = self.averages[:, :, :-1]
        steps = (self.shares[..., None] * (self.values[:, :, 1:] - before)).sum(1)
        return (steps @ weight.mT).norm(dim=-1) / self.values[:, :, 0].sum(1).norm(dim=-1)[:, None]


def running_average(block: AttentionBlock, context: Context, query: Query) -> RunningAverage:
    """Shares and values of a block with softmax attention in which the query is a key.

    Args:
        block: without a norm before its attention.
        context: ``[batch, n_context, width]``, in the order in which it is read.
        query: ``[batch, width]``.

    Raises:
        ValueError: tokens that do not fit, or a block whose attention is no average of the query
            and the tokens as they are given.
    """
    check_tokens(context, query)
    shape = block.config
    if shape.attention != "softmax" or not shape.query_is_key:
        raise ValueError("block: use attention='softmax' and query_is_key=True; this is no average")
    if shape.norm is not None and shape.norm_place == "pre":
        raise ValueError(
            "block: use norm=None or norm_place='post'; attention reads tokens as given"
        )
    tokens = torch.cat([query[:, None], context], 1)
    asked = torch.einsum("bw,hkw->bhk", query, block.w_query)
    scores = torch.einsum("bhk,hkw,biw->bhi", asked, block.w_key, tokens) * shape.head_width**-0.5
    shares = (scores - scores.logcumsumexp(-1)).exp()[..., 1:]
    values = torch.einsum("hok,hkw,biw->bhio", block.projection, block.w_value, tokens)
    return RunningAverage(shares, values)
