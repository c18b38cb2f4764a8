"""One linear self-attention layer is one step of gradient descent [vonoswald2023transformers].

Proposition 1, for any number of steps and any initial weights. With tokens ``e_j = (x_j, y_j)`` for
the context and ``(x_q, -W_0 x_q)`` for a query,

.. math::
    W_K = W_Q = \\begin{pmatrix} I_d & 0 \\\\ 0 & 0 \\end{pmatrix}, \\quad
    W_V = \\begin{pmatrix} 0 & 0 \\\\ W_0 & -I_m \\end{pmatrix}, \\quad
    P = \\frac{\\eta}{N} I_{d+m},

the layer leaves ``(x_j, y_j - \\Delta W x_j)`` in the context and ``(x_q, -(W_0 + \\Delta W) x_q)``
in the query. Applied ``K`` times it takes ``K`` steps, since the value of token ``i`` is then the
residual of the current weights. The prediction is minus the query's target slot.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.estimators.descent import StepSizes, step_sizes
from icl_lessons.models.attention import SelfAttention, context_mask
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import check_context, check_integer, check_number, check_tensor


def gradient_descent_matrices(
    d: int,
    m: int,
    n_context: int,
    step_size: float,
    initial_weights: Float[Tensor, "m d"] | None = None,
    heads: int = 1,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four matrices of Proposition 1, ``(W_Q, W_K, W_V, P)``.

    Args:
        d: coordinates of an input.
        m: coordinates of a target.
        n_context: ``N``, examples in the context; the weights contain ``eta / N``.
        step_size: ``eta``, 0 or more.
        initial_weights: ``W_0``, ``[m, d]``; zeros if ``None``.
        heads: with more than one, head ``h`` compares only its share of the input coordinates;
            the heads' sum is the one merged head, since a dot product is the sum of its parts.

    Returns:
        ``[heads, d+m, d+m]`` each.

    Raises:
        ValueError: ``n_context`` of 0, a negative step size, more heads than coordinates.
    """
    check_integer("d", d, at_least=1)
    check_integer("m", m, at_least=1)
    check_integer("n_context", n_context, at_least=0)
    if n_context == 0:
        raise ValueError(
            "n_context: the construction for an empty context (N = 0) would hold eta/N, which has "
            "no meaning: a mean over no examples has no gradient. Use 1 or more."
        )
    check_number("step_size", step_size)
    check_integer("heads", heads, at_least=1)
    if heads > d:
        raise ValueError(f"heads: got {heads}; use at most d = {d}, one input coordinate each")
    if initial_weights is None:
        initial_weights = torch.zeros(m, d, dtype=dtype)
    check_tensor("initial_weights", initial_weights, "m d")
    if initial_weights.shape != (m, d):
        raise ValueError(
            f"initial_weights: got shape {tuple(initial_weights.shape)}; use [m, d] = {(m, d)}"
        )
    if initial_weights.dtype != dtype:
        raise TypeError(f"initial_weights: {initial_weights.dtype}, but dtype is {dtype}")

    compare_inputs = torch.zeros(heads, d + m, d + m, dtype=dtype)
    for head, coordinates in enumerate(torch.arange(d).tensor_split(heads)):
        compare_inputs[head, coordinates, coordinates] = 1
    residual = torch.zeros(d + m, d + m, dtype=dtype)
    residual[d:, :d] = initial_weights
    residual[d:, d:] = -torch.eye(m, dtype=dtype)
    write = step_size / n_context * torch.eye(d + m, dtype=dtype)
    return (
        compare_inputs,
        compare_inputs.clone(),
        residual.expand(heads, -1, -1).clone(),
        write.expand(heads, -1, -1).clone(),
    )


class LinearSelfAttentionLearner(nn.Module):
    """A stack of self-attention layers on raw ``(x, y)`` tokens, read as a learner.

    The same class serves for weights that were written down and for weights that were trained.

    Args:
        layers: the layers in order; give the same layer several times to apply it repeatedly.
        d: input coordinates; the other ``m`` slots of a token are the target's.
        initial_weights: ``W_0``; the query's target slot starts at ``-W_0 x_q``.
        query_is_key: let queries attend to themselves (off in the construction).
    """

    def __init__(
        self,
        layers: Sequence[SelfAttention],
        d: int,
        initial_weights: Float[Tensor, "m d"] | None = None,
        *,
        query_is_key: bool = False,
    ):
        super().__init__()
        self.layers = nn.ModuleList(dict.fromkeys(layers))  # each distinct layer once
        self.order = tuple(list(self.layers).index(layer) for layer in layers)
        self.d = d
        self.query_is_key = query_is_key
        self.register_buffer("initial_weights", initial_weights)

    def _check(self, xs: Tensor, ys: Tensor) -> None:
        """Raise unless a context has the sizes and the dtype that the layers are made for."""
        for layer in self.layers:
            m = layer.w_query.shape[-1] - self.d
            if xs.shape[-1] != self.d:
                raise ValueError(
                    f"xs: inputs of {xs.shape[-1]} coordinates; the layers are for {self.d}"
                )
            if ys.shape[-1] != m:
                raise ValueError(
                    f"ys: targets of {ys.shape[-1]} coordinates; the layers are for {m}"
                )
            if xs.dtype != layer.w_query.dtype:
                raise TypeError(f"xs: {xs.dtype}, but the layers hold {layer.w_query.dtype}")

    def tokens(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch sequence d+m"]:
        """The tokens before the first layer."""
        check_context(xs, ys, x_query)
        self._check(xs, ys)
        slot = None if self.initial_weights is None else -x_query @ self.initial_weights.mT
        return joint_tokens(xs, ys, x_query, slot)

    def token_path(
        self, xs: Tensor, ys: Tensor, x_query: Tensor
    ) -> Float[Tensor, "{len(self.order)}+1 batch sequence width"]:
        """The tokens before the first layer and after each."""
        tokens = self.tokens(xs, ys, x_query)
        mask = context_mask(
            xs.shape[1], x_query.shape[1], query_is_key=self.query_is_key, device=xs.device
        )
        path = [tokens]
        for index in self.order:
            tokens = self.layers[index](tokens, mask)
            path.append(tokens)
        return torch.stack(path)

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        """Minus the target slots of the queries after the last layer."""
        if len(self.order) == 1 and self.layers[0].kind == "linear" and not self.query_is_key:
            return self._one_linear_layer(xs, ys, x_query)
        return -self.token_path(xs, ys, x_query)[-1, :, xs.shape[1] :, self.d :]

    def _one_linear_layer(self, xs, ys, x_query):
        # The same numbers as token_path, computing nothing but the queries' rows: only these are
        # read after a single layer. Costs N d instead of N^2 d, and training spends it all here.
        check_context(xs, ys, x_query)
        self._check(xs, ys)
        layer, context = self.layers[0], torch.cat([xs, ys], -1)
        slot = x_query.new_zeros(*x_query.shape[:2], ys.shape[2])
        if self.initial_weights is not None:
            slot = -x_query @ self.initial_weights.mT
        query = torch.cat([x_query, slot], -1)
        prediction = -slot
        pairs = zip(layer.key_query(), layer.projection_value()[:, self.d :], strict=True)
        for key_query, projection_value in pairs:
            scores = context @ (query @ key_query.mT).mT
            values = context @ projection_value.mT
            # A product and a sum: so few terms that a batched matrix product costs more.
            prediction = prediction - (scores[..., None] * values[:, :, None]).sum(1)
        return prediction


def gradient_descent_attention(
    d: int,
    m: int,
    n_context: int,
    step_size: StepSizes,
    initial_weights: Float[Tensor, "m d"] | None = None,
    steps: int = 1,
    heads: int = 1,
    *,
    query_is_key: bool = False,
    dtype: torch.dtype = torch.float64,
) -> LinearSelfAttentionLearner:
    """The learner of Proposition 1: ``steps`` linear attention layers that descend ``steps`` times.

    Its predictions equal those of :class:`~icl_lessons.estimators.descent.GradientDescent` for
    every context of ``n_context`` examples; with another number the step is ``n / n_context``
    times as long, for the weights hold ``eta / n_context``.

    Args:
        d, m, n_context, initial_weights, heads: as in :func:`gradient_descent_matrices`.
        step_size: ``eta`` shared by all steps (one layer applied again and again), or one for each.
        steps: number of layers.
        query_is_key: let the query attend to itself. Then the equality holds for one step from
            zero weights, and for nothing else.

    Raises:
        ValueError: as :func:`gradient_descent_matrices`; fewer than one step; a number of step
            sizes other than ``steps``.
    """
    check_integer("steps", steps, at_least=1)
    sizes = step_sizes(step_size, steps)
    layer_of = {
        size: SelfAttention.from_matrices(
            *gradient_descent_matrices(d, m, n_context, size, initial_weights, heads, dtype)
        )
        for size in dict.fromkeys(sizes)
    }
    learner = LinearSelfAttentionLearner(
        [layer_of[size] for size in sizes], d, initial_weights, query_is_key=query_is_key
    )
    return learner.requires_grad_(False)  # written down, not trained
