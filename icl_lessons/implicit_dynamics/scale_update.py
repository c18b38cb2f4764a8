"""Modern blocks have no bias to change: the context as a change of the last norm's scales.

A block as in Gemma [goldwaser2025equivalence] normalises before and after attention and before and
after a gated MLP, and has no biases:

.. math:: u = x + \\mathrm{RMS}_{g_2}(\\mathrm{Attention}(\\mathrm{RMS}_{g_1}(x))), \\quad
          z = \\mathrm{RMS}_{g_3}(u), \\quad
          u + \\mathrm{RMS}_{g_4}\\big(W_d(\\phi(W_g z) \\odot W_u z)\\big).

Gate and value matrices take the rank-one update that any dense layer takes. What the context adds
to ``u`` has to reach the output by another way: with ``n`` the normalised output of the changed
MLP, the scales change by ``(u_C - u_0) / n``, entry by entry. That is exact wherever no entry of
``n`` is 0, and not small: small entries are divided by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.implicit_dynamics.block_by_block import stack_streams
from icl_lessons.implicit_dynamics.contextual_blocks import (
    Context,
    ContextualBlock,
    Query,
    Reading,
    check_tokens,
)
from icl_lessons.implicit_dynamics.rank_one_update import (
    ImplicitUpdate,
    implicit_update,
    without,
)
from icl_lessons.models.attention import softmax_attention
from icl_lessons.runtime import check_integer


@runtime_checkable
class NormedBlock(ContextualBlock, Protocol):
    """A contextual block that ends in a norm: the stream plus scales times a normed update.

    ``scales[3]`` are the last norm's; ``normed_update(hidden)`` is what they multiply.
    """

    scales: Sequence[Float[Tensor, " width"]] | nn.ParameterList

    def normed_update(self, hidden: Float[Tensor, "batch hidden"]) -> Query: ...


class NormedGatedBlock(nn.Module):
    """A gated block with four RMS norms and no bias, as in Gemma, with random weights.

    Args:
        width: of a token.
        hidden: units of the gated MLP.
        heads, head_width: of its softmax attention.
        generator: where the weights come from; a seed of 0 if ``None``.
        dtype: of the weights.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        heads: int = 2,
        head_width: int = 4,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__()
        for name, size in (("width", width), ("hidden", hidden), ("heads", heads)):
            check_integer(name, size, at_least=1)
        check_integer("head_width", head_width, at_least=1)
        generator = torch.Generator().manual_seed(0) if generator is None else generator

        def normal(*shape: int) -> nn.Parameter:
            drawn = torch.randn(shape, generator=generator, dtype=dtype)
            return nn.Parameter(shape[-1] ** -0.5 * drawn)

        head = (heads, head_width, width)
        self.w_query, self.w_key, self.w_value = (normal(*head) for _ in "qkv")
        self.projection = normal(heads, width, head_width)
        self.gate_and_value = normal(2 * hidden, width)
        self.write = normal(width, hidden)
        self.scales = nn.ParameterList(1 + 0.3 * normal(width) for _ in range(4))

    @property
    def dense_weight(self) -> Float[Tensor, "hidden width"]:
        """Gate and value matrices, one above the other."""
        return self.gate_and_value

    def read(self, context: Context, query: Query) -> Reading:
        tokens = torch.cat([context, query[:, None]], 1)
        normed = F.rms_norm(tokens, tokens.shape[-1:], self.scales[0])
        matrices = (self.w_query, self.w_key, self.w_value, self.projection)
        attended = (softmax_attention(normed, *matrices) - normed)[:, -1]
        stream = query + F.rms_norm(attended, attended.shape[-1:], self.scales[1])
        return Reading(F.rms_norm(stream, stream.shape[-1:], self.scales[2]), stream)

    def normed_update(self, hidden: Float[Tensor, "batch hidden"]) -> Query:
        """What the MLP adds to the stream, before the scales of the last norm."""
        gate, value = hidden.chunk(2, -1)
        update = (F.gelu(gate) * value) @ self.write.mT
        return F.rms_norm(update, update.shape[-1:])

    def finish(self, hidden: Float[Tensor, "batch hidden"], residual: Query) -> Query:
        return residual + self.scales[3] * self.normed_update(hidden)


@dataclass(frozen=True)
class ScaleUpdate:
    """The change of such a block that stands for some tokens, for one query.

    Attributes:
        update: of gate and value matrices; its ``bias`` is not used.
        scales: change of the last norm's scales, ``[batch, width]``.
    """

    update: ImplicitUpdate
    scales: Float[Tensor, "batch width"]


def scale_update(
    block: NormedBlock,
    context: Context,
    query: Query,
    removed: Sequence[int] | None = None,
) -> ScaleUpdate:
    """Rank-one changes of gate and value, and a change of scales in place of a bias.

    Arguments as :func:`~icl_lessons.implicit_dynamics.rank_one_update.implicit_update`.

    Raises:
        ValueError: tokens that do not fit, or an MLP whose output has an entry that is exactly 0.
    """
    update = implicit_update(block, context, query, removed)
    normed = block.normed_update(block.read(context, query).dense_input @ block.dense_weight.mT)
    if (normed == 0).any():
        raise ValueError(
            "query: an entry of the MLP's output is 0; no scale of the last norm can change it"
        )
    return ScaleUpdate(update, update.bias / normed)


def rescaled_output(
    block: NormedBlock, changes: ScaleUpdate, context: Context, query: Query
) -> Float[Tensor, "batch width"]:
    """What the changed block puts out after ``context``: usually what is left, ``C \\ Y``."""
    check_tokens(context, query)
    reading = block.read(context, query)
    weight = block.dense_weight + changes.update.weight
    hidden = (weight @ reading.dense_input[:, :, None])[..., 0]
    return reading.residual + (block.scales[3] + changes.scales) * block.normed_update(hidden)


def scale_updates(
    blocks: Sequence[NormedBlock], context: Context, query: Query
) -> tuple[list[ScaleUpdate], Float[Tensor, "batch width"]]:
    """The changes of every block of a stack, and what it puts out at the query with its context.

    Each context token looks at those before it and at itself.
    """
    check_tokens(context, query)
    streams = stack_streams(blocks, torch.cat([context, query[:, None]], 1))
    changes = [
        scale_update(block, below[:, :-1], below[:, -1])
        for block, below in zip(blocks, streams[:, :-1].unbind(1), strict=True)
    ]
    return changes, streams[:, -1, -1]


def run_rescaled(
    blocks: Sequence[NormedBlock], changes: Sequence[ScaleUpdate], query: Query
) -> Query:
    """What the changed stack puts out on the query alone, ``[batch, width]``."""
    nothing = without(query[:, None], None)
    for block, change in zip(blocks, changes, strict=True):
        query = rescaled_output(block, change, nothing, query)
    return query
