"""Any context is worth a rank-one change of the dense layer that reads it.

Let ``Y`` be some tokens of the context ``C``, ``a = A(C \\ Y, x)`` what the first dense layer of a
block is fed without them and ``d = A(C, x) - a`` what they add to it. With

.. math:: \\Delta_x W(Y) = \\frac{(W d)\\, a^\\top}{\\|a\\|^2}

the block with ``W + Delta`` puts out without ``Y`` what the block with ``W`` puts out with it
[dherin2025learning, theorem 2.2]. In one line: ``(W + Delta) a = W a + W d = W A(C, x)``. What a
skip connection carries around the dense layer is a vector added to the output, and its change is a
change of the last bias [dherin2025learning, appendix A]. With a norm before the dense layer, ``a``
is what comes out of the norm [innocenti2025simple].

The identity is true of any two vectors, ``a`` not 0: of untrained networks and useless contexts
too. It is a way of writing down what the context did, for this query and no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.implicit_dynamics.contextual_blocks import (
    Context,
    ContextualBlock,
    Query,
    Reading,
    check_tokens,
)
from icl_lessons.runtime import check_integer


@dataclass(frozen=True)
class ImplicitUpdate:
    """The change of a block that stands for some tokens of a context, for one query.

    Attributes:
        left: ``W d / |a|^2``, ``[batch, hidden]``.
        right: ``a``, ``[batch, dense_width]``; the weight change is ``left right^T``.
        bias: change of what is added to the output, ``[batch, width]``; 0 without a skip.
        weight_norm: ``|W|_F``, for comparison.
    """

    left: Float[Tensor, "batch hidden"]
    right: Float[Tensor, "batch dense_width"]
    bias: Float[Tensor, "batch width"]
    weight_norm: float

    @property
    def weight(self) -> Float[Tensor, "batch hidden dense_width"]:
        """``Delta_x W(Y)`` as a matrix: of rank one, or 0 where the tokens add nothing."""
        return self.left[:, :, None] * self.right[:, None, :]

    @property
    def size(self) -> Float[Tensor, " batch"]:
        """``|Delta|_F = |W d| / |a|``, its one singular value."""
        return self.left.norm(dim=-1) * self.right.norm(dim=-1)

    @property
    def relative_size(self) -> Float[Tensor, " batch"]:
        """``|Delta|_F / |W|_F``."""
        return self.size / self.weight_norm


def _kept(n: int, removed: Sequence[int] | None) -> list[int]:
    if removed is None:
        return []
    positions = [int(i) for i in removed]
    for i in positions:
        if not 0 <= i < n:
            raise ValueError(f"removed: got {i}; use positions from 0 to {n - 1} of the context")
    if len(set(positions)) < len(positions):
        raise ValueError(f"removed: {positions} names a token twice")
    return [i for i in range(n) if i not in positions]


def without(
    context: Context, removed: Sequence[int] | None = None
) -> Float[Tensor, "batch n_kept width"]:
    """``C \\ Y``: the context without the tokens at the positions ``removed`` (all if ``None``)."""
    return context[:, _kept(context.shape[1], removed)]


def implicit_update(
    block: ContextualBlock,
    context: Context,
    query: Query,
    removed: Sequence[int] | None = None,
) -> ImplicitUpdate:
    """What a part of the context does to the block at the query, as a change of its weights.

    Args:
        block: any :class:`~icl_lessons.implicit_dynamics.contextual_blocks.ContextualBlock`.
        context: tokens, ``[batch, n_context, width]``, as they enter the block.
        query: the token after them, ``[batch, width]``.
        removed: positions of ``Y`` in the context; the whole context if ``None``.

    Raises:
        ValueError: tokens that do not fit, positions outside the context, or ``A(C \\ Y, x) = 0``,
            where no change of ``W`` can have any effect.
    """
    check_tokens(context, query)
    rest = block.read(without(context, removed), query)
    return update_between(block, rest, block.read(context, query))


def update_between(block: ContextualBlock, rest: Reading, whole: Reading) -> ImplicitUpdate:
    """The change of a block that makes it put out at one reading what it puts out at another.

    Args:
        block: any contextual block.
        rest: what the changed block will read.
        whole: what the unchanged one read.

    Raises:
        ValueError: the dense layer is fed 0 at ``rest``.
    """
    a = rest.dense_input
    square = a.square().sum(-1, keepdim=True)
    if not (square > 0).all():
        which = int((~(square > 0)).nonzero()[0, 0])
        raise ValueError(
            f"query: for context {which} of the batch the dense layer is fed 0 without the removed "
            "tokens, A(x) = 0; no change of its weights can then have an effect. Let the query "
            "attend to itself, or let the dense layer read the stream"
        )
    weight = block.dense_weight
    return ImplicitUpdate(
        left=(whole.dense_input - a) @ weight.mT / square,
        right=a,
        bias=whole.residual - rest.residual,
        weight_norm=weight.norm().item(),
    )


def updated_output(
    block: ContextualBlock, update: ImplicitUpdate, context: Context, query: Query
) -> Float[Tensor, "batch width"]:
    """What the changed block puts out after ``context``: usually what is left, ``C \\ Y``.

    Computed with the changed matrix ``W + Delta`` itself, so that it may be used, or misused, with
    any context and any query.
    """
    check_tokens(context, query)
    reading = block.read(context, query)
    changed = block.dense_weight + update.weight
    hidden = (changed @ reading.dense_input[:, :, None])[..., 0]
    return block.finish(hidden, reading.residual + update.bias)


def joint_update(
    block: ContextualBlock, context: Context, queries: Float[Tensor, "batch n_query width"]
) -> Float[Tensor, "batch hidden dense_width"]:
    """The smallest one change of ``W`` that stands for the context at several queries at once.

    The least-norm solution of ``Delta a_j = W d_j`` for all queries ``j``. It exists while the
    vectors ``a_j`` are independent, so for at most ``dense_width`` of them, and has as high a rank.

    Args:
        context: ``[batch, n_context, width]``.
        queries: ``[batch, n_query, width]``; each by itself after the context.

    Raises:
        ValueError: more queries than the dense layer has inputs.
    """
    n_query = queries.shape[1]
    check_integer("queries", n_query, at_least=1)
    weight = block.dense_weight
    if n_query > weight.shape[1]:
        raise ValueError(
            f"queries: {n_query} for a dense layer of {weight.shape[1]} inputs; one change of its "
            "weights can serve as many as it has inputs"
        )
    alone, added = [], []
    for j in range(n_query):
        rest = block.read(context[:, :0], queries[:, j]).dense_input
        alone.append(rest)
        added.append(block.read(context, queries[:, j]).dense_input - rest)
    a, d = torch.stack(alone, -1), torch.stack(added, -1)  # [batch, dense_width, n_query]
    return weight @ d @ torch.linalg.pinv(a)
