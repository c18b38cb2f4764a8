"""A whole transformer without its context: one rank-one update for each block.

The theorem speaks of one block. Stacked, it is used from below [innocenti2025simple, by induction]:
if a stack with changed weights and no context has the same stream at the query below block ``l`` as
the stack with its context, then block ``l`` with its own update has it above. What the update of a
block is computed from, the context's streams, comes from the stack that reads the context: nothing
is saved by it.

The updates belong to one query, and so to one generated token. For the next token the query is a
new one, the old one has joined the context, and every update is made again.
"""

from dataclasses import dataclass

import torch
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
    updated_output,
)
from icl_lessons.models.tokens import pair_tokens
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import check_context


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


def stack_update(blocks: list[ContextualBlock], context: Context, query: Query) -> StackUpdate:
    """The update of each block that together stand for the whole context.

    Args:
        blocks: contextual blocks from below; each context token looks at those before it and at
            itself.
        context: tokens as they enter the first block, ``[batch, n_context, width]``.
        query: ``[batch, width]``.
    """
    updates, streams = [], [query]
    n = context.shape[1]
    for block in blocks:
        updates.append(implicit_update(block, context, query))
        above = [block_output(block, context[:, :i], context[:, i]) for i in range(n)]
        query = block_output(block, context, query)
        context = torch.stack(above, 1) if above else context
        streams.append(query)
    return StackUpdate(tuple(updates), torch.stack(streams, 1))


def run_updated(
    blocks: list[ContextualBlock], changes: StackUpdate, query: Query
) -> Float[Tensor, "batch layers_plus_1 width"]:
    """The streams of the changed stack on the query alone, below and above every block."""
    nothing = query.new_zeros(query.shape[0], 0, query.shape[1])
    streams = [query]
    for block, update in zip(blocks, changes.updates, strict=True):
        streams.append(updated_output(block, update, nothing, streams[-1]))
    return torch.stack(streams, 1)


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
