"""The cosine as a proxy: right while every target has length 1, blind to length afterwards.

A layer that descends ``-cos(p, y)`` turns its predictions towards the targets and never asks how
long they are. Three exact facts:

* Between a prediction of length 1 and a target of length ``s`` at angle ``theta``, the values of
  this layer and of the squared one have the cosine
  ``s sin(theta) / sqrt(1 + s^2 - 2 s cos(theta))``. For ``s = 1`` this is ``cos(theta / 2)``, at
  small angles nearly the same update; for ``s = 3`` it is there about ``1.5 theta``.
* The path of the cosine learner is the same for every length of the targets.
* Each step is orthogonal to the weights, ``<W, dW> = 0``, so ``|W|^2`` grows by ``|dW|^2``: the
  length at which it ends is decided by where it started and by its steps, not by the targets.

On data of unit length a learner that scores 1 on the cosine may answer rightly, and on longer
targets its score is the same and its answers are wrong.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
)
from icl_lessons.runtime import check_integer, check_number
from icl_lessons.tasks.drawing import drawing_device
from icl_lessons.types import Batch


@dataclass(frozen=True, kw_only=True)
class UnitVectors:
    """``y = s R x``: inputs of length 1, a random orthogonal ``R`` for each context, length ``s``.

    Attributes:
        d: coordinates of an input, and of a target; 2 or more.
        target_scale: ``s``, the length of every target.
        n_query: queries for each context.
    """

    d: int
    target_scale: float | int = 1.0
    n_query: int = 1

    def __post_init__(self):
        check_integer("d", self.d, at_least=2)
        check_integer("n_query", self.n_query, at_least=1)
        check_number("target_scale", self.target_scale, positive=True)

    def sample(
        self,
        batch_size: int,
        n_context: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = False,
    ) -> Batch:
        """Draw ``batch_size`` contexts. The same seed gives the same ``R`` and inputs at any scale.

        Args:
            batch_size: number of contexts.
            n_context: examples in each.
            generator: the only source of chance.
            device: where the batch is wanted; the numbers are drawn on the CPU and then moved.
            dtype: of the batch.
            fast: draw on ``generator``'s own device instead.
        """
        check_integer("batch_size", batch_size, at_least=1)
        check_integer("n_context", n_context, at_least=1)
        how = {
            "generator": generator,
            "device": drawing_device(generator, device, fast),
            "dtype": dtype,
        }
        weights = self.target_scale * random_rotations(batch_size, self.d, **how)
        x = torch.randn(batch_size, n_context + self.n_query, self.d, **how)
        x = x / x.norm(dim=-1, keepdim=True)
        y = x @ weights.mT
        n = n_context
        batch = Batch(x[:, :n], y[:, :n], x[:, n:], y[:, n:], weights)
        return batch.to("cpu" if device is None else device)


def random_rotations(
    batch_size: int, d: int, *, generator: torch.Generator, **how
) -> Float[Tensor, "batch d d"]:
    """Orthogonal matrices, uniform; reflections are among them."""
    q, r = torch.linalg.qr(torch.randn(batch_size, d, d, generator=generator, **how))
    return q * r.diagonal(dim1=1, dim2=2).sign()[:, None]


def turned(
    weights: Float[Tensor, "batch d d"], angle: float | int, *, generator: torch.Generator
) -> Float[Tensor, "batch d d"]:
    """Each matrix after a turn in a random direction; ``angle`` in radians, of most vectors.

    The generator of the turn is antisymmetric and normal, scaled so that a random vector moves by
    ``angle`` in root mean square (to first order).
    """
    check_number("angle", angle)
    batch, d = weights.shape[:2]
    a = torch.randn(batch, d, d, generator=generator, dtype=weights.dtype)
    a = a - a.mT
    a = a * (angle * math.sqrt(d) / a.norm(dim=(1, 2), keepdim=True))
    return torch.linalg.matrix_exp(a) @ weights


def value_agreement(
    prediction: Float[Tensor, "*points m"], target: Float[Tensor, "*points m"]
) -> Float[Tensor, "*points"]:
    """Cosine between the values of the cosine layer and those of the squared layer, per token."""
    proxy, true = (INNER_LOSSES[name].value(prediction, target) for name in ("cosine", "squared"))
    return nn.functional.cosine_similarity(proxy, true, dim=-1)


def agreement_at(angle: float | Tensor, scale: float | int) -> Tensor:
    """``s sin(theta) / sqrt(1 + s^2 - 2 s cos(theta))``: the same in closed form.

    Args:
        angle: ``theta``, between prediction and target, in radians.
        scale: ``s``, length of the target over that of the prediction.
    """
    angle = angle if isinstance(angle, Tensor) else torch.tensor(angle, dtype=torch.float64)
    return scale * angle.sin() / (1 + scale**2 - 2 * scale * angle.cos()).sqrt()


def inner_learner(
    loss: str, step_size: float | int, steps: int, start: Float[Tensor, "batch d d"]
) -> ObjectiveStack:
    """``steps`` layers that descend the loss of that name, from weights ``start``."""
    check_integer("steps", steps, at_least=0)
    return ObjectiveStack([ObjectiveLayer(INNER_LOSSES[loss].value, step_size)] * steps, start)


@torch.no_grad()
def inner_path(
    loss: str, step_size: float | int, steps: int, start: Float[Tensor, "batch d d"], batch: Batch
) -> Float[Tensor, "{steps}+1 2"]:
    """:func:`scores` at the queries before the first layer and after each."""
    layer = ObjectiveLayer(INNER_LOSSES[loss].value, step_size)
    p, q = batch.xs @ start.mT, batch.x_query @ start.mT
    path = [scores(q, batch.y_query)]
    for _ in range(steps):
        p, q = layer(batch.xs, batch.ys, p, batch.x_query, q)
        path.append(scores(q, batch.y_query))
    return torch.tensor(path)


@torch.no_grad()
def scores(prediction: Tensor, target: Tensor) -> tuple[float, float]:
    """``(mean cosine, E |p - y|^2)``: what the proxy sees, and what is wanted. No half."""
    cosine = nn.functional.cosine_similarity(prediction, target, dim=-1).mean().item()
    return cosine, (prediction - target).square().sum(-1).mean().item()


class LearnedValues(nn.Module):
    """A loop of layers whose value map is a trained MLP: which inner loss does training choose?

    Each of ``steps`` layers adds ``1/N sum_i v(p_i, y_i) x_i^T x_j``; nothing but ``v`` is trained,
    and all layers share it. The step size is part of ``v``.

    Args:
        m: coordinates of a target.
        hidden: units of the MLP.
        steps: layers.
    """

    def __init__(self, m: int, hidden: int = 32, steps: int = 4):
        super().__init__()
        for name, size in {"m": m, "hidden": hidden, "steps": steps}.items():
            check_integer(name, size, at_least=1)
        self.steps = steps
        self.values = nn.Sequential(nn.Linear(2 * m, hidden), nn.GELU(), nn.Linear(hidden, m))

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``v(p, y)``: a value map like any other."""
        return self.values(torch.cat([prediction, target], -1))

    def learner(self, start: Tensor) -> ObjectiveStack:
        """The learner that starts from weights ``start``, ``[batch, m, d]``."""
        return ObjectiveStack([ObjectiveLayer(self.value, 1.0)] * self.steps, start)

    def forward(
        self,
        xs: Float[Tensor, "batch n d"],
        ys: Float[Tensor, "batch n m"],
        x_query: Float[Tensor, "batch n_query d"],
        start: Float[Tensor, "batch m d"],
    ) -> Float[Tensor, "batch n_query m"]:
        """Predictions after all layers."""
        return self.learner(start)(xs, ys, x_query)


@torch.no_grad()
def value_alignment(
    model: LearnedValues, batch: Batch, start: Float[Tensor, "batch m d"]
) -> dict[str, float]:
    """Cosine of the learned values with those of two losses, over the states that the loop visits.

    Returns:
        ``squared`` and ``cosine``; and ``radial``: the share of the values' square that lies along
        the prediction, which is 0 for a layer that descends the cosine.
    """
    learner = model.learner(start)
    seen = [learner.after(k)(batch.xs, batch.ys, batch.xs) for k in range(model.steps)]
    p, y = torch.cat(seen), batch.ys.repeat(model.steps, 1, 1)
    v = model.value(p, y)
    found = {}
    for name in ("squared", "cosine"):
        true = INNER_LOSSES[name].value(p, y)
        found[name] = nn.functional.cosine_similarity(v.flatten(), true.flatten(), dim=0).item()
    along = (v * p).sum(-1) / p.norm(dim=-1)
    return found | {"radial": (along.square().sum() / v.square().sum()).item()}
