"""One layer of multi-head attention that is trained on regression in context, and its pattern.

The layer of He et al. [he2025incontext]: merged key-query matrices, output and value merged to one
vector, the context alone as keys. With tokens ``z_i = (x_i, y_i)`` and the query ``(x_q, 0)``,

.. math:: \\hat y = \\sum_h u_h^\\top \\sum_i z_i\\, \\mathrm{softmax}_i(z_i^\\top W_h x_q).

Trained, ``W_h`` becomes ``omega_h I`` on the inputs and ``u_h`` reads the target alone, with a
factor ``mu_h``: the learner :class:`~icl_lessons.implicit_dynamics.debiased_descent.SoftmaxHeads`.
The factors sum to about 0, so that the layer is close to a step on centred inputs. What that costs
is known exactly: :func:`contrasts` turns such a step into a plain one on one example fewer.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.implicit_dynamics.debiased_descent import SoftmaxHeads
from icl_lessons.runtime import (
    check_choice,
    check_context,
    check_integer,
    check_number,
    check_tensor,
)

Attention = Literal["softmax", "linear"]
Start = Literal["random", "opposite"]


def heads_predictions(
    key_query: Float[Tensor, "models heads width d"],
    read_out: Float[Tensor, "models heads width"],
    examples: Float[Tensor, "models batch n width"],
    x_query: Float[Tensor, "models batch n_query d"],
    attention: Attention = "softmax",
) -> Float[Tensor, "models batch n_query"]:
    """Predictions of many layers of one shape at once, each on its own contexts.

    Args:
        key_query: ``W_h``; the query's target slot is 0, so that column is left out.
        read_out: ``u_h``, output and value in one.
        examples: ``(x_i, y_i)``.
        x_query: where to predict.
        attention: ``"softmax"``, or ``"linear"`` with ``score / n`` for weights.
    """
    models, batch, n_query, _ = x_query.shape
    heads, width = read_out.shape[1:]
    keys = torch.einsum("sbqj,shij->sbhqi", x_query, key_query)
    scores = keys.reshape(models, batch, heads * n_query, width) @ examples.mT
    weights = scores.softmax(-1) if attention == "softmax" else scores / examples.shape[2]
    values = torch.einsum("sbni,shi->sbhn", examples, read_out)
    weights = weights.reshape(models, batch, heads, n_query, -1)
    return (weights @ values[..., None])[..., 0].sum(2)


class Pattern(NamedTuple):
    """What the heads are made of; the leading axes are those of the layers.

    Attributes:
        omega: mean of the diagonal of ``W_h`` on the inputs, ``[..., heads]``.
        mu: entry of ``u_h`` at the target.
        stray: ``|W_h - omega_h I|_F / |W_h|_F``, the row of the target included.
        label_share: ``|mu_h| / |u_h|``; 1 where a head reads the target alone.
    """

    omega: Float[Tensor, "*layers heads"]
    mu: Float[Tensor, "*layers heads"]
    stray: Float[Tensor, "*layers heads"]
    label_share: Float[Tensor, "*layers heads"]


def read_pattern(
    key_query: Float[Tensor, "*layers heads width d"],
    read_out: Float[Tensor, "*layers heads width"],
) -> Pattern:
    """The numbers that the pattern consists of, and how much of the weights they leave out."""
    d = key_query.shape[-1]
    omega = key_query[..., :d, :].diagonal(dim1=-2, dim2=-1).mean(-1)
    identity = torch.eye(d + 1, d).to(key_query)
    stray = (key_query - omega[..., None, None] * identity).flatten(-2).norm(dim=-1)
    size = key_query.flatten(-2).norm(dim=-1)
    mu = read_out[..., -1]
    return Pattern(omega, mu, stray / size, mu.abs() / read_out.norm(dim=-1))


class MultiHeadLayer(nn.Module):
    """The layer as a learner of one target.

    Args:
        d: coordinates of an input.
        heads: number of heads, summed.
        attention: ``"softmax"``, or ``"linear"`` for the baseline.
        start: ``"random"``: every entry normal with standard deviation ``start_size``.
            ``"opposite"``: the same, but ``omega_h = mu_h = +-start_size`` with signs in turn, so
            that no two neighbours begin on the same side.
        start_size: how small the start is.
        generator: where the start comes from; a seed of 0 if ``None``.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        attention: Attention = "softmax",
        *,
        start: Start = "random",
        start_size: float | int = 0.05,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_integer("d", d, at_least=1)
        check_integer("heads", heads, at_least=1)
        check_choice("attention", attention, ("softmax", "linear"))
        check_choice("start", start, ("random", "opposite"))
        check_number("start_size", start_size, positive=True)
        self.attention = attention
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        key_query = torch.randn(heads, d + 1, d, generator=generator, dtype=dtype) * start_size
        read_out = torch.randn(heads, d + 1, generator=generator, dtype=dtype) * start_size
        if start == "opposite":
            signs = start_size * (-1.0) ** torch.arange(heads, dtype=dtype)
            key_query[:, range(d), range(d)] = signs[:, None]
            read_out[:, -1] = signs
        self.key_query = nn.Parameter(key_query)
        self.read_out = nn.Parameter(read_out)

    @classmethod
    def from_pattern(cls, heads: SoftmaxHeads, d: int) -> "MultiHeadLayer":
        """A layer that holds the pattern and nothing else."""
        layer = cls(d, len(heads.omega), dtype=heads.omega.dtype).requires_grad_(False)
        layer.key_query[:] = heads.omega[:, None, None] * torch.eye(d + 1, d).to(heads.omega)
        layer.read_out[:] = 0
        layer.read_out[:, -1] = heads.mu
        return layer

    @property
    def pattern(self) -> Pattern:
        """``omega``, ``mu`` and what they leave out."""
        return read_pattern(self.key_query.detach(), self.read_out.detach())

    @property
    def heads_alone(self) -> SoftmaxHeads:
        """The layer with all but ``omega`` and ``mu`` taken away."""
        return SoftmaxHeads(*self.pattern[:2])

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context 1"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query 1"]:
        check_context(xs, ys, x_query)
        examples = torch.cat([xs, ys], -1)
        weights = self.key_query[None], self.read_out[None]
        return heads_predictions(*weights, examples[None], x_query[None], self.attention)[
            0, ..., None
        ]


class BestStep(NamedTuple):
    """A step size and the loss ``E (y_hat - y)^2`` it has, the query's noise included."""

    step_size: float
    loss: float


def best_step(
    d: int, n_context: int, noise_variance: float | int = 0.0, *, debiased: bool = False
) -> BestStep:
    """The one step from zero of smallest expected loss, plain or on centred inputs.

    For inputs ``N(0, I)``, tasks ``N(0, I/d)`` and noise variance ``s^2``, with ``N`` examples: a
    plain step has ``eta = N / (N + 1 + d (1 + s^2))`` and leaves ``1 + s^2 - eta``
    [zhang2024trained, at Lambda = I]. The debiased step does exactly as well as a plain one does on
    ``N - 1`` examples (:func:`contrasts`), with ``eta = N / (N + d (1 + s^2))``.

    Raises:
        ValueError: a debiased step on fewer than 2 examples, which are all mean.
    """
    check_integer("d", d, at_least=1)
    check_integer("n_context", n_context, at_least=2 if debiased else 1)
    check_number("noise_variance", noise_variance)
    n = n_context - debiased
    strength = n / (n + 1 + d * (1 + noise_variance))
    return BestStep(strength * n_context / n, 1 + noise_variance - strength)


def contrasts(values: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n_minus_1 width"]:
    """``N`` rows as ``N - 1`` contrasts without their mean (Helmert): ``H v``, ``H H^T = I``,
    ``H 1 = 0``.

    Since ``H^T H`` is the projection that takes out the mean, a debiased step on ``(X, y)`` is a
    plain one on ``(H X, H y)`` with ``N - 1`` examples. Independent normal rows of mean 0 become
    independent normal rows of the same law, so nothing else about the contexts has changed.

    Raises:
        ValueError: fewer than 2 rows.
    """
    check_tensor("values", values, "batch n width")
    n = values.shape[1]
    check_integer("n", n, at_least=2)
    k = torch.arange(1, n, dtype=values.dtype, device=values.device)
    rows = torch.ones(n - 1, n).to(values).tril()
    rows[range(n - 1), range(1, n)] = -k
    return (rows / (k * (k + 1)).sqrt()[:, None]) @ values
