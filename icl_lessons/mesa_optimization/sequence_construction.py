"""A causal linear attention layer takes a gradient step on all next-step losses so far.

Proposition 1 of von Oswald et al. 2023b [vonoswald2023uncovering]. A model of the next state,
``s_{t+1} ~ Phi s_t``, has at time ``t`` seen ``t - 1`` transitions, and the *mesa-objective*

.. math:: L_t(\\Phi) = \\sum_{t'=1}^{t-1} \\tfrac12 \\|s_{t'+1} - \\Phi s_{t'}\\|^2, \\qquad
          \\nabla L_t(\\Phi) = \\sum_{t'=1}^{t-1} (\\Phi s_{t'} - s_{t'+1}) s_{t'}^\\top .

It is a **sum** over transitions, as in the paper; the rest of the course divides by their number.
With tokens ``e_t = (Phi_0 s_t, s_t, s_{t-1})`` one layer leaves ``(Phi_0 - eta grad L_t(Phi_0))
s_t`` in the first slot, at every ``t`` at once. The key is the previous state, the value what
``Phi_0`` gets wrong about the current one, the query the current state.

The tokens hold two states each. :func:`binding_layer` makes them from raw states: a head that looks
at the token before. The layers that follow up on the first step are in
:mod:`~icl_lessons.mesa_optimization.preconditioned_sequence`.

States are ``[batch, length, d]`` everywhere; position ``t`` predicts the state after it.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from icl_lessons.models.attention import Kind, SelfAttention
from icl_lessons.models.mesa_layer import mesa_attention
from icl_lessons.models.state_sequence import previous_states
from icl_lessons.runtime import check_choice, check_integer, check_number, check_tensor

States = Float[Tensor, "batch length d"]
Matrices = tuple[Tensor, Tensor, Tensor, Tensor]


# --- the mesa-objective, directly ---------------------------------------------------------------


def prefix_sums(
    states: States,
) -> tuple[Float[Tensor, "batch length d d"], Float[Tensor, "batch length d d"]]:
    """``sum s_{t'} s_{t'}^T`` and ``sum s_{t'+1} s_{t'}^T`` over ``t' < t``, for every ``t``."""
    before = previous_states(states)
    return (
        torch.einsum("bti,btj->btij", before, before).cumsum(1),
        torch.einsum("bti,btj->btij", states, before).cumsum(1),
    )


def mesa_gradient(
    weights: Float[Tensor, "batch length d d"], states: States
) -> Float[Tensor, "batch length d d"]:
    """``grad L_t`` at a matrix for every position: the transitions that position ``t`` has seen."""
    covariance, products = prefix_sums(states)
    if weights.shape != products.shape:
        raise ValueError(
            f"weights: got shape {tuple(weights.shape)}; use one matrix for each position, "
            f"{tuple(products.shape)}"
        )
    return weights @ covariance - products


def next_step_descent(
    states: States,
    step_size: float | int,
    steps: int = 1,
    initial_weights: Float[Tensor, "d d"] | None = None,
) -> Float[Tensor, "{steps}+1 batch length d"]:
    """Predictions of ``s_{t+1}`` after 0, 1, ..., ``steps`` gradient steps on every ``L_t``.

    Each position descends on its own from ``Phi_0``: what no causal model does layer by layer.

    Args:
        step_size: ``eta``; the loss is a sum, so that it shrinks with the length.
        initial_weights: ``Phi_0``; zeros if ``None``.
    """
    check_number("step_size", step_size)
    check_integer("steps", steps, at_least=0)
    start = _initial(initial_weights, states)
    weights = start.expand(*states.shape[:2], -1, -1)
    covariance, products = prefix_sums(states)
    path = [states @ start.mT]
    for _ in range(steps):
        weights = weights - step_size * (weights @ covariance - products)
        path.append(torch.einsum("btij,btj->bti", weights, states))
    return torch.stack(path)


def next_step_least_squares(states: States, regularization: float | int) -> States:
    """Predictions of ``s_{t+1}`` by the minimiser of ``L_t + |Phi|^2 / (2 lambda)``.

    Args:
        regularization: ``lambda``; the prior's weight is its inverse.
    """
    current, before = states[:, None], previous_states(states)[:, None]
    return mesa_attention(before, current, current, regularization)[:, 0]


def next_step_loss(predictions: States, states: States) -> Float[Tensor, " length-1"]:
    """``1/2 E |s_{t+1} - prediction|^2`` at every position that has a next state."""
    if predictions.shape != states.shape:
        raise ValueError(
            f"predictions: got shape {tuple(predictions.shape)}; states has {tuple(states.shape)}"
        )
    return 0.5 * (predictions[:, :-1] - states[:, 1:]).square().sum(-1).mean(0)


# --- Proposition 1 ------------------------------------------------------------------------------


def next_step_tokens(
    states: States, initial_weights: Float[Tensor, "d d"] | None = None
) -> Float[Tensor, "batch length 3*d"]:
    """``e_t = (Phi_0 s_t, s_t, s_{t-1})``, with ``s_0 = 0``."""
    start = _initial(initial_weights, states)
    return torch.cat([states @ start.mT, states, previous_states(states)], -1)


def one_step_weights(
    d: int,
    step_size: float | int,
    initial_weights: Float[Tensor, "d d"] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Matrices:
    """Proposition 1's ``(W_Q, W_K, W_V, P)``, to be used under a causal mask.

    ``W_Q = (0, I, 0)``, ``W_K = (0, 0, I)``, ``W_V = (0, I, -Phi_0)``, ``P = (eta I, 0, 0)``.

    Args:
        d: coordinates of a state.
        step_size: ``eta``, 0 or more; of a loss that is a sum.
        initial_weights: ``Phi_0``, ``[d, d]``; zeros if ``None``.

    Returns:
        ``w_query, w_key, w_value [1, d, 3 d]`` and ``projection [1, 3 d, d]``: the arguments of
        :func:`~icl_lessons.models.attention.linear_attention`.
    """
    check_integer("d", d, at_least=1)
    check_number("step_size", step_size)
    start = torch.zeros(d, d, dtype=dtype) if initial_weights is None else initial_weights
    check_tensor("initial_weights", start, "d d")
    if start.shape != (d, d) or start.dtype != dtype:
        raise ValueError(
            f"initial_weights: use {dtype} of shape {(d, d)}, got {start.dtype} of shape "
            f"{tuple(start.shape)}"
        )
    identity = torch.eye(d, dtype=dtype)
    return (
        block_rows(d, 3 * d, {1: identity})[None],
        block_rows(d, 3 * d, {2: identity})[None],
        block_rows(d, 3 * d, {1: identity, 2: -start})[None],
        block_rows(d, 3 * d, {0: step_size * identity}).mT[None],
    )


def block_rows(d: int, width: int, blocks: Mapping[int, Tensor]) -> Float[Tensor, "rows width"]:
    """A wide matrix of zeros but for ``blocks[i]``, which reads slot ``i`` (``d`` coordinates)."""
    first = next(iter(blocks.values()))
    rows = first.new_zeros(first.shape[0], width)
    for slot, block in blocks.items():
        rows[:, slot * d : (slot + 1) * d] = block
    return rows


# --- stacking it --------------------------------------------------------------------------------


def stacked_tokens(states: States) -> Float[Tensor, "batch length 4*d"]:
    """``e_t = (p_t, s_t, s_{t-1}, r_t)`` from ``Phi_0 = 0``, so that ``p_t = 0`` and ``r_t = s_t``.

    The fourth slot is what a second step needs: what the current model gets wrong at token ``t``.
    """
    return torch.cat([torch.zeros_like(states), states, previous_states(states), states], -1)


def stacked_weights(d: int, step_size: float | int, dtype: torch.dtype = torch.float64) -> Matrices:
    """A layer that can be applied again and again; two heads, one for ``p_t``, one for ``r_t``.

    Both heads have keys ``s_{t'-1}`` and values ``eta r_{t'}``. The first asks with ``s_t`` and
    adds to ``p_t``, the second asks with ``s_{t-1}`` and subtracts from ``r_t``. If every token saw
    the whole sequence, ``K`` layers would be ``K`` gradient steps on its loss. Under a causal mask
    each token has been corrected by its own past alone, and they are another algorithm.
    """
    check_integer("d", d, at_least=1)
    check_number("step_size", step_size)
    identity, width = torch.eye(d, dtype=dtype), 4 * d
    prediction, state, before, residual = (block_rows(d, width, {i: identity}) for i in range(4))
    return (
        torch.stack([state, before]),
        torch.stack([before, before]),
        torch.stack([residual, residual]),
        step_size * torch.stack([prediction.mT, -residual.mT]),
    )


def online_predictions(states: States) -> States:
    """Predictions of ``s_{t+1}`` by an online pass: ``Phi <- Phi + (s_t - Phi s_{t-1}) s_{t-1}^+``.

    Each transition is fitted exactly as it comes (Kaczmarz's step; normalised least mean squares).
    It is what :func:`stacked_weights` under a causal mask tends to with more and more layers, at
    any step below 2 over the largest squared state; at states of length 1 and a step of 1 it is
    there after as many layers as there are transitions.
    """
    before = previous_states(states)
    phi = states.new_zeros(len(states), states.shape[2], states.shape[2])
    predictions = []
    for now, past in zip(states.unbind(1), before.unbind(1), strict=True):
        error = now - (phi @ past[..., None])[..., 0]
        size = past.square().sum(-1, keepdim=True)
        step = torch.where(size > 0, past / size.clamp_min(torch.finfo(size.dtype).tiny), 0)
        phi = phi + error[..., :, None] * step[..., None, :]
        predictions.append((phi @ now[..., None])[..., 0])
    return torch.stack(predictions, 1)


# --- the layer that binds -----------------------------------------------------------------------


def positioned_states(
    states: States,
    length: int,
    width: int,
    slots: Mapping[int, Tensor],
    *,
    beginning: bool = False,
) -> Float[Tensor, "batch sequence {width}+{length}"]:
    """Raw tokens: the state in one slot or several, zeros in the others, then a one-hot position.

    Args:
        length: positions there are, at least one for each token.
        width: of all slots together.
        slots: for each slot that is filled, the ``[d, d]`` matrix that the state is multiplied by.
        beginning: put an empty token in front, for a softmax to look at where nothing came before.
    """
    check_tensor("states", states, "batch length d")
    needed = states.shape[1] + beginning
    if needed > length:
        raise ValueError(f"states: {needed} tokens; there are positions for {length}")
    embed = block_rows(states.shape[2], width, {slot: matrix.mT for slot, matrix in slots.items()})
    data = F.pad(states @ embed, (0, 0, int(beginning), 0))
    places = torch.eye(length, dtype=states.dtype, device=states.device)[:needed]
    return torch.cat([data, places.expand(len(states), -1, -1)], -1)


def binding_layer(
    d: int,
    length: int,
    *,
    slots: int = 3,
    read: int = 1,
    write: int = 2,
    kind: Kind = "linear",
    sharpness: float | int = 20.0,
    dtype: torch.dtype = torch.float64,
) -> SelfAttention:
    """The layer that brings the state before into every token: its query is ``p_{t-1}``.

    Args:
        d: coordinates of a state.
        length: positions, one unit vector each, in the last coordinates of a token.
        slots: of ``d`` coordinates each, before the position.
        read, write: the slot of ``s_t``, and the empty one that receives ``s_{t-1}``.
        kind: ``"linear"``: the score is 1 for the token before and 0 for all others, and the copy
            is exact. ``"softmax"``: it is off by a term of order ``exp(-sharpness)``, and the first
            token, which has none before it, would receive itself: put an empty one in front.
        sharpness: difference of scores; for softmax only.
    """
    for name, value in {"d": d, "length": length, "slots": slots}.items():
        check_integer(name, value, at_least=1)
    for name, slot in {"read": read, "write": write}.items():
        check_integer(name, slot, at_least=0)
        if slot >= slots:
            raise ValueError(f"{name}: got {slot}; a token has the slots 0 to {slots - 1}")
    if read == write:
        raise ValueError(f"write: got {write}, the slot that is read; use an empty one")
    check_choice("kind", kind, ("linear", "softmax"))
    check_number("sharpness", sharpness, positive=True)
    width = slots * d + length
    look, here = torch.zeros(2, length, width, dtype=dtype)
    here[:, -length:] = torch.eye(length, dtype=dtype)
    look[:, -length:] = torch.diag(torch.ones(length - 1, dtype=dtype), 1)  # p_t to p_{t-1}
    if kind == "softmax":  # the softmax divides scores by the root of the head's width
        look = look * sharpness * length**0.5
    identity = torch.eye(d, dtype=dtype)
    value, project = (block_rows(d, width, {slot: identity}) for slot in (read, write))
    four = look[None], here[None], value[None], project.mT[None]
    return SelfAttention.from_matrices(*four, kind).requires_grad_(False)


# --- what the first layer may bind: windows and prompts -----------------------------------------


def windows(states: States, size: int) -> Float[Tensor, "batch length-{size}+1 {size}*d"]:
    """``z_t = (s_{t-size+1}, ..., s_t)`` stacked, oldest first, for every ``t`` with a full window.

    Where the states show only a part of what moves, the next window is still a linear function of
    this one, once it is long enough (:func:`window_transition`).
    """
    check_tensor("states", states, "batch length d")
    check_integer("size", size, at_least=1)
    if size > states.shape[1]:
        raise ValueError(f"size: a window of {size} in sequences of {states.shape[1]} states")
    return states.unfold(1, size, 1).mT.flatten(2)


def window_transition(
    readout: Float[Tensor, "*batch d hidden"],
    transition: Float[Tensor, "*batch hidden hidden"],
    size: int,
) -> Float[Tensor, "*batch {size}*d {size}*d"]:
    """``Phi = O W* O^+`` with ``O = (C*; C* W*; ...; C* W*^{size-1})``: ``z_{t+1} = Phi z_t``.

    Exact without noise if ``O`` has full column rank, for which ``size * d >= hidden`` is needed
    and almost always enough.

    Args:
        readout: ``C*``.
        transition: ``W*``.
        size: states in a window.
    """
    check_integer("size", size, at_least=1)
    if transition.shape[-2:] != (readout.shape[-1],) * 2:
        raise ValueError(
            f"transition: got shape {tuple(transition.shape)}; readout has {readout.shape[-1]} "
            "hidden coordinates"
        )
    rows = [readout]
    for _ in range(size - 1):
        rows.append(rows[-1] @ transition)
    seen = torch.cat(rows, -2)
    return seen @ transition @ torch.linalg.pinv(seen)


def overlapping_prompt(
    xs: States, ys: States, separator: Float[Tensor, " d"] | None = None
) -> Float[Tensor, "batch tokens d"]:
    """A few-shot prompt as a sequence of states: ``x_1, y_1, x_2, y_2, ...``.

    Args:
        separator: a state to put after every ``y``; ``None`` for none.
    """
    check_tensor("xs", xs, "batch length d")
    check_tensor("ys", ys, "batch length d")
    if xs.shape != ys.shape:
        raise ValueError(f"ys: got shape {tuple(ys.shape)}; xs has {tuple(xs.shape)}")
    if separator is not None and separator.shape != xs.shape[2:]:
        raise ValueError(
            f"separator: got shape {tuple(separator.shape)}; use one state, [d] = {xs.shape[2]}"
        )
    between = [] if separator is None else [separator.expand_as(xs)]
    return torch.stack([xs, ys, *between], 2).flatten(1, 2)


def overlapping_pairs(
    prompt: States,
) -> tuple[Float[Tensor, "batch pairs d"], Float[Tensor, "batch pairs d"]]:
    """All pairs that a layer which binds neighbours makes of a prompt: inputs and targets.

    Half of them, ``(y_i, x_{i+1})``, are no examples of the task. What a next-step learner predicts
    from them at ``x_i`` is ``next_step_least_squares(prompt, ...)[:, 2 * i]``.
    """
    check_tensor("prompt", prompt, "batch length d")
    return prompt[:, :-1], prompt[:, 1:]


def _initial(initial_weights: Tensor | None, states: Tensor) -> Float[Tensor, "d d"]:
    check_tensor("states", states, "batch length d")
    d = states.shape[2]
    if initial_weights is None:
        return states.new_zeros(d, d)
    check_tensor("initial_weights", initial_weights, "d d")
    if initial_weights.shape != (d, d):
        raise ValueError(
            f"initial_weights: got shape {tuple(initial_weights.shape)}; use [d, d] = {(d, d)}"
        )
    return initial_weights
