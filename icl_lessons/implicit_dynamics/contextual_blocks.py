"""Blocks that can read a token alone or with a context, as Dherin et al. look at them.

A *contextual layer* ``A`` accepts a query alone, ``A(x)``, or after a context, ``A(C, x)``. A
*contextual block* puts a dense layer on top [dherin2025learning, section 2]. Every block of this
module, and of the transformers it adapts, is cut at the same place:

* :meth:`ContextualBlock.read` gives what the first dense layer is fed at the query, and what is
  carried around it to the output;
* :attr:`ContextualBlock.dense_weight` is the matrix ``W`` of that dense layer (for a gated MLP gate
  and value stand on top of each other: both are fed the same);
* :meth:`ContextualBlock.finish` is the rest.

Cut so, the theorem of :mod:`icl_lessons.implicit_dynamics.rank_one_update` is one line for all.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.models import transformer
from icl_lessons.models.attention import causal_mask
from icl_lessons.runtime import check_choice, check_integer, check_tensor

Context = Float[Tensor, "batch n_context width"]
Query = Float[Tensor, "batch width"]


class Reading(NamedTuple):
    """What attention hands on at the query.

    Attributes:
        dense_input: what the first dense layer reads, ``[batch, dense_width]``: ``A(C, x)`` in the
            paper, with whatever skip and normalisation come before the dense layer.
        residual: what reaches the output around the MLP, ``[batch, width]``; zeros without a skip.
    """

    dense_input: Float[Tensor, "batch dense_width"]
    residual: Float[Tensor, "batch width"]


@runtime_checkable
class ContextualBlock(Protocol):
    """A block that reads a query alone (a context of no tokens) or with a context."""

    @property
    def dense_weight(self) -> Float[Tensor, "hidden dense_width"]: ...

    def read(self, context: Context, query: Query) -> Reading: ...

    def finish(
        self, hidden: Float[Tensor, "batch hidden"], residual: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch width"]: ...


def check_tokens(context: Tensor, query: Tensor) -> None:
    """Raise an error that names the argument unless ``query`` can follow ``context``."""
    check_tensor("context", context, "batch n_context width")
    check_tensor("query", query, "batch width")
    if context.shape[0] != query.shape[0] or context.shape[2] != query.shape[1]:
        raise ValueError(
            f"query: got shape {tuple(query.shape)} after a context of shape "
            f"{tuple(context.shape)}; use [batch, width] = {(context.shape[0], context.shape[2])}"
        )


def block_output(
    block: ContextualBlock, context: Context, query: Query
) -> Float[Tensor, "batch width"]:
    """``T_W(C, x)``: what the block puts out at the query."""
    check_tokens(context, query)
    reading = block.read(context, query)
    return block.finish(reading.dense_input @ block.dense_weight.mT, reading.residual)


@dataclass(frozen=True, kw_only=True)
class AttentionBlockConfig:
    """The shape of an :class:`AttentionBlock`.

    Attributes:
        width: of a token.
        hidden: units of the MLP (of its gate and of its value each, if ``gated``).
        heads, head_width: of the attention layer.
        attention: ``"softmax"``, or ``"linear"``: values times scores, summed.
        reads: what the dense layer is fed: ``"attention"`` alone, ``A(C, x)``, as in the theorem,
            or the ``"stream"`` ``x + A(C, x)``, as in a transformer.
        skip: whether ``x + A(C, x)`` is also added to the output. With ``reads="attention"`` this
            is the skip version of the paper's appendix A.
        norm: ``"layer"``, ``"rms"`` or ``None``.
        norm_place: ``"pre"``: before attention and before the MLP. ``"post"``: after each sum.
        gated: an MLP ``W_d (phi(W_g z) * W_u z)`` in place of ``W_d phi(W z + b)``.
        query_is_key: whether the query may attend to itself. Without it ``A(x) = 0``.
    """

    width: int
    hidden: int
    heads: int = 2
    head_width: int = 4
    attention: Literal["softmax", "linear"] = "softmax"
    reads: Literal["attention", "stream"] = "stream"
    skip: bool = True
    norm: Literal["layer", "rms"] | None = None
    norm_place: Literal["pre", "post"] = "pre"
    gated: bool = False
    query_is_key: bool = True

    def __post_init__(self):
        for name in ("width", "hidden", "heads", "head_width"):
            check_integer(name, getattr(self, name), at_least=1)
        check_choice("attention", self.attention, ("softmax", "linear"))
        check_choice("reads", self.reads, ("attention", "stream"))
        check_choice("norm_place", self.norm_place, ("pre", "post"))
        if self.norm not in ("layer", "rms", None):
            raise ValueError(f"norm: got {self.norm!r}; use 'layer', 'rms' or None")


class AttentionBlock(nn.Module):
    """One decoder block with random weights of order one in every part, norms and biases too.

    Args:
        config: its shape.
        generator: where the weights come from; a seed of 0 if ``None``.
        dtype: of the weights; the identities are checked in float64.
    """

    def __init__(
        self,
        config: AttentionBlockConfig,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(0) if generator is None else generator

        def normal(*shape: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(shape, generator=generator, dtype=dtype))

        width, hidden = config.width, config.hidden
        head = (config.heads, config.head_width, width)
        self.w_query, self.w_key, self.w_value = (normal(*head, scale=width**-0.5) for _ in "qkv")
        self.projection = normal(config.heads, width, config.head_width, scale=width**-0.5)
        self.read_in = normal(hidden * (1 + config.gated), width, scale=width**-0.5)
        self.read_in_bias = normal(hidden * (1 + config.gated), scale=0.3)
        self.write = normal(width, hidden, scale=hidden**-0.5)
        self.write_bias = normal(width, scale=0.3)
        self.norms = nn.ParameterList(1 + normal(width, scale=0.1) for _ in range(2))

    @property
    def dense_weight(self) -> Float[Tensor, "hidden width"]:
        return self.read_in

    def _normed(self, x: Tensor, which: int) -> Tensor:
        if self.config.norm is None:
            return x
        normalise = F.layer_norm if self.config.norm == "layer" else F.rms_norm
        return normalise(x, x.shape[-1:], weight=self.norms[which])

    def attend(self, context: Context, query: Query) -> Query:
        """``A(C, x)``: the update that attention makes at the query, without a skip.

        Only the query asks, so this is one row of
        :func:`~icl_lessons.models.attention.softmax_attention` or of its linear form.
        """
        tokens = torch.cat([context, query[:, None]], 1)
        if self.config.norm_place == "pre":
            tokens = self._normed(tokens, 0)
        seen = tokens if self.config.query_is_key else tokens[:, :-1]
        asked = torch.einsum("bw,hkw->bhk", tokens[:, -1], self.w_query)
        scores = torch.einsum("bhk,hkw,biw->bhi", asked, self.w_key, seen)
        if self.config.attention == "softmax" and seen.shape[1]:
            scores = (scores * self.config.head_width**-0.5).softmax(-1)
        averaged = torch.einsum("bhi,biw->bhw", scores, seen)
        return torch.einsum("bhw,hkw,hok->bo", averaged, self.w_value, self.projection)

    def read(self, context: Context, query: Query) -> Reading:
        attended = self.attend(context, query)
        stream = query + attended
        if self.config.norm_place == "post":
            stream = self._normed(stream, 0)
        fed = attended if self.config.reads == "attention" else stream
        if self.config.norm_place == "pre":
            fed = self._normed(fed, 1)
        return Reading(fed, stream if self.config.skip else torch.zeros_like(stream))

    def finish(self, hidden: Float[Tensor, "batch hidden"], residual: Query) -> Query:
        hidden = hidden + self.read_in_bias
        if self.config.gated:
            gate, value = hidden.chunk(2, -1)
            active = F.gelu(gate) * value
        else:
            active = F.gelu(hidden)
        out = residual + active @ self.write.mT + self.write_bias
        return self._normed(out, 1) if self.config.norm_place == "post" else out


class TransformerBlock:
    """A block of the course's transformers, seen as a contextual block.

    Args:
        block: a :class:`icl_lessons.models.transformer.Block` with an MLP.

    Raises:
        ValueError: a block of attention alone: it has no dense layer for a context to change.
    """

    def __init__(self, block: transformer.Block):
        if block.mlp is None:
            raise ValueError("block: has no MLP (mlp_ratio 0), so no dense layer to change")
        self.block = block

    @property
    def dense_weight(self) -> Float[Tensor, "hidden width"]:
        return self.block.mlp.read.weight

    def mask(self, tokens: Context) -> Tensor:
        """Which of the tokens each may look at: itself and those before it."""
        return causal_mask(tokens.shape[1], device=tokens.device)

    def read(self, context: Context, query: Query) -> Reading:
        tokens = torch.cat([context, query[:, None]], 1)
        attended = self.block.attention(self.block.norm_attention(tokens), self.mask(tokens))
        stream = (tokens + attended)[:, -1]
        return Reading(self.block.norm_mlp(stream), stream)

    def finish(self, hidden: Float[Tensor, "batch hidden"], residual: Query) -> Query:
        mlp = self.block.mlp
        active = transformer.ACTIVATIONS[mlp.activation](hidden + mlp.read.bias)
        return residual + mlp.write(active)
