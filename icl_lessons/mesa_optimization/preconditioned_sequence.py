"""Layers that precondition the query, so that one gradient step after them is least squares.

Proposition 2 of von Oswald et al. 2023b [vonoswald2023uncovering]. With ``S_{t-1} = (s_1, ...,
s_{t-1})`` the minimiser of ``L_t + |Phi|^2 / (2 lambda)`` predicts

.. math:: \\hat\\Phi_t s_t = \\Big(\\sum_{t'=2}^{t} s_{t'} s_{t'-1}^\\top\\Big) H_t^* s_t, \\qquad
          H_t^* = A_t^{-1}, \\quad A_t = S_{t-1} S_{t-1}^\\top + \\tfrac1\\lambda I,

so it is one step from zero, asked with :math:`\\tilde q_t = H_t^* s_t` instead of :math:`s_t`. A
token needs nothing that another token has computed: keys and values stay raw, and a causal mask
does no harm, as it does when gradient steps are stacked.

Tokens are ``(p_t, q_t, s_t, s_{t-1} | position)``. A **Richardson** layer adds
:math:`\\alpha (s_t - A_t q_t)` to the second slot: one head multiplies by the covariance of the
past states, a second one, which attends to its own position, does the rest. A **Chebyshev** layer
has a fifth slot for the direction of its last step. The last layer writes the prediction into the
first slot. All of them are ordinary linear attention layers with fixed weights.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from icl_lessons.estimators.linear_solvers import chebyshev_coefficients
from icl_lessons.mesa_optimization.sequence_construction import (
    Matrices,
    States,
    binding_layer,
    block_rows,
    one_step_weights,
    positioned_states,
    prefix_sums,
)
from icl_lessons.models.attention import Kind, SelfAttention, causal_mask
from icl_lessons.runtime import check_integer, check_number, check_tensor

PREDICTION, QUERY, STATE, BEFORE, DIRECTION = range(5)  # the slots of a token


# --- what the layers compute, directly ----------------------------------------------------------


def preconditioning_systems(
    states: States, regularization: float | int
) -> Float[Tensor, "batch length d d"]:
    """``A_t = sum_{t' < t} s_{t'} s_{t'}^T + I / lambda`` at every position."""
    check_number("regularization", regularization, positive=True)
    covariance, _ = prefix_sums(states)
    return covariance + torch.eye(states.shape[2]).to(states) / regularization


def preconditioned_queries(states: States, regularization: float | int) -> States:
    """``H*_t s_t = A_t^{-1} s_t``: what the layers approach."""
    return torch.linalg.solve(preconditioning_systems(states, regularization), states)


def read_out(queries: Float[Tensor, "*steps batch length d"], states: States) -> Tensor:
    """``(sum_{t' <= t} s_{t'} s_{t'-1}^T) q_t``, the last layer's work, for a path of queries."""
    return torch.einsum("btij,...btj->...bti", prefix_sums(states)[1], queries)


def largest_step_size(states: States, regularization: float | int) -> float:
    """``2 / (mu + 1 / lambda)``, with ``mu`` the largest eigenvalue over all positions.

    Richardson layers with one fixed step converge at every position below it, and diverge at some
    position above it. ``mu`` grows along a sequence, so the last positions decide.
    """
    systems = preconditioning_systems(states, regularization)[:, -1]
    return 2 / torch.linalg.eigvalsh(systems).max().item()


def printed_recursion(
    A: Float[Tensor, "*batch n n"], b: Float[Tensor, "*batch n"], steps: int
) -> Float[Tensor, "{steps}+1 *batch n"]:
    """``x_{k+1} = x_k + (I - A) x_k`` from ``x_0 = b``: the series as the paper's main text has it.

    The constant term ``b`` is missing, and the iterates are ``(2 I - A)^k b``: where ``A`` has
    eigenvalues below 1 they grow without bound. The paper's appendix has the right form,
    :func:`~icl_lessons.estimators.linear_solvers.neumann`.
    """
    check_integer("steps", steps, at_least=0)
    path = [b]
    for _ in range(steps):
        path.append(2 * path[-1] - (A @ path[-1][..., None])[..., 0])
    return torch.stack(path)


# --- the layers ---------------------------------------------------------------------------------


def preconditioning_weights(
    d: int,
    length: int,
    step_size: float | int,
    regularization: float | int,
    momentum: float | int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Matrices:
    """``(W_Q, W_K, W_V, P)`` of a layer that takes one step towards ``A_t^{-1} s_t``; two heads.

    With the residual ``r = s_t - A_t q_t`` of the system, Richardson's layer writes ``q <- q +
    alpha r``. With momentum it is Chebyshev's: ``g <- r + momentum g`` in the fifth slot and ``q <-
    q + alpha g``, both at once.

    Args:
        d: coordinates of a state.
        length: positions, one unit vector each.
        step_size: ``alpha``.
        regularization: ``lambda``.
        momentum: how much of the last direction is kept; ``None`` for tokens without fifth slot.
    """
    check_integer("d", d, at_least=1)
    check_integer("length", length, at_least=1)
    check_number("step_size", step_size)
    check_number("regularization", regularization, positive=True)
    slots = 4 if momentum is None else 5
    width, identity = slots * d + length, torch.eye(d, dtype=dtype)
    key_width = max(d, length)
    asks, answers = torch.zeros(2, 2, key_width, width, dtype=dtype)
    # First head: the past states' covariance times q. Second head: a token looks at itself.
    asks[0, :d] = block_rows(d, width, {QUERY: identity})
    answers[0, :d] = block_rows(d, width, {BEFORE: identity})
    asks[1, :length, slots * d :] = answers[1, :length, slots * d :] = torch.eye(length).to(dtype)
    reads = [STATE, QUERY, DIRECTION][: slots - 2]
    values = torch.zeros(2, len(reads) * d, width, dtype=dtype)
    values[0, :d] = block_rows(d, width, {BEFORE: identity})
    values[1] = torch.cat([block_rows(d, width, {slot: identity}) for slot in reads])
    # Into each slot, what share of the residual and of the old direction.
    shares = {QUERY: (step_size, step_size * (momentum or 0))}
    if momentum is not None:
        shares[DIRECTION] = (1, momentum - 1)
    project = torch.zeros(2, width, len(reads) * d, dtype=dtype)
    for slot, (residual, kept) in shares.items():
        rows = slice(slot * d, (slot + 1) * d)
        project[0, rows, :d] = -residual * identity
        parts = [residual, -residual / regularization, kept][: len(reads)]
        project[1, rows] = torch.cat([part * identity for part in parts], 1)
    return asks, answers, values, project


def read_out_weights(
    d: int,
    length: int,
    step_size: float | int = 1.0,
    slots: int = 4,
    dtype: torch.dtype = torch.float64,
) -> Matrices:
    """The last layer: one gradient step from zero, asked with the preconditioned query."""
    check_number("step_size", step_size)
    width, identity = slots * d + length, torch.eye(d, dtype=dtype)
    asks, answers, value, project = (
        block_rows(d, width, {slot: identity})[None] for slot in (QUERY, BEFORE, STATE, PREDICTION)
    )
    return asks, answers, value, step_size * project.mT


def with_positions(matrices: Matrices, length: int) -> Matrices:
    """The matrices for tokens that carry ``length`` more coordinates, which they leave alone."""
    *reading, projection = matrices
    return *(F.pad(matrix, (0, length)) for matrix in reading), F.pad(projection, (0, 0, 0, length))


# --- stacks on raw states -----------------------------------------------------------------------


class StateAttention(nn.Module):
    """Causal layers on raw states: prediction of the next one, read from the first slot.

    Args:
        layers: in order, the binding layer first.
        d: coordinates of a state.
        length: positions there are.
        slots: of ``d`` coordinates each.
        embedding: for each slot that a raw state goes into, the ``[d, d]`` matrix in front of it.
        beginning: put an empty token in front.
    """

    def __init__(
        self,
        layers: Sequence[SelfAttention],
        d: int,
        length: int,
        slots: int,
        embedding: Mapping[int, Tensor],
        *,
        beginning: bool = False,
    ):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.d, self.length, self.slots, self.beginning = d, length, slots, beginning
        self.embedding = dict(embedding)
        self.requires_grad_(False)  # written down, not trained

    def token_path(
        self, states: States
    ) -> Float[Tensor, "{len(self.layers)}+1 batch sequence width"]:
        """The tokens before the first layer and after each; the empty token is left out."""
        check_tensor("states", states, "batch length d")
        if states.shape[2] != self.d:
            raise ValueError(f"states: {states.shape[2]} coordinates; the layers are for {self.d}")
        path = [
            positioned_states(
                states,
                self.length,
                self.slots * self.d,
                self.embedding,
                beginning=self.beginning,
            )
        ]
        mask = causal_mask(path[0].shape[1], device=states.device)
        for layer in self.layers:
            path.append(layer(path[-1], mask))
        return torch.stack(path)[:, :, int(self.beginning) :]

    def slot_path(
        self, states: States, slot: int
    ) -> Float[Tensor, "{len(self.layers)}+1 batch length d"]:
        """One slot of :meth:`token_path`, counted from 0."""
        check_integer("slot", slot, at_least=0)
        if slot >= self.slots:
            raise ValueError(f"slot: got {slot}; a token has the slots 0 to {self.slots - 1}")
        return self.token_path(states)[..., slot * self.d : (slot + 1) * self.d]

    def forward(self, states: States) -> States:
        """Prediction of ``s_{t+1}`` at every position ``t``."""
        return self.slot_path(states, PREDICTION)[-1]


def one_step_attention(
    d: int,
    length: int,
    step_size: float | int,
    initial_weights: Float[Tensor, "d d"] | None = None,
    *,
    copy: Kind = "linear",
    sharpness: float | int = 20.0,
    dtype: torch.dtype = torch.float64,
) -> StateAttention:
    """Binding layer and Proposition 1: one step on every ``L_t``, from raw states.

    Arguments as in :func:`binding_layer` and :func:`one_step_weights`; ``length`` is that of the
    longest sequence.
    """
    start = torch.zeros(d, d, dtype=dtype) if initial_weights is None else initial_weights
    beginning = copy == "softmax"
    places = length + beginning
    layers = [
        binding_layer(d, places, kind=copy, sharpness=sharpness, dtype=dtype),
        SelfAttention.from_matrices(
            *with_positions(one_step_weights(d, step_size, start, dtype), places)
        ),
    ]
    embedding = {0: start, 1: torch.eye(d, dtype=dtype)}
    return StateAttention(layers, d, places, 3, embedding, beginning=beginning)


def preconditioned_attention(
    d: int,
    length: int,
    steps: int,
    regularization: float | int,
    *,
    step_size: float | int | None = None,
    spectrum: tuple[float | int, float | int] | None = None,
    read_out: float | int = 1.0,
    copy: Kind = "linear",
    sharpness: float | int = 20.0,
    dtype: torch.dtype = torch.float64,
) -> StateAttention:
    """Binding layer, ``steps`` preconditioning layers and a read-out: Proposition 2 on raw states.

    Args:
        d: coordinates of a state.
        length: of the longest sequence.
        steps: preconditioning layers, ``K``; 0 leaves one plain gradient step from zero.
        regularization: ``lambda``.
        step_size: ``alpha``, for Richardson layers that start from ``q = s_t``.
        spectrum: bounds of the eigenvalues of every ``A_t``, for Chebyshev layers that start from
            ``q = 0``. Give either this or ``step_size``.
        read_out: step size of the last layer; 1 for least squares.
        copy, sharpness: as in :func:`binding_layer`.

    Raises:
        ValueError: both or neither of ``step_size`` and ``spectrum``; spectrum without steps.
    """
    check_integer("steps", steps, at_least=0)
    if (step_size is None) == (spectrum is None):
        raise ValueError("step_size, spectrum: give one of them, for Richardson or for Chebyshev")
    beginning = copy == "softmax"
    places, identity = length + beginning, torch.eye(d, dtype=dtype)
    if step_size is not None:
        slots, embedding = 4, {QUERY: identity, STATE: identity}
        coefficients = [(step_size, None)] * steps
    else:
        slots, embedding = 5, {STATE: identity}
        coefficients = chebyshev_coefficients(*spectrum, steps)
    binding = binding_layer(
        d,
        places,
        slots=slots,
        read=STATE,
        write=BEFORE,
        kind=copy,
        sharpness=sharpness,
        dtype=dtype,
    )
    matrices = [
        *(preconditioning_weights(d, places, a, regularization, m, dtype) for a, m in coefficients),
        read_out_weights(d, places, read_out, slots, dtype),
    ]
    layers = [binding, *(SelfAttention.from_matrices(*four) for four in matrices)]
    return StateAttention(layers, d, places, slots, embedding, beginning=beginning)
