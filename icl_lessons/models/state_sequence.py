"""Causal models of sequences of vectors: position ``t`` of the output predicts state ``t + 1``.

Two ways to begin. ``raw``: each state is read in as it is and has to find the state before it; the
blocks are those of :mod:`icl_lessons.models.transformer`, and any of them may hold a mesa layer in
place of its attention. ``pairs``: the tokens are laid out as the constructions need them,
``(0, s_t, s_{t-1})`` with as many copies of ``s_t`` as wanted, the layers are attention alone, and
the prediction is the first ``d`` coordinates of the stream [vonoswald2023uncovering, Proposition 1
and section on linear models].

Every residual stream can be read (:meth:`StateTransformer.streams`).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.models.attention import SelfAttention, causal_mask, linear_attention
from icl_lessons.models.mesa_layer import MesaAttention
from icl_lessons.models.transformer import Block, TransformerConfig
from icl_lessons.runtime import check_choice, check_integer, check_number, check_tensor

KINDS = ("linear", "softmax", "mesa")
States = Float[Tensor, "batch length d"]
Stream = Float[Tensor, "batch length width"]


@dataclass(frozen=True, kw_only=True)
class StateTransformerConfig:
    """The shape of a :class:`StateTransformer`.

    Attributes:
        d: coordinates of a state.
        blocks: the kind of each block's attention, from the first: ``"linear"``, ``"softmax"`` or
            ``"mesa"``. Layers on pairs are ``"linear"`` or ``"mesa"``.
        tokens: ``"raw"`` or ``"pairs"``.
        heads: attention heads in each block, summed.
        max_length: states that learned positions are made for; on pairs, what the sums of linear
            attention are divided by, whatever the length of the sequence: a step size of 1 is then
            one of ``1 / max_length`` on the sum over pairs.
        width, mlp_ratio, layer_norm, positions: as in
            :class:`~icl_lessons.models.transformer.TransformerConfig`; for raw tokens only. An MLP
            uses GELU.
        copies: of ``s_t`` in a token, for pairs only. The width is then ``(2 + copies) d``.
        clamp: on pairs, largest size of an entry of the stream after a layer; ``None`` for no
            limit. Without one, deep linear layers blow up on the rare sequences with large states.
        mesa_heads, mesa_head_width: of a mesa layer on raw tokens; its cost grows with the cube of
            the head's width.
        regularization: ``lambda`` of every mesa head at the start.
        init_std: of every matrix at the start. ``None``: for raw tokens one over the square root of
            its inputs, and less for those that write to the stream, as in GPT-2; on pairs 0.1.
    """

    d: int
    blocks: tuple[str, ...] = ("softmax", "softmax")
    tokens: Literal["raw", "pairs"] = "raw"
    heads: int = 1
    max_length: int = 20
    width: int = 32
    mlp_ratio: float | int = 4
    layer_norm: Literal["pre"] | None = "pre"
    positions: Literal["learned"] | None = "learned"
    copies: int = 1
    clamp: float | int | None = 10.0
    mesa_heads: int = 1
    mesa_head_width: int = 8
    regularization: float | int = 1.0
    init_std: float | None = None

    def __post_init__(self):
        for name in (
            "d",
            "heads",
            "max_length",
            "width",
            "copies",
            "mesa_heads",
            "mesa_head_width",
        ):
            check_integer(name, getattr(self, name), at_least=1)
        check_choice("tokens", self.tokens, ("raw", "pairs"))
        if not self.blocks:
            raise ValueError("blocks: got none; name the kind of at least one block")
        for kind in self.blocks:
            check_choice("blocks", kind, KINDS)
            if kind == "softmax" and self.tokens == "pairs":
                raise ValueError("blocks: layers on pairs are 'linear' or 'mesa', not 'softmax'")
        if self.clamp is not None:
            check_number("clamp", self.clamp, positive=True)
        check_number("regularization", self.regularization, positive=True)
        if self.init_std is not None:
            check_number("init_std", self.init_std, positive=True)
        if self.tokens == "raw":
            self.shape("softmax")  # the other settings are checked there

    @property
    def stream_width(self) -> int:
        """Numbers in the residual stream of one position."""
        return self.width if self.tokens == "raw" else (2 + self.copies) * self.d

    def shape(self, kind: str) -> TransformerConfig:
        """What a block on raw tokens is made from."""
        return TransformerConfig(
            d=self.d,
            m=self.d,
            width=self.width,
            layers=len(self.blocks),
            heads=self.heads,
            attention="linear" if kind == "linear" else "softmax",
            mlp_ratio=self.mlp_ratio,
            activation="gelu",
            layer_norm=self.layer_norm,
            positions=self.positions,
        )


def previous_states(states: States) -> States:
    """``s_{t-1}`` at every position; zeros at the first, where there is none.

    A pair ``(0, s_1)`` adds nothing to any sum: its regression input is zero.
    """
    check_tensor("states", states, "batch length d")
    return F.pad(states[:, :-1], (0, 0, 1, 0))


def pair_stream(states: States, copies: int = 1) -> Stream:
    """Tokens ``(0, s_t, ..., s_t, s_{t-1})``, ``[batch, length, (2 + copies) d]``.

    The first state has none before it: its token holds zeros there, and is the key of no pair.
    """
    check_tensor("states", states, "batch length d")
    check_integer("copies", copies, at_least=1)
    return torch.cat([0 * states, *[states] * copies, previous_states(states)], -1)


class PairLayer(nn.Module):
    """A residual layer of attention alone, on tokens that hold pairs.

    Args:
        config: the shape.
        kind: ``"linear"`` (sums over pairs, divided by ``max_length``) or ``"mesa"``.
        generator: where the start comes from.
    """

    def __init__(
        self, config: StateTransformerConfig, kind: str, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.kind, self.divisor, self.clamp = kind, config.max_length, config.clamp
        how = {"init_std": config.init_std or 0.1, "generator": generator}
        if kind == "mesa":
            how |= {"regularization": config.regularization}
        layer = MesaAttention if kind == "mesa" else SelfAttention
        self.attention = layer(config.stream_width, config.heads, **how)

    def forward(self, x: Stream, mask: Tensor) -> Stream:
        """The stream after the layer."""
        if self.kind == "mesa":
            x = self.attention(x)
        else:
            *read, projection = self.attention.matrices
            x = linear_attention(x, *read, projection / self.divisor, mask)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class MesaHeads(nn.Module):
    """The update of a mesa layer, in the place of a block's attention.

    Args:
        config: the shape.
        generator: where the start comes from.
    """

    def __init__(self, config: StateTransformerConfig, generator: torch.Generator | None = None):
        super().__init__()
        self.layer = MesaAttention(
            config.width,
            config.mesa_heads,
            config.mesa_head_width,
            regularization=config.regularization,
            init_std=config.init_std or config.width**-0.5,
            generator=generator,
        )
        with torch.no_grad():
            self.layer.projection.div_((2 * len(config.blocks)) ** 0.5)

    def forward(self, x: Stream, mask: Tensor) -> Stream:
        """What the layer adds to each token; causal whatever the mask."""
        return self.layer(x) - x


class StateTransformer(nn.Module):
    """A causal model of states: ``model(states)[:, t]`` predicts ``states[:, t + 1]``.

    Args:
        config: its shape.
        generator: where its start comes from; a seed of 0 if ``None``.
    """

    def __init__(self, config: StateTransformerConfig, *, generator: torch.Generator | None = None):
        super().__init__()
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.config = config
        if config.tokens == "pairs":
            self.blocks = nn.ModuleList(PairLayer(config, k, generator) for k in config.blocks)
            return
        self.read_in = nn.Linear(config.d, config.width)
        if config.positions:
            self.positions = nn.Parameter(torch.empty(config.max_length, config.width))
        self.blocks = nn.ModuleList(Block(config.shape(kind)) for kind in config.blocks)
        self.norm = nn.LayerNorm(config.width) if config.layer_norm else nn.Identity()
        self.read_out = nn.Linear(config.width, config.d)
        self._start(generator)
        for kind, block in zip(config.blocks, self.blocks, strict=True):
            if kind == "mesa":
                block.attention = MesaHeads(config, generator)

    @torch.no_grad()
    def _start(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" not in name:
                std = self.config.init_std or parameter.shape[-1] ** -0.5
                if name == "positions":
                    std = self.config.init_std or 0.02
                if name.endswith("write.weight"):
                    std /= (2 * len(self.config.blocks)) ** 0.5
                parameter.normal_(0, std, generator=generator)

    def forward(self, states: States) -> States:
        """Predictions of the next state at every position."""
        return self.read(self.streams(states)[-1])

    def embed(self, states: States) -> Stream:
        """The stream before the first block.

        Raises:
            ValueError: states of another width, or more of them than there are positions for.
        """
        check_tensor("states", states, "batch length d")
        config = self.config
        if states.shape[2] != config.d:
            raise ValueError(
                f"states: {states.shape[2]} coordinates; this model was made for {config.d}"
            )
        if config.tokens == "pairs":
            return pair_stream(states, config.copies)
        x = self.read_in(states)
        if not config.positions:
            return x
        if states.shape[1] > config.max_length:
            raise ValueError(
                f"states: {states.shape[1]} of them, but this model has learned positions for at "
                f"most max_length = {config.max_length}"
            )
        return x + self.positions[: states.shape[1]]

    def streams(self, states: States) -> list[Stream]:
        """The residual stream before the first block and after each, ``blocks + 1`` of them."""
        return self.from_stream(self.embed(states))

    def from_stream(self, x: Stream) -> list[Stream]:
        """The same, from a stream before the first block."""
        mask = causal_mask(x.shape[1], device=x.device)
        path = [x]
        for block in self.blocks:
            path.append(block(path[-1], mask))
        return path

    def read(self, x: Stream) -> States:
        """The prediction that a stream after the last block holds."""
        if self.config.tokens == "pairs":
            return x[..., : self.config.d]
        return self.read_out(self.norm(x))
