"""Trained models of sequences, and what they are held against.

A model of next states is trained on all its predictions [vonoswald2023uncovering, section 2]:

.. math:: \\mathcal L(\\theta) = \\mathbb E\\, \\frac1{T-1} \\sum_{t=1}^{T-1}
          \\tfrac12 \\|s_{t+1} - f_t(s_{1:t}; \\theta)\\|^2

(the paper sums over ``t``). The first prediction has seen no transition, so that nothing can be
learnt for it; where models are compared, losses are averaged from the second on
(:func:`from_second`).

The references: one gradient step of the best size, the solver of Proposition 2 with its few numbers
tuned for performance (:class:`TunedSolver`), and regularised least squares on every prefix.
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.mesa_optimization.preconditioned_sequence import read_out
from icl_lessons.mesa_optimization.sequence_construction import (
    next_step_descent,
    next_step_least_squares,
    prefix_sums,
)
from icl_lessons.models.attention import SelfAttention, causal_mask
from icl_lessons.models.state_sequence import StateTransformer, StateTransformerConfig
from icl_lessons.runtime import check_integer, check_number
from icl_lessons.tasks.dynamics import Sequences

States = Float[Tensor, "batch length d"]
Predictor = Callable[[Tensor], Tensor]  # states to predictions of the next, at every position
Losses = Float[Tensor, "*models predictions"] | Float[np.ndarray, "*models predictions"]
Blocks = Float[Tensor, "slots slots d d"]


def next_state_loss(model: Predictor, batch: Sequences) -> Float[Tensor, ""]:
    """``1/2 |f_t - s_{t+1}|^2``, summed over coordinates, averaged over all ``T - 1`` predictions.

    The last state is a target only, so that the model reads ``T - 1`` states.
    """
    error = model(batch.states[:, :-1]) - batch.states[:, 1:]
    return 0.5 * error.square().sum(-1).mean()


def position_losses(model: Predictor, states: States) -> Float[Tensor, " length-1"]:
    """``1/2 E |f_t - s_{t+1}|^2`` of every prediction that has a target."""
    with torch.no_grad():
        return 0.5 * (model(states[:, :-1]) - states[:, 1:]).square().sum(-1).mean(0)


def from_second(losses: Losses) -> Tensor | np.ndarray | np.floating:
    """The mean over all predictions but the first, which has seen no transition."""
    return losses[..., 1:].mean(-1)


# --- references ---------------------------------------------------------------------------------


def best_regularization(states: States, candidates: Sequence[float]) -> float:
    """The ``lambda`` with which regularised least squares predicts these sequences best.

    Args:
        states: other sequences than those it will be measured on, ``[batch, length, d]``.
        candidates: to choose from; judged from the second prediction on.
    """

    def loss(regularization: float) -> float:
        solve = functools.partial(next_step_least_squares, regularization=regularization)
        return float(from_second(position_losses(solve, states)))

    return min(candidates, key=loss)


def best_step_size(states: States) -> float:
    """The step of gradient descent from zero that predicts these sequences best, all positions.

    The loss is a parabola in the step: its lowest point is computed, not searched for. Starting
    from other weights than zero cannot help on average, since ``W*`` and ``-W*`` are as likely.
    """
    unit = next_step_descent(states[:, :-1], 1.0)[1]
    return ((unit * states[:, 1:]).sum() / unit.square().sum()).item()


class TunedSolver(nn.Module):
    """Proposition 2 with its few numbers free: ``steps`` of preconditioning, then one read-out.

    ``q <- q + alpha_k (s_t - (C_t + I / lambda) q)`` from ``q = s_t``, with ``C_t`` the sum of
    ``s s^T`` over the inputs of the pairs; the prediction is ``eta sum_t' s_t' s_{t'-1}^T q``. With
    no step it is one step of gradient descent of size ``eta``. All numbers are positive and kept as
    logarithms. What it computes is clamped after every step, as the trained layers are.

    Args:
        steps: 0 or more.
        shared: one ``alpha`` for all steps, or one for each.
        length: sequences are about so long; where training starts from depends on it.
        clamp: largest size of an entry of ``q`` and of the prediction.
    """

    def __init__(
        self, steps: int, *, shared: bool = True, length: int = 20, clamp: float | int = 10.0
    ):
        super().__init__()
        check_integer("steps", steps, at_least=0)
        check_integer("length", length, at_least=1)
        check_number("clamp", clamp, positive=True)
        self.steps, self.clamp = steps, clamp
        # Chebyshev's sizes for a spectrum in [1, 2 length]: equal ones would stay nearly equal.
        count, half = max(steps, 1), length - 0.5
        angles = math.pi * (2 * torch.arange(count) + 1) / (2 * count)
        sizes = 1 / (half + 1 + half * angles.cos())
        self.log_step_size = nn.Parameter(sizes.min().log()[None] if shared else sizes.log())
        self.log_penalty = nn.Parameter(torch.zeros(1))
        self.log_read_out = nn.Parameter(torch.full((1,), math.log((1 + steps) * 0.5 / length)))

    def forward(self, states: States) -> States:
        """Predictions of the next state at every position."""
        covariance, _ = prefix_sums(states)
        penalty, q = self.log_penalty.exp(), states
        for k in range(self.steps):
            step = self.log_step_size[k % len(self.log_step_size)].exp()
            q = q + step * (states - torch.einsum("btij,btj->bti", covariance, q) - penalty * q)
            q = q.clamp(-self.clamp, self.clamp)
        predicted = self.log_read_out.exp() * read_out(q, states)
        return predicted.clamp(-self.clamp, self.clamp)


# --- reading a trained layer --------------------------------------------------------------------


class Products(NamedTuple):
    """All that one head of linear attention on pairs depends on, in blocks of ``d`` coordinates.

    Attributes:
        key_query: ``W_K^T W_Q``, ``[slots, slots, d, d]``; row block = of the key.
        projection_value: ``P W_V`` over ``max_length``; row block = what is written.
    """

    key_query: Blocks
    projection_value: Blocks


def products_of(model: StateTransformer, layer: int = 0) -> Products:
    """The two products of a one-headed linear layer on pairs, brought to one scale.

    The function stays the same if one product is multiplied by a number and the other divided; here
    the block that compares the previous state with the current one has a mean diagonal of 1.

    Raises:
        ValueError: a model of another kind, or a layer that does not compare those two.
    """
    attention = model.blocks[layer].attention if model.config.tokens == "pairs" else None
    if not isinstance(attention, SelfAttention) or attention.w_query.shape[0] != 1:
        raise ValueError("model: use one whose layers are linear attention on pairs, with one head")
    d, slots = model.config.d, 2 + model.config.copies
    key_query = _blocks(attention.key_query()[0], d, slots)
    written = _blocks(attention.projection_value()[0], d, slots) / model.config.max_length
    scale = key_query[slots - 1, 1].diagonal().mean()
    if abs(scale) < 1e-6:
        raise ValueError("model: this layer does not compare the previous state with the current")
    return Products(key_query / scale, written * scale)


def constructed_products(
    d: int, step_size: float | int, dtype: torch.dtype = torch.float32
) -> Products:
    """Proposition 1 in the same blocks, from ``Phi_0 = 0``: one identity in each product."""
    check_integer("d", d, at_least=1)
    check_number("step_size", step_size)
    identity, zero = torch.eye(d, dtype=dtype), torch.zeros(3, 3, d, d, dtype=dtype)
    key_query, written = zero.clone(), zero.clone()
    key_query[2, 1], written[0, 1] = identity, step_size * identity
    return Products(key_query, written)


def compressed(products: Products) -> Products:
    """Every block replaced by the nearest multiple of the identity: one number for each block."""

    def scaled(blocks: Blocks) -> Blocks:
        means = blocks.diagonal(dim1=-2, dim2=-1).mean(-1)
        return means[..., None, None] * torch.eye(blocks.shape[-1]).to(blocks)

    return Products(*map(scaled, products))


def without_small_blocks(products: Products) -> Products:
    """Only the block of each product that Proposition 1 needs, as it was trained."""
    kept = [torch.zeros_like(blocks) for blocks in products]
    kept[0][-1, 1], kept[1][0, 1] = products.key_query[-1, 1], products.projection_value[0, 1]
    return Products(*kept)


def mixed(first: Products, second: Products, share: float | int) -> Products:
    """``(1 - share)`` of the first and ``share`` of the second, entry by entry."""
    check_number("share", share)
    if first.key_query.shape != second.key_query.shape:
        raise ValueError(
            f"second: blocks of shape {tuple(second.key_query.shape)}; first has "
            f"{tuple(first.key_query.shape)}"
        )
    return Products(*((1 - share) * a + share * b for a, b in zip(first, second, strict=True)))


def block_shares(products: Products) -> tuple[Tensor, Tensor]:
    """What part of each product's squared entries, written rows alone, lies in each block.

    Of ``P W_V`` only the rows that write to the prediction count; the others reach no output of a
    one-layer model.
    """
    sizes = [blocks.square().sum((-2, -1)) for blocks in products]
    return sizes[0] / sizes[0].sum(), sizes[1][0] / sizes[1][0].sum()


def layer_from(products: Products, *, max_length: int, clamp: float | None) -> StateTransformer:
    """A one-layer model on pairs with these products."""
    slots, d = products.key_query.shape[0], products.key_query.shape[-1]
    shape = StateTransformerConfig(
        d=d,
        tokens="pairs",
        blocks=("linear",),
        copies=slots - 2,
        max_length=max_length,
        clamp=clamp,
    )
    model = StateTransformer(shape).to(products.key_query).requires_grad_(False)
    key_query, written = (
        blocks.transpose(1, 2).reshape(slots * d, slots * d) for blocks in products
    )
    identity = torch.eye(slots * d).to(key_query)
    model.blocks[0].attention = SelfAttention.from_matrices(
        key_query[None], identity[None], max_length * written[None], identity[None]
    ).requires_grad_(False)
    return model


def _blocks(matrix: Float[Tensor, "width width"], d: int, slots: int) -> Blocks:
    return matrix.detach().reshape(slots, d, slots, d).transpose(1, 2)


# --- few-shot prompts for a model of next states ------------------------------------------------


class SeparatedPrompts(nn.Module):
    """A trained model with a separator between pairs, and a beginning, that can be tuned.

    Prompts ``x_1, y_1, x_2, y_2, ...`` become ``[b], x_1, y_1, [e], x_2, y_2, [e], ...``. Separator
    ``e`` and beginning ``b`` are vectors of the stream before the first block, at every place the
    same, with the place's own position added. The model itself is not changed: it has no parameter
    that could be trained here.

    Args:
        model: trained on next states, on raw tokens.
        prefix: put a beginning in front.
        generator: where the start comes from; a seed of 0 if ``None``.
    """

    def __init__(
        self,
        model: StateTransformer,
        *,
        prefix: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if model.config.tokens != "raw" or not model.config.positions:
            raise ValueError("model: use one that was made for raw tokens, with positions")
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.model, self.prefix = copy.deepcopy(model).requires_grad_(False), prefix
        shape = (1 + prefix, model.config.width)
        self.separators = nn.Parameter(0.1 * torch.randn(shape, generator=generator))

    @property
    def most_pairs(self) -> int:
        """Pairs for which there are positions; the last pair needs no separator, nor its target."""
        return (self.model.config.max_length - self.prefix + 1) // 3

    def forward(self, prompt: States) -> Float[Tensor, "batch pairs d"]:
        """The prediction of every ``y_i`` from ``x_i`` and the pairs before it.

        Args:
            prompt: ``x_1, y_1, x_2, y_2, ...``, pairs complete.
        """
        pairs = prompt.shape[1] // 2
        if prompt.shape[1] % 2 or not 1 <= pairs <= self.most_pairs:
            raise ValueError(
                f"prompt: {prompt.shape[1]} states; use pairs, at most {self.most_pairs}"
            )
        x = self.model.read_in(prompt).unflatten(1, (pairs, 2))
        separator = self.separators[0].expand(len(prompt), pairs, 1, -1)
        x = torch.cat([x, separator], 2).flatten(1, 2)[:, :-2]
        if self.prefix:
            x = torch.cat([self.separators[1].expand(len(prompt), 1, -1), x], 1)
        x = x + self.model.positions[: x.shape[1]]
        return self.model.read(self.model.from_stream(x)[-1])[:, int(self.prefix) :: 3]


def prompt_loss(model: SeparatedPrompts, batch: Sequences) -> Float[Tensor, ""]:
    """``1/2 |y_hat_i - y_i|^2`` averaged over all pairs but the first."""
    error = model(batch.states) - batch.states[:, 1::2]
    return 0.5 * error[:, 1:].square().sum(-1).mean()


# --- looking inside models on raw states ----------------------------------------------------------


def first_attention(
    model: StateTransformer, states: States
) -> Float[Tensor, "batch heads length length"]:
    """Where each position looks in a softmax first block, row by row; every row sums to 1."""
    if model.config.tokens != "raw" or model.config.blocks[0] != "softmax":
        raise ValueError("model: use one on raw tokens whose first block is 'softmax'")
    block, heads = model.blocks[0], model.config.heads
    stacked = block.attention.query_key_value(block.norm_attention(model.embed(states)))
    queries, keys, _ = stacked.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    scores = queries @ keys.mT * queries.shape[-1] ** -0.5
    return scores.masked_fill(~causal_mask(states.shape[1]), -torch.inf).softmax(-1)
