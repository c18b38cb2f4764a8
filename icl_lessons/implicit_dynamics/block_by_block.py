"""A whole transformer without its context: one rank-one update for each block.

The theorem speaks of one block. Stacked, it is used from below [innocenti2025simple, by induction]:
if a stack with changed weights and no context has the same stream at the query below block ``l`` as
the stack with its context, then block ``l`` with its own update has it above. What the update of a
block is computed from, the context's streams, comes from the stack that reads the context: nothing
is saved by it.

The updates belong to one query, and so to one generated token. For the next token the query is a
new one, the old one has joined the context, and every update is made again: see
:mod:`icl_lessons.implicit_dynamics.generation`.

Any other position of a sequence may take the query's place. Its update can be relative to itself
alone (:func:`updates_at`), or to one *reference token* for all positions (:func:`reference_update`)
[innocenti2025simple]: then the block with the update of position ``i`` makes of the reference what
the unchanged block makes of position ``i``, and the update holds the difference of the two tokens
beside what the context did.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from icl_lessons.implicit_dynamics.contextual_blocks import (
    Context,
    ContextualBlock,
    Query,
    TransformerBlock,
    block_output,
)
from icl_lessons.implicit_dynamics.rank_one_update import (
    ImplicitUpdate,
    implicit_update,
    update_between,
    updated_output,
)
from icl_lessons.models.tokens import pair_tokens
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import check_context, check_tensor

Streams = Float[Tensor, "batch layers_plus_1 sequence width"]


@dataclass(frozen=True)
class StackUpdate:
    """Updates of all blocks of a stack, for one query.

    Attributes:
        updates: one for each block, from below.
        streams: what enters each block at the query, and what leaves the last,
            ``[batch, layers + 1, width]``: the same with the context and with the updates.
    """

    updates: tuple[ImplicitUpdate, ...]
    streams: Float[Tensor, "batch layers_plus_1 width"]


def stack_streams(
    blocks: Sequence[ContextualBlock], tokens: Float[Tensor, "batch sequence width"]
) -> Streams:
    """What enters each block, and what leaves the last, at every position of a sequence.

    Each token looks at those before it and at itself.

    Args:
        blocks: contextual blocks from below.
        tokens: as they enter the first block.
    """
    check_tensor("tokens", tokens, "batch sequence width")
    streams = [tokens]
    for block in blocks:
        below = streams[-1]
        above = [block_output(block, below[:, :i], below[:, i]) for i in range(below.shape[1])]
        streams.append(torch.stack(above, 1))
    return torch.stack(streams, 1)


def updates_at(
    blocks: Sequence[ContextualBlock],
    streams: Streams,
    position: int,
    removed: Sequence[int] | None = None,
) -> StackUpdate:
    """The updates for which the token at one position needs fewer, or none, of those before it.

    Args:
        blocks, streams: a stack and :func:`stack_streams` of what it reads.
        position: of the token that is the query; those before it are its context.
        removed: positions of the context that the updates stand for; all of it if ``None``.

    Raises:
        ValueError: a position outside the sequence.
    """
    if not 0 <= position < streams.shape[2]:
        raise ValueError(
            f"position: got {position}; use 0 to {streams.shape[2] - 1} of this sequence"
        )
    updates = [
        implicit_update(block, below[:, :position], below[:, position], removed)
        for block, below in zip(blocks, streams[:, :-1].unbind(1), strict=True)
    ]
    return StackUpdate(tuple(updates), streams[:, :, position])


def stack_update(blocks: Sequence[ContextualBlock], context: Context, query: Query) -> StackUpdate:
    """The update of each block that together stand for the whole context.

    Args:
        blocks: contextual blocks from below; each context token looks at those before it and at
            itself.
        context: tokens as they enter the first block, ``[batch, n_context, width]``.
        query: ``[batch, width]``.
    """
    streams = stack_streams(blocks, torch.cat([context, query[:, None]], 1))
    return updates_at(blocks, streams, context.shape[1])


def run_visible(
    blocks: Sequence[ContextualBlock],
    changes: Sequence[StackUpdate],
    tokens: Float[Tensor, "batch sequence width"],
) -> Streams:
    """The streams of a changed stack on the tokens that are left, each with updates of its own.

    Args:
        blocks: as for :func:`stack_streams`.
        changes: one for each token; the same for all is a stack whose weights changed once.
        tokens: those still visible, as they enter the first block.
    """
    streams = [tokens]
    for layer, block in enumerate(blocks):
        below = streams[-1]
        above = [
            updated_output(block, change.updates[layer], below[:, :i], below[:, i])
            for i, change in enumerate(changes)
        ]
        streams.append(torch.stack(above, 1))
    return torch.stack(streams, 1)


def run_updated(
    blocks: Sequence[ContextualBlock], changes: StackUpdate, query: Query
) -> Float[Tensor, "batch layers_plus_1 width"]:
    """The streams of the changed stack on the query alone, below and above every block."""
    return run_visible(blocks, [changes], query[:, None])[:, :, 0]


def reference_update(
    block: ContextualBlock,
    tokens: Float[Tensor, "batch sequence width"],
    position: int,
    reference: Query,
    *,
    causal: bool = True,
) -> ImplicitUpdate:
    """The change by which a block makes of a reference token what it made of a position.

    Args:
        block: any contextual block.
        tokens: a sequence as it enters the block.
        position: of the sequence.
        reference: a token of its own, which the changed block reads alone. Innocenti and Achour
            take the query for all positions.
        causal: whether a position sees those before it, or all (for blocks to which the order of
            a context is nothing).
    """
    if not 0 <= position < tokens.shape[1]:
        raise ValueError(f"position: got {position}; use 0 to {tokens.shape[1] - 1}")
    context = tokens[:, :position]
    if not causal:
        context = torch.cat([context, tokens[:, position + 1 :]], 1)
    return update_between(
        block, block.read(tokens[:, :0], reference), block.read(context, tokens[:, position])
    )


@dataclass(frozen=True)
class BlockPath:
    """The updates of one block of a stack after each number of tokens, for one query.

    Nothing of it stays the same from token to token in a deeper block: what reaches the block at
    the query has been changed by the context already. So the right vectors move too, and a step
    from one update to the next has rank two.

    Attributes:
        left, right: of the update that stands for the first ``i`` tokens, ``i = 0, ..., n``.
    """

    left: Float[Tensor, "batch n_context_plus_1 hidden"]
    right: Float[Tensor, "batch n_context_plus_1 dense_width"]

    @property
    def increments(self) -> Float[Tensor, "batch n_context"]:
        """``|Delta_{i+1} - Delta_i|_F``, the two matrices never written down.

        ``u' v'^T - u v^T = (u' - u) v'^T + u (v' - v)^T``, so that nothing cancels.
        """
        u, v = self.left[:, :-1], self.right[:, :-1]
        du, v_next = self.left[:, 1:] - u, self.right[:, 1:]
        dv = v_next - v
        square = (du.square().sum(-1) * v_next.square().sum(-1)
                  + u.square().sum(-1) * dv.square().sum(-1)
                  + 2 * (du * u).sum(-1) * (v_next * dv).sum(-1))  # fmt: skip
        return square.clamp_min(0).sqrt()


def stack_path(
    blocks: Sequence[ContextualBlock], context: Context, query: Query
) -> tuple[BlockPath, ...]:
    """The context taken in token by token by a whole stack: a path in each block.

    Args:
        blocks, context, query: as :func:`stack_update`.
    """
    n = context.shape[1]
    streams, queries = stack_streams(blocks, context) if n else None, [query] * (n + 1)
    paths = []
    for layer, block in enumerate(blocks):
        below = streams[:, layer] if n else context
        seen = [below[:, :i] for i in range(n + 1)]
        updates = [implicit_update(block, *pair) for pair in zip(seen, queries, strict=True)]
        queries = [block_output(block, *pair) for pair in zip(seen, queries, strict=True)]
        paths.append(
            BlockPath(
                torch.stack([update.left for update in updates], 1),
                torch.stack([update.right for update in updates], 1),
            )
        )
    return tuple(paths)


def alignment(updates: Sequence[ImplicitUpdate]) -> Float[Tensor, "k k"]:
    """``<D_i, D_j> / (|D_i| |D_j|)`` of weight changes of the same shape, mean over the batch.

    1 for the same matrix up to size, 0 for unrelated ones; an update of 0 has 0 with any other.
    """
    left = F.normalize(torch.stack([update.left for update in updates], 1), dim=-1)
    right = F.normalize(torch.stack([update.right for update in updates], 1), dim=-1)
    return ((left @ left.mT) * (right @ right.mT)).mean(0)


def pairs(matrix: Float[np.ndarray, "*leading k k"]) -> Float[np.ndarray, "*leading"]:
    """Mean of the entries off the diagonal: of the alignment of two different updates."""
    k = matrix.shape[-1]
    others = matrix.sum((-1, -2)) - np.trace(matrix, axis1=-2, axis2=-1)
    return np.asarray(others / (k * (k - 1)))


def last_with_others(matrix: Float[np.ndarray, "*leading k k"]) -> Float[np.ndarray, "*leading"]:
    """Mean alignment of the last update, the query's, with the others."""
    return np.asarray(matrix[..., -1, :-1].mean(-1))


def regression_stack(
    model: Transformer,
    xs: Float[Tensor, "batch n_context d"],
    ys: Float[Tensor, "batch n_context m"],
    x_query: Float[Tensor, "batch 1 d"],
) -> tuple[list[TransformerBlock], Context, Query]:
    """The blocks of the course's transformer, and its context and query as tokens below them.

    Args:
        model: in the ``pair`` layout without learned positions.
        xs, ys, x_query: contexts with one query each.

    Raises:
        ValueError: another layout, positions, or more than one query.
    """
    check_context(xs, ys, x_query)
    if model.config.layout != "pair" or model.config.positions is not None:
        raise ValueError("model: use a transformer with layout='pair' and positions=None")
    if x_query.shape[1] != 1:
        raise ValueError(f"x_query: {x_query.shape[1]} queries; an update belongs to one query")
    tokens = model.read_in(pair_tokens(xs, ys, x_query))
    return [TransformerBlock(block) for block in model.blocks], tokens[:, :-1], tokens[:, -1]
