"""One layer of linear attention with every block trainable, on a fixed set of prompts.

The theory of training_plateaus.py follows only what a start at 0 leaves in play: the value row's
entry for targets and the key-query block for inputs. Here the value row ``w_h`` reads inputs *and*
targets, and so do the keys,

.. math:: \\hat y = \\sum_h w_h^\\top \\frac{X X^\\top}{N} B_h x_q, \\qquad
          B_h \\in \\mathbb R^{(d+1) \\times d} \\ \\text{ or }\\ B_h = \\sum_r k_{hr} q_{hr}^\\top

with all tokens as columns of ``X``, the query's ``(x_q, 0)`` included. That is linear in
``T = sum_h w_h (x) B_h``, so the loss on any set of prompts is a quadratic function of ``T``. Its
two coefficients are all that full-batch gradient descent needs of the set: 5000 prompts cost as
much as one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import check_choice, check_integer, check_number
from icl_lessons.types import Batch

Trilinear = Float[Tensor, "*runs wide wide d"]


@dataclass(frozen=True)
class PromptMoments:
    """The loss on a set of prompts, as a function of the layer: ``E (y_hat - y)^2``, no half.

    Attributes:
        second: ``E z z^T`` of the features ``z = vec(X X^T / N (x) x_q)``, ``[*runs, f, f]``.
        cross: ``E z y``, ``[*runs, f]``.
        energy: ``E y^2``, ``[*runs]``.
    """

    second: Float[Tensor, "*runs f f"]
    cross: Float[Tensor, "*runs f"]
    energy: Float[Tensor, "*runs"]

    @classmethod
    def of(cls, batch: Batch, *, divide: bool = True, chunk: int = 4096) -> "PromptMoments":
        """The moments of prompts with one query and one output each.

        Args:
            divide: by ``N``, as the paper's text does and its code does not.
        """
        size, n, d = batch.xs.shape
        second, cross = 0.0, 0.0
        for part in range(0, size, chunk):
            rows = slice(part, part + chunk)
            tokens = joint_tokens(batch.xs[rows], batch.ys[rows], batch.x_query[rows]).double()
            gram = tokens.mT @ tokens / (n if divide else 1)
            z = torch.einsum("bij,bk->bijk", gram, batch.x_query[rows, 0].double()).flatten(1)
            second = second + z.mT @ z / size
            cross = cross + batch.y_query[rows, 0, 0].double() @ z / size
        return cls(second, cross, batch.y_query.double().square().mean())

    def loss(self, layer: Trilinear) -> Float[Tensor, "*runs"]:
        """``E (y_hat - y)^2`` over the prompts."""
        return self.energy - 2 * (self.cross * layer.flatten(-3)).sum(-1) + self.square(layer)

    def square(self, layer: Trilinear) -> Float[Tensor, "*runs"]:
        """``E y_hat^2`` over the prompts."""
        t = layer.flatten(-3)
        return ((self.second @ t[..., None])[..., 0] * t).sum(-1)

    def force(self, layer: Trilinear) -> Trilinear:
        """``-1/2 dL/dT``."""
        slope = self.cross - (self.second @ layer.flatten(-3)[..., None])[..., 0]
        return slope.view_as(layer)


@dataclass(frozen=True)
class WholeMergedHeads:
    """Heads with one key-query matrix each, inputs and targets read by both of its sides.

    Attributes:
        values: ``w_h``, ``[*runs, heads, d + 1]``.
        key_query: ``B_h``, ``[*runs, heads, d + 1, d]``; the query token's target slot is 0.
    """

    values: Float[Tensor, "*runs heads wide"]
    key_query: Float[Tensor, "*runs heads wide d"]

    @property
    def layer(self) -> Trilinear:
        """``T``, all that the predictions depend on."""
        return _outer(self.values, self.key_query)

    def step(self, force: Trilinear, size: float) -> "WholeMergedHeads":
        """One step of descent; ``force`` is ``-1/2 dL/dT``."""
        pulled_values, pulled_matrices = _pull(force, self.values, self.key_query)
        return WholeMergedHeads(
            self.values + size * pulled_values, self.key_query + size * pulled_matrices
        )


@dataclass(frozen=True)
class WholeSeparateHeads:
    """Heads with separate keys and queries of low rank.

    Attributes:
        values: ``w_h``, ``[*runs, heads, d + 1]``.
        keys: ``[*runs, heads, rank, d + 1]``.
        queries: ``[*runs, heads, rank, d]``.
    """

    values: Float[Tensor, "*runs heads wide"]
    keys: Float[Tensor, "*runs heads rank wide"]
    queries: Float[Tensor, "*runs heads rank d"]

    @property
    def layer(self) -> Trilinear:
        """``T``, all that the predictions depend on."""
        return _outer(self.values, self.keys.mT @ self.queries)

    def step(self, force: Trilinear, size: float) -> "WholeSeparateHeads":
        """One step of descent; ``force`` is ``-1/2 dL/dT``."""
        values, matrices = _pull(force, self.values, self.keys.mT @ self.queries)
        return WholeSeparateHeads(
            self.values + size * values,
            self.keys + size * self.queries @ matrices.mT,
            self.queries + size * self.keys @ matrices,
        )


WholeHeads = WholeMergedHeads | WholeSeparateHeads


def _outer(values: Tensor, matrices: Tensor) -> Trilinear:
    flat = values.mT @ matrices.flatten(-2)
    return flat.view(*flat.shape[:-1], *matrices.shape[-2:])


def _pull(force: Trilinear, values: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """What a force on ``T`` does to both factors."""
    flat = force.flatten(-2)
    return matrices.flatten(-2) @ flat.mT, (values @ flat).view_as(matrices)


def whole_heads(
    parametrisation: str,
    heads: int,
    d: int,
    size: float,
    generator: torch.Generator,
    *,
    rank: int = 1,
    other_blocks: float = 0.0,
) -> WholeHeads:
    """Heads at a small random start.

    Args:
        parametrisation: ``"merged"`` or ``"separate"``.
        heads, d: number of heads and coordinates of an input.
        size: standard deviation of what the theory follows.
        rank: of a separate head's key-query product; unused for merged ones.
        other_blocks: standard deviation of the rest, which the paper starts at 0.
    """
    check_choice("parametrisation", parametrisation, ("merged", "separate"))
    for name, count in (("heads", heads), ("d", d), ("rank", rank)):
        check_integer(name, count, at_least=1)
    check_number("size", size, positive=True)
    check_number("other_blocks", other_blocks)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def with_target(inputs: float, target: float, *shape: int) -> Tensor:
        return torch.cat([inputs * normal(*shape, d), target * normal(*shape, 1)], -1)

    values = with_target(other_blocks, size, heads)
    if parametrisation == "merged":
        key_query = with_target(size, other_blocks, heads, d).mT
        return WholeMergedHeads(values, key_query)
    keys = with_target(size, other_blocks, heads, rank)
    return WholeSeparateHeads(values, keys, size * normal(heads, rank, d))


def whole_matrices(heads: WholeHeads, n_context: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The heads as matrices for :func:`~icl_lessons.models.attention.linear_attention`.

    The query token is a key like the others; the prediction is plus its last entry.
    """
    if isinstance(heads, WholeMergedHeads):
        queries = heads.key_query
        keys = torch.eye(queries.shape[-2]).to(queries).expand(len(queries), -1, -1)
    else:
        queries, keys = heads.queries, heads.keys
    queries = torch.cat([queries, queries.new_zeros(*queries.shape[:-1], 1)], -1)
    projection = heads.values.new_zeros(len(heads.values), heads.values.shape[-1], 1)
    projection[:, -1] = 1 / n_context
    return queries, keys, heads.values[:, None], projection


@dataclass(frozen=True)
class Descent:
    """Full-batch training, followed.

    Attributes:
        steps: at which the rest was looked at, ``[moments]``.
        losses: on the training prompts, ``[moments, *runs]``.
        layers: ``T``, ``[moments, *runs, d + 1, d + 1, d]``.
        heads: where it ended.
    """

    steps: Float[Tensor, " moments"]
    losses: Float[Tensor, "moments *runs"]
    layers: Float[Tensor, "moments *runs wide wide d"]
    heads: WholeHeads


def full_batch_descent(
    heads: WholeHeads,
    prompts: PromptMoments,
    *,
    steps: int,
    learning_rate: float,
    keep_every: int = 1,
) -> Descent:
    """Gradient descent ``theta <- theta - learning_rate dL/d theta`` on all prompts at once."""
    check_integer("steps", steps, at_least=1)
    check_integer("keep_every", keep_every, at_least=1)
    check_number("learning_rate", learning_rate, positive=True)
    at, losses, layers = [], [], []
    for step in range(steps + 1):
        layer = heads.layer
        if step % keep_every == 0 or step == steps:
            at.append(step)
            layers.append(layer)
            losses.append(prompts.loss(layer))
        if step < steps:
            heads = heads.step(prompts.force(layer), 2 * learning_rate)
    return Descent(torch.tensor(at).double(), torch.stack(losses), torch.stack(layers), heads)


def blocks(layer: Trilinear) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``T`` as the four quantities that the prediction adds up.

    Returns:
        ``M`` of ``beta^T M x_q``, from values of targets and keys of inputs; ``M`` of the same
        form from values of inputs and keys of targets; what multiplies ``sum x x^T``,
        ``[..., d, d, d]``; and what multiplies ``sum y^2``, ``[..., d]``.
    """
    return (
        layer[..., -1, :-1, :],
        layer[..., :-1, -1, :],
        layer[..., :-1, :-1, :],
        layer[..., -1, -1, :],
    )
