"""Features in front of attention: gradient descent on more than straight lines.

Proposition 2 of von Oswald et al.: a block that works on each token by itself and turns ``(x_j,
y_j)`` into ``(m(x_j), y_j)``, followed by the layers of Proposition 1, takes steps of gradient
descent on

.. math:: L(W) = \\frac{1}{2N} \\sum_i \\lVert W m(x_i) - y_i \\rVert^2 .

One step from ``W_0 = 0`` predicts :math:`\\frac{\\eta}{N} \\sum_i y_i\\, k(x_i, x_q)` with
:math:`k(x, x') = m(x)^\\top m(x')`: kernel smoothing. The trained network of the same paper learns
its features, and transforms the targets along with the inputs. [vonoswald2023transformers]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from icl_lessons.estimators.descent import GradientDescent, StepSizes, step_sizes
from icl_lessons.gradient_descent.one_step import (
    LinearSelfAttentionLearner,
    gradient_descent_attention,
)
from icl_lessons.gradient_descent.population_loss import BestStep
from icl_lessons.models.attention import SelfAttention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import (
    check_choice,
    check_context,
    check_integer,
    check_number,
)
from icl_lessons.tasks.sinusoids import Sinusoids

FeatureMap = Callable[[Tensor], Tensor]  # [..., d] to [..., features]
ATTENTIONS = ("learned", "descent")


def sine_and_cosine(x: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch 2"]:
    """``(sin x, cos x)``: the features in which every sine curve of period 2 pi is linear."""
    return torch.cat([x.sin(), x.cos()], -1)


@dataclass(frozen=True)
class FeatureDescent:
    """The learner that takes ``steps`` of gradient descent on features of the inputs.

    Attributes:
        feature_map: ``m``, applied to the last axis of inputs.
        step_size, steps, initial_weights: as of
            :class:`~icl_lessons.estimators.descent.GradientDescent`; ``W_0`` is ``[m, features]``.
    """

    feature_map: FeatureMap
    step_size: StepSizes
    steps: int = 1
    initial_weights: Tensor | None = None

    def __post_init__(self):
        step_sizes(self.step_size, self.steps)

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        descent = GradientDescent(self.step_size, self.steps, self.initial_weights)
        return descent(self.feature_map(xs), ys, self.feature_map(x_query))


@dataclass(frozen=True)
class KernelSmoothing:
    """The learner ``y_hat = eta/N sum_i y_i k(x_i, x_q)`` with ``k(x, x') = m(x) . m(x')``."""

    feature_map: FeatureMap
    step_size: float

    def __post_init__(self):
        check_number("step_size", self.step_size)

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        kernel = self.feature_map(x_query) @ self.feature_map(xs).mT
        return self.step_size / xs.shape[1] * kernel @ ys


class FeatureAttention(nn.Module):
    """A block that makes features of each token's input, then linear attention on ``(m(x), y)``.

    Args:
        feature_map: ``m``; the targets pass it unchanged.
        attention: made for inputs of as many coordinates as there are features.
    """

    def __init__(self, feature_map: FeatureMap, attention: LinearSelfAttentionLearner):
        super().__init__()
        self.feature_map = feature_map
        self.attention = attention

    def tokens(self, xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
        """``(m(x_j), y_j)`` and ``(m(x_q), -W_0 m(x_q))``, ``[batch, sequence, features + m]``."""
        check_context(xs, ys, x_query)
        return self.attention.tokens(self.feature_map(xs), ys, self.feature_map(x_query))

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        return self.attention(self.feature_map(xs), ys, self.feature_map(x_query))


def feature_attention(
    feature_map: FeatureMap,
    n_features: int,
    m: int,
    n_context: int,
    step_size: StepSizes,
    initial_weights: Float[Tensor, "m features"] | None = None,
    steps: int = 1,
    dtype: torch.dtype = torch.float64,
) -> FeatureAttention:
    """The learner of Proposition 2: features, then ``steps`` layers of gradient descent.

    Its predictions equal those of :class:`FeatureDescent` for every context of ``n_context``
    examples, for any feature map.

    Args:
        feature_map: from ``[..., d]`` to ``[..., n_features]``.
        n_features, m, n_context, step_size, initial_weights, steps: as the arguments of
            :func:`~icl_lessons.gradient_descent.one_step.gradient_descent_attention`, with
            features in the place of input coordinates.
    """
    check_integer("n_features", n_features, at_least=1)
    attention = gradient_descent_attention(
        n_features, m, n_context, step_size, initial_weights, steps, dtype=dtype
    )
    return FeatureAttention(feature_map, attention)


def best_step_on_sine_and_cosine(
    task: Sinusoids, n_context: int, *, from_mean: bool = False
) -> BestStep:
    """The single step on the features ``(sin x, cos x)`` with the smallest expected loss.

    For a start at ``W_0``, with ``p`` the second moments of the entries of ``W - W_0``, ``f`` those
    of the features and ``q_ab = E m_a^2 m_b^2 / N + (1 - 1/N) f_a^2 [a = b]``, the loss of a step
    ``eta`` is ``1/2 (p.f - 2 eta p.f^2 + eta^2 p.q f)``.

    Args:
        task: without noise.
        n_context: ``N``, 1 or more.
        from_mean: start from the mean task ``E W`` and not from zero. The amplitude is positive and
            the phase within half a turn, so the mean curve is not zero but ``2/pi E a cos x``.

    Returns:
        Step size and loss, and as ``loss_of_zero`` the loss before the step.
    """
    check_integer("n_context", n_context, at_least=1)
    if task.noise_std != 0:
        raise ValueError(f"task: the closed form is without noise; got noise_std={task.noise_std}")
    c2, c4 = (math.sin(k * task.half_range) / (k * task.half_range) for k in (2, 4))  # E cos k x
    f = np.array([(1 - c2) / 2, (1 + c2) / 2])
    cross = (1 - c4) / 8
    fourth = np.array([[f[0] - cross, cross], [cross, f[1] - cross]])  # since m_1^2 + m_2^2 = 1
    q = fourth / n_context + (1 - 1 / n_context) * np.diag(f**2)
    p = np.full(2, task.mean_squared_amplitude / 2)
    if from_mean:
        p[1] -= (2 / math.pi * sum(task.amplitudes) / 2) ** 2
    linear, square = p @ f**2, p @ q @ f
    start = 0.5 * p @ f
    return BestStep(float(linear / square), float(start - 0.5 * linear**2 / square), float(start))


class TokenMLP(nn.Module):
    """``e <- e + W_out gelu(W_in e + b_in) + b_out``, for each token by itself.

    The GELU is the tanh form, as in the released code's library.

    Args:
        width: of a token.
        hidden: units between.
        generator: where the start comes from: ``w_in`` normal with variance 1 / fan-in, ``b_in``
            spread over (-2, 2), ``w_out`` small, so that the block begins near the identity.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_integer("width", width, at_least=1)
        check_integer("hidden", hidden, at_least=1)
        how = {"generator": generator, "dtype": dtype}
        self.w_in = nn.Parameter(torch.randn(hidden, width, **how) / width**0.5)
        self.b_in = nn.Parameter(4 * torch.rand(hidden, **how) - 2)
        self.w_out = nn.Parameter(0.3 * torch.randn(width, hidden, **how) / hidden**0.5)
        self.b_out = nn.Parameter(torch.zeros(width, dtype=dtype))

    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        hidden = gelu(tokens @ self.w_in.mT + self.b_in, approximate="tanh")
        return tokens + hidden @ self.w_out.mT + self.b_out

    @torch.no_grad()
    def leave_targets(self, m: int) -> "TokenMLP":
        """Set to 0 what reads or writes the last ``m`` slots, so that targets pass unchanged."""
        self.w_in[:, -m:] = 0
        self.w_out[-m:] = 0
        self.b_out[-m:] = 0
        return self

    def features(self, x: Float[Tensor, "*batch d"]) -> Tensor:
        """The slots before the last of the token ``(x, 0)``: a feature map, given one target."""
        return self(pad(x, (0, len(self.b_out) - x.shape[-1])))[..., :-1]


class SinusoidNetwork(nn.Module):
    """The trained network of the paper's sine curves: embedding, MLP, one linear attention layer.

    A token is ``(x, y)``, a query ``(x_q, 0)``. A linear map without bias takes it to ``width``
    numbers, and :class:`TokenMLP` works on each token by itself. From then on the last slot is the
    target and the others are features: targets are transformed as well as inputs. The layer adds
    to each query a sum over the context, and the prediction is minus the query's last slot.

    Args:
        width: of a token inside the network (40 in the paper).
        hidden: units of the MLP (160 in the paper).
        n_context: ``N``, of the factor ``eta / N`` in the fixed layer.
        attention: ``"learned"``: all matrices of the layer are trained (the paper's transformer).
            ``"descent"``: the layer is the construction, and only ``eta`` is trained: gradient
            descent on learned features.
        mlp: without it, the network is attention alone and its prediction linear in ``x_q``.
        init_std: of the learned layer's matrices at the start.
        generator: where the start comes from.
    """

    def __init__(
        self,
        width: int = 20,
        hidden: int = 80,
        n_context: int = 10,
        *,
        attention: Literal["learned", "descent"] = "learned",
        mlp: bool = True,
        init_std: float = 0.1,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_integer("width", width, at_least=2)
        check_integer("n_context", n_context, at_least=1)
        check_choice("attention", attention, ATTENTIONS)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.n_context = n_context
        start = 0.2 * torch.randn(width, 2, generator=generator, dtype=dtype)
        self.embedding = nn.Parameter(start)
        self.mlp = TokenMLP(width, hidden, generator=generator, dtype=dtype) if mlp else None
        self.layer = self.step_size = None
        if attention == "learned":
            self.layer = SelfAttention(width, init_std=init_std, generator=generator, dtype=dtype)
        else:
            self.step_size = nn.Parameter(torch.ones(1, dtype=dtype))

    def tokens(
        self, xs: Float[Tensor, "batch n 1"], ys: Float[Tensor, "batch n 1"]
    ) -> Float[Tensor, "batch n width"]:
        """The tokens that the attention layer sees."""
        tokens = torch.cat([xs, ys], -1) @ self.embedding.mT
        return tokens if self.mlp is None else self.mlp(tokens)

    def features(
        self, xs: Float[Tensor, "batch n 1"], ys: Float[Tensor, "batch n 1"]
    ) -> tuple[Float[Tensor, "batch n features"], Float[Tensor, "batch n 1"]]:
        """The ``width - 1`` features and the transformed target of each example.

        For a query give ``ys`` of 0; minus its transformed target is what is guessed of it before
        the context is seen.
        """
        check_context(xs, ys)
        tokens = self.tokens(xs, ys)
        return tokens[..., :-1], tokens[..., -1:]

    def forward(
        self,
        xs: Float[Tensor, "batch n_context 1"],
        ys: Float[Tensor, "batch n_context 1"],
        x_query: Float[Tensor, "batch n_query 1"],
    ) -> Float[Tensor, "batch n_query 1"]:
        check_context(xs, ys, x_query)
        tokens = self.tokens(*joint_tokens(xs, ys, x_query).split(1, -1))
        context, query = tokens[:, : xs.shape[1]], tokens[:, xs.shape[1] :]
        key_query, projection_value = self.products()
        scores = query @ key_query.mT @ context.mT
        return -(query[..., -1:] + scores @ (context @ projection_value)[..., None])

    def products(self) -> tuple[Float[Tensor, "width width"], Float[Tensor, " width"]]:
        """``W_K^T W_Q``, and the last row of ``P W_V``: all of the layer that a prediction uses."""
        if self.layer is not None:
            return self.layer.key_query()[0], self.layer.projection_value()[0, -1]
        select = torch.ones_like(self.embedding[:, 0])
        select[-1] = 0
        return torch.diag(select), -self.step_size / self.n_context * (1 - select)

    @torch.no_grad()
    def weights(self) -> dict[str, np.ndarray]:
        """The network as arrays, from which its prediction can be computed anywhere.

        ``embedding`` ``[width, 2]``, ``key_query`` ``[width, width]``, ``projection_value``
        ``[width]``; with an MLP ``w_in`` ``[hidden, width]``, ``b_in``, ``w_out`` ``[width,
        hidden]``, ``b_out``; of the fixed layer ``step_size``, which with ``n_context`` stands for
        the two products. With ``e = embedding (x, y)`` and then ``e + w_out gelu(w_in e + b_in) +
        b_out``, ``y_hat = -(e_q[-1] + sum_i (projection_value . e_i) (e_i . key_query e_q))``.
        """
        key_query, projection_value = self.products()
        named = {
            "embedding": self.embedding,
            "key_query": key_query,
            "projection_value": projection_value,
        }
        if self.mlp is not None:
            named |= dict(self.mlp.named_parameters())
        if self.step_size is not None:
            named["step_size"] = self.step_size[0]
        return {name: value.detach().cpu().numpy() for name, value in named.items()}
