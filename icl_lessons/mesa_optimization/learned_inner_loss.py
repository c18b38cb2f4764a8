"""Layers that learn which loss to descend: the value map is a small network, trained end to end.

The layers have the form of :class:`~icl_lessons.mesa_optimization.inner_losses.ObjectiveLayer`, and
their value map ``v(p, y)`` is a two-layer ReLU network. Training decides what it becomes. Huber's
clip is within reach (two ReLUs for each output), and so is a map that no loss has as its gradient.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.mesa_optimization.inner_losses import ObjectiveLayer, ObjectiveStack
from icl_lessons.runtime import check_integer, check_number
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Batch, Learner


@dataclass(frozen=True, kw_only=True)
class NoisyLabels:
    """Linear regression whose context labels carry noise, and sometimes gross errors.

    Inputs are standard normal and tasks ``N(0, 1/d)``, so that a clean target has variance 1. The
    queries' targets are clean: what a learner is asked for is the task.

    Attributes:
        d: coordinates of an input.
        m: coordinates of a target.
        noise_std: standard deviation of the normal noise on every context label.
        outlier_share: of the context's examples, drawn independently.
        outlier_std: of the further normal noise on an outlier's label, all its coordinates.
        n_query: queries for each context.
    """

    d: int
    m: int = 1
    noise_std: float = 0.3
    outlier_share: float = 0.0
    outlier_std: float = 5.0
    n_query: int = 4

    def __post_init__(self):
        for name in ("d", "m", "n_query"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("noise_std", "outlier_share", "outlier_std"):
            check_number(name, getattr(self, name))
        if self.outlier_share > 1:
            raise ValueError(f"outlier_share: got {self.outlier_share}; use a share from 0 to 1")

    def sample(
        self,
        batch_size: int,
        n_context: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        fast: bool = False,
    ) -> Batch:
        """Draw contexts; arguments as in :meth:`LinearRegression.sample`."""
        clean = LinearRegression(
            d=self.d, m=self.m, task_scale=1 / math.sqrt(self.d), n_query=self.n_query
        ).sample(batch_size, n_context, generator=generator, device=device, fast=fast)
        where = {"generator": generator, "device": generator.device}
        size = self.noise_std * torch.randn(clean.ys.shape, **where)
        if self.outlier_share > 0:
            hit = torch.rand(*clean.ys.shape[:2], 1, **where) < self.outlier_share
            size = size + hit * self.outlier_std * torch.randn(clean.ys.shape, **where)
        ys = clean.ys + size.to(clean.ys.device)
        return Batch(clean.xs, ys, clean.x_query, clean.y_query, clean.weights)


class LearnedObjective(nn.Module):
    """A stack of objective layers that share one trained value map: a learner.

    Args:
        m: coordinates of a target.
        layers: how often the layer is applied, each time with step size 1 (the size of a step is
            part of the value map).
        hidden: ReLUs of the value map.
        generator: where its start comes from.
    """

    def __init__(self, m: int, layers: int, hidden: int, generator: torch.Generator):
        super().__init__()
        for name, value in {"m": m, "layers": layers, "hidden": hidden}.items():
            check_integer(name, value, at_least=1)
        self.layers = layers
        self.network = nn.Sequential(nn.Linear(2 * m, hidden), nn.ReLU(), nn.Linear(hidden, m))
        with torch.no_grad():
            for linear in (self.network[0], self.network[2]):
                size = linear.in_features**-0.5
                linear.weight.normal_(0, size, generator=generator)
                linear.bias.normal_(0, 0.1, generator=generator)
            self.network[2].weight.mul_(0.3)

    def value(
        self, prediction: Float[Tensor, "*batch m"], target: Float[Tensor, "*batch m"]
    ) -> Float[Tensor, "*batch m"]:
        """``v(p, y)``, in units of the step."""
        return self.network(torch.cat([prediction, target], -1))

    @property
    def stack(self) -> ObjectiveStack:
        """The layers as an :class:`ObjectiveStack`, from zero weights."""
        return ObjectiveStack((ObjectiveLayer(self.value, 1.0),) * self.layers)

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        return self.stack(xs, ys, x_query)


def negative_cosine(model: Learner, batch: Batch) -> Float[Tensor, ""]:
    """The base objective ``- cos(y_hat, y)`` at the queries, averaged: blind to length."""
    prediction = model(batch.xs, batch.ys, batch.x_query)
    return -nn.functional.cosine_similarity(prediction, batch.y_query, dim=-1).mean()


def clip_fit(
    residual: Float[Tensor, " points"], value: Float[Tensor, " points"]
) -> tuple[float, float, float, float]:
    """How straight a value curve is, and how well a clip describes it.

    Returns:
        ``slope, delta, clip_r_squared, linear_r_squared`` of the best ``slope * clip(r, +-delta)``
        (``delta`` up to the largest residual) and of the best ``slope * r``, by least squares over
        the points; shares of the curve's square.
    """
    total = value.square().sum()
    best = (-math.inf, 0.0, 0.0)
    for delta in torch.linspace(0.02, 1, 99) * residual.abs().max():
        clipped = residual.clamp(-delta, delta)
        slope = (clipped @ value) / clipped.square().sum()
        share = 1 - (value - slope * clipped).square().sum() / total
        best = max(best, (share.item(), slope.item(), delta.item()))
    slope = (residual @ value) / residual.square().sum()
    linear = 1 - (value - slope * residual).square().sum() / total
    return best[1], best[2], best[0], linear.item()


def likelihood_score(
    residual: Float[Tensor, " points"], task: NoisyLabels
) -> Float[Tensor, " points"]:
    """Minus the slope of ``-log p(residual)`` under the label noise: the value map of its loss.

    For normal noise it is a straight line; with outliers it rises, then *falls back* beyond a few
    standard deviations, since an example that far off says nothing about the task. No convex loss
    has such a value map.
    """
    near = task.noise_std**2
    far = near + task.outlier_std**2
    logs = [
        math.log(share) - residual.square() / (2 * variance) - math.log(variance) / 2
        for share, variance in ((1 - task.outlier_share, near), (task.outlier_share, far))
        if share > 0
    ]
    shares = torch.stack(logs).softmax(0)
    precisions = [1 / near, 1 / far] if task.outlier_share < 1 else [1 / far]
    return residual * sum(s * precision for s, precision in zip(shares, precisions, strict=False))
