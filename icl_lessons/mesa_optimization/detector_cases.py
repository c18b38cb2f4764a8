"""Layers whose objective is known, and layers that have none: what a detector is calibrated on.

A case is a pair of learners, before and after a layer, with a batch of contexts. In a constructed
case the layer is an :class:`~icl_lessons.mesa_optimization.inner_losses.ObjectiveLayer` of a random
size on a random loss; a control changes the prediction in a way that descends nothing on the
context. Each context starts from random weights of its own, so that losses can be told apart.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.estimators.least_squares import OrdinaryLeastSquares
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
    huber_loss,
)
from icl_lessons.models.attention import SelfAttention, context_mask
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import check_choice, seeded
from icl_lessons.types import Batch, Learner

LOSSES = (
    "squared",
    "sign_flipped",
    "absolute",
    "cosine",
    "ridge",
    "huber",
    "importance_weighted",
)
CONTROLS = (
    "random_attention",
    "untrained_transformer",
    "random_linear_map",
    "rotated_values",
    "shuffled_labels",
    "constant",
    "shrinkage",
    "random_value_map",
)

NEAR_MISSES = ("least_squares", "two_steps")


@dataclass(frozen=True)
class Case:
    """A layer to read, and the answer.

    Attributes:
        before, after: the learners without and with the layer.
        batch: contexts of its size.
        truth: the loss, or ``None`` for a control.
        kind: the loss or the control.
        step_size: of the layer; NaN for a control.
        parameters: Huber's ``delta``, ridge's ``leak``.
        example_weights: of the layer, mean 1; ``None`` if they are all 1.
    """

    before: Learner
    after: Learner
    batch: Batch
    truth: str | None
    kind: str
    step_size: float
    parameters: dict[str, float]
    example_weights: Float[Tensor, " n_context"] | None = None


@dataclass(frozen=True)
class Noisy:
    """A learner whose predictions carry normal noise, the same whenever it is asked the same size.

    Attributes:
        learner: the one underneath.
        std: of the noise.
        seed: where it comes from.
    """

    learner: Learner
    std: float
    seed: int

    def __call__(self, xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
        clean = self.learner(xs, ys, x_query)
        noise = torch.randn(clean.shape, generator=seeded(self.seed), dtype=clean.dtype)
        return clean + self.std * noise.to(clean.device)


@dataclass(frozen=True)
class _Sizes:
    d: int
    m: int
    n: int


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _context(
    generator: torch.Generator, contexts: int, *, least_m: int
) -> tuple[_Sizes, Batch, Tensor]:
    """Contexts of random sizes, and the weights that each starts from.

    Inputs are standard normal, tasks ``N(0, I/d)`` with noise of standard deviation 0.1, and the
    starting weights another draw of the tasks' law.
    """
    d, m = _integer(2, 6, generator), _integer(least_m, 3, generator)
    n = _integer(max(2, d // 2), 4 * d, generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    task, start = normal(contexts, m, d) / d**0.5, normal(contexts, m, d) / d**0.5
    xs, x_query = normal(contexts, n, d), normal(contexts, 2, d)
    ys, y_query = (x @ task.mT for x in (xs, x_query))
    ys = ys + 0.1 * normal(*ys.shape)
    return _Sizes(d, m, n), Batch(xs, ys, x_query, y_query, task), start


def constructed_case(loss: str, generator: torch.Generator, contexts: int = 32) -> Case:
    """A layer that descends ``loss``, of a random size.

    Huber's threshold is the median of the residuals' sizes, so that half are within it. Ridge
    shrinks by 0.05 to 0.4 in a step. Example weights are ``exp`` of normal numbers, one for each
    place in the context.

    Args:
        loss: one of :data:`LOSSES`.
        generator: of every number.
        contexts: in the batch.
    """
    check_choice("loss", loss, LOSSES)
    sizes, batch, start = _context(generator, contexts, least_m=2 if loss == "cosine" else 1)
    step_size, parameters, weights, leak = _uniform(0.1, 1.0, generator), {}, None, 0.0
    if loss == "huber":
        residual = batch.ys - batch.xs @ start.mT
        parameters = {"delta": residual.abs().median().item()}
        value = huber_loss(parameters["delta"]).value
    else:
        value = INNER_LOSSES[loss if loss in INNER_LOSSES else "squared"].value
    if loss == "ridge":
        leak = _uniform(0.05, 0.4, generator) / step_size
        parameters = {"leak": leak}
    if loss == "importance_weighted":
        weights = torch.randn(sizes.n, generator=generator, dtype=torch.float64).exp()
        weights = weights / weights.mean()
    layer = ObjectiveLayer(value, step_size, None, leak, weights)
    stack = ObjectiveStack((layer,), start)
    return Case(stack.after(0), stack, batch, loss, loss, step_size, parameters, weights)


def control_case(kind: str, generator: torch.Generator, contexts: int = 32) -> Case:
    """A layer that descends no loss on its context, of a random size.

    ``random_attention``: linear attention over ``(x, y, p)`` with random matrices.
    ``untrained_transformer``: a block of a Transformer at its start, read out with its own norm and
    read-out before and after. ``random_linear_map``: the same random change of the weights for all
    contexts, or one for each. ``rotated_values``: residuals turned by 30 to 150 degrees.
    ``shuffled_labels``: the step of another context's targets. ``constant``: a constant is added.
    ``shrinkage``: ``p <- (1 - a) p``. ``random_value_map``: values from a random two-layer network
    of ``(p, y)``, two or more outputs.

    Args:
        kind: one of :data:`CONTROLS`.
        generator: of every number.
        contexts: in the batch.
    """
    check_choice("kind", kind, CONTROLS)
    turning = kind in ("rotated_values", "random_value_map")
    sizes, batch, start = _context(generator, contexts, least_m=2 if turning else 1)
    step_size = _uniform(0.1, 1.0, generator)
    before: Learner = ObjectiveStack((), start)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    if kind == "random_attention":
        after = _RandomAttention(before, sizes, generator)
    elif kind == "untrained_transformer":
        before, after = _untrained_blocks(sizes, generator)
    elif kind == "random_linear_map":
        shared = _integer(0, 1, generator)
        change = normal(1 if shared else contexts, sizes.m, sizes.d)
        after = ObjectiveStack((), start + change)
    elif kind == "constant":
        shift = normal(sizes.m)
        after = _after(before, lambda xs, ys, p, x_query: p + shift)
    elif kind == "shrinkage":
        kept = 1 - _uniform(0.05, 0.8, generator)
        after = _after(before, lambda xs, ys, p, x_query: kept * p)
    elif kind == "shuffled_labels":
        layer = ObjectiveLayer(INNER_LOSSES["squared"].value, step_size)
        stack = ObjectiveStack((layer,), start)
        after = lambda xs, ys, x_query: stack(xs, ys.roll(1, 0), x_query)  # noqa: E731
    else:
        if kind == "rotated_values":
            turn = _rotation(sizes.m, _uniform(30.0, 150.0, generator) * torch.pi / 180, generator)
            value = lambda p, y: (y - p) @ turn.mT  # noqa: E731
        else:
            read, write = normal(16, 2 * sizes.m), normal(sizes.m, 16) / 4
            value = lambda p, y: torch.tanh(torch.cat([p, y], -1) @ read.mT) @ write.mT  # noqa: E731
        after = ObjectiveStack((ObjectiveLayer(value, step_size),), start)
    return Case(before, after, batch, None, kind, float("nan"), {})


def near_miss(kind: str, generator: torch.Generator, contexts: int = 32) -> Case:
    """A layer that descends the squared loss, but not by one step.

    ``least_squares``: it jumps to the minimum. ``two_steps``: two steps of 0.4 seen as one layer.
    """
    check_choice("kind", kind, NEAR_MISSES)
    _, batch, start = _context(generator, contexts, least_m=1)
    if kind == "least_squares":
        after: Learner = OrdinaryLeastSquares()
    else:
        layer = ObjectiveLayer(INNER_LOSSES["squared"].value, 0.4)
        after = ObjectiveStack((layer, layer), start)
    return Case(ObjectiveStack((), start), after, batch, None, kind, float("nan"), {})


def _after(before: Learner, change) -> Learner:
    return lambda xs, ys, x_query: change(xs, ys, before(xs, ys, x_query), x_query)


def _rotation(m: int, angle: float, generator: torch.Generator) -> Tensor:
    """A rotation by ``angle`` in a random plane; other directions stay."""
    axes = torch.linalg.qr(torch.randn(m, m, generator=generator, dtype=torch.float64))[0]
    turn = torch.eye(m, dtype=torch.float64)
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    turn[:2, :2] = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return axes @ turn @ axes.mT


class _RandomAttention:
    """``before`` followed by linear attention over ``(x, y, p)`` with random matrices."""

    def __init__(self, before: Learner, sizes: _Sizes, generator: torch.Generator):
        self.before, self.sizes = before, sizes
        width = sizes.d + 2 * sizes.m
        self.layer = SelfAttention(
            width, init_std=width**-0.5, generator=generator, dtype=torch.float64
        ).requires_grad_(False)

    def __call__(self, xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
        p, p_query = self.before(xs, ys, xs), self.before(xs, ys, x_query)
        context = torch.cat([xs, ys, p], -1)
        query = torch.cat([x_query, torch.zeros_like(p_query), p_query], -1)
        mask = context_mask(xs.shape[1], x_query.shape[1])
        tokens = self.layer(torch.cat([context, query], 1), mask)
        return tokens[:, xs.shape[1] :, self.sizes.d + self.sizes.m :]


def _untrained_blocks(sizes: _Sizes, generator: torch.Generator) -> tuple[Learner, Learner]:
    config = TransformerConfig(d=sizes.d, m=sizes.m, width=32, layers=2, heads=2)
    model = Transformer(config, generator=generator).double().requires_grad_(False)
    return AfterBlocks(model, 1), AfterBlocks(model, 2)


@dataclass(frozen=True)
class AfterBlocks:
    """A transformer read out after its first ``blocks`` blocks, with its own norm and read-out."""

    model: Transformer
    blocks: int

    def __call__(self, xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
        whole = self.model.blocks
        try:
            self.model.blocks = whole[: self.blocks]
            return self.model(xs, ys, x_query)
        finally:
            self.model.blocks = whole
