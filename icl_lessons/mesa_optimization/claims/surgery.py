"""What is claimed of objective surgery, each claim with a check."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, error_size
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    InnerLoss,
    ObjectiveLayer,
    curl,
    gradient_step,
    huber_loss,
)
from icl_lessons.mesa_optimization.surgery import (
    add_leak,
    clip_values,
    flip_sign,
    forget_feature,
    read_trained,
    replace_loss,
    reweight,
    scale_step,
    set_metric,
    shrink_after,
)
from icl_lessons.models.attention import SelfAttention, context_mask
from icl_lessons.runtime import Scale, seeded

PAGE = "mesa_optimization/surgery"
SURVEY, WHERE = "anonymous2024regression", "objective surgery, there as pseudocode"
SQUARED = INNER_LOSSES["squared"]


class Case(NamedTuple):
    """A context of random sizes in float64, the weights before the layer, and a layer."""

    xs: Tensor
    ys: Tensor
    x_query: Tensor
    weights: Tensor
    step: float
    generator: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    @property
    def d(self) -> int:
        """Coordinates of an input."""
        return self.xs.shape[2]

    def error(self, layer: ObjectiveLayer, expected: Tensor) -> float:
        """Of the predictions that a layer leaves, against those of the weights expected."""
        p, q = self.xs @ self.weights.mT, self.x_query @ self.weights.mT
        got = torch.cat(layer(self.xs, self.ys, p, self.x_query, q), 1)
        return relative_error(got, torch.cat([self.xs, self.x_query], 1) @ expected.mT)

    def step_on(self, loss: InnerLoss, step_size: float, **options) -> Tensor:
        """The weights after one step on a loss, by autograd."""
        return gradient_step(loss, self.weights, self.xs, self.ys, step_size, **options)


def _cases(count: int, *, seed: int, least_m: int = 1) -> Iterator[Case]:
    g = seeded(seed)
    for _ in range(count):
        d, m, n, queries = (int(torch.randint(1, k, (), generator=g)) for k in (7, 4, 14, 4))
        m, step = max(m, least_m), 0.05 + torch.rand((), generator=g).item()
        case = Case(*[torch.empty(0)] * 4, step, g)
        normal = case.normal
        yield case._replace(
            xs=normal(3, n, d),
            ys=normal(3, n, m),
            x_query=normal(3, queries, d),
            weights=normal(3, m, d),
        )


def _worst(check: Callable[[Case], float], *, seed: int, least_m: int = 1) -> Evidence:
    worst = max(check(case) for case in _cases(30, seed=seed, least_m=least_m))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="30 contexts of random sizes, the new loss differentiated automatically.",
    )


def _identity(name: str, says: str):
    return claim(
        f"survey-surgery-{name}",
        paper=SURVEY,
        where=WHERE,
        kind="identity",
        says=says,
        chapter=PAGE,
    )


@_identity("step-size", "Scaling what a layer writes scales its step on the same loss.")
def step_size(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        factor = 3 * torch.rand((), generator=case.generator).item()
        layer = scale_step(ObjectiveLayer(SQUARED.value, case.step), factor)
        return case.error(layer, case.step_on(SQUARED, factor * case.step))

    return _worst(check, seed=501)


@_identity("sign-flip", "Negating what a layer writes makes it climb the loss that it descended.")
def sign_flip(scale: Scale) -> Evidence:
    climbed = InnerLoss("minus", lambda p, y: -SQUARED.loss(p, y), SQUARED.value)

    def check(case: Case) -> float:
        layer = flip_sign(ObjectiveLayer(SQUARED.value, case.step))
        return case.error(layer, case.step_on(climbed, case.step))

    return _worst(check, seed=502)


@_identity("ridge", "A token-wise leak before the step adds ridge's penalty to any loss.")
def ridge(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        penalty = 2 * torch.rand((), generator=case.generator).item()
        worst = 0.0
        for loss in (SQUARED, huber_loss(0.7)):
            layer = add_leak(ObjectiveLayer(loss.value, case.step), penalty)
            # The penalty as part of a loss of the weights, nothing taken from the layer.
            w = case.weights.clone().requires_grad_()
            with torch.enable_grad():
                total = loss.loss(case.xs @ w.mT, case.ys).mean(1).sum()
                total = total + penalty / 2 * w.square().sum()
                (gradient,) = torch.autograd.grad(total, w)
            worst = max(worst, case.error(layer, case.weights - case.step * gradient))
        return worst

    return _worst(check, seed=503)


@_identity("example-weights", "Weights on the values are importance weights in the loss.")
def example_weights(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        first, second = case.normal(case.xs.shape[1]).abs(), case.normal(*case.xs.shape[:2]).abs()
        layer = reweight(reweight(ObjectiveLayer(SQUARED.value, case.step), first), second)
        return case.error(layer, case.step_on(SQUARED, case.step, example_weights=first * second))

    return _worst(check, seed=504)


@_identity("metric", "Another comparison of inputs is another metric for the same gradient.")
def metric(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        gamma = case.normal(case.d, case.d)
        layer = set_metric(ObjectiveLayer(SQUARED.value, case.step), gamma)
        return case.error(layer, case.step_on(SQUARED, case.step, preconditioner=gamma))

    return _worst(check, seed=505)


@_identity("clip-is-huber", "Clipping the values of a squared-loss layer makes it descend Huber's.")
def clip_is_huber(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        delta = 0.1 + 2 * torch.rand((), generator=case.generator).item()
        layer = clip_values(ObjectiveLayer(SQUARED.value, case.step), delta)
        return case.error(layer, case.step_on(huber_loss(delta), case.step))

    return _worst(check, seed=506)


@_identity(
    "forget-feature",
    "Without a feature's row and column in the metric, a layer takes the step of the regression "
    "that never saw the feature.",
)
def forgetting(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        j = int(torch.randint(0, case.d, (), generator=case.generator))
        kept = [i for i in range(case.d) if i != j]
        start = case.weights.clone()
        start[..., j] = 0
        case = case._replace(weights=start)
        layer = forget_feature(ObjectiveLayer(SQUARED.value, case.step), j, case.d)
        expected = start.clone()
        if kept:
            expected[..., kept] = gradient_step(
                SQUARED, start[..., kept], case.xs[..., kept], case.ys, case.step
            )
        return case.error(layer, expected)

    return _worst(check, seed=507)


@_identity("any-loss", "Exchanging the value map exchanges the loss: any of the family for any.")
def any_loss(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        return max(
            case.error(
                replace_loss(ObjectiveLayer(old.value, case.step), new),
                case.step_on(new, case.step),
            )
            for old in INNER_LOSSES.values()
            for new in INNER_LOSSES.values()
            if old is not new
        )

    return _worst(check, seed=508, least_m=2)


@_identity(
    "shrinking-too-late",
    "Shrinking after the step, not before it, is off by exactly eta^2 lambda times the gradient.",
)
def shrinking_too_late(scale: Scale) -> Evidence:
    sizes = []

    def check(case: Case) -> float:
        case, penalty = case._replace(step=0.3 * case.step), 0.8
        layer = ObjectiveLayer(SQUARED.value, case.step)
        p, q = case.xs @ case.weights.mT, case.x_query @ case.weights.mT
        right, late = (
            edit(layer, penalty)(case.xs, case.ys, p, case.x_query, q)[1]
            for edit in (add_leak, shrink_after)
        )
        gradient = (case.weights - case.step_on(SQUARED, case.step)) / case.step
        sizes.append(((late - right).norm() / (right - q).norm()).item())
        return relative_error(late - right, case.step**2 * penalty * case.x_query @ gradient.mT)

    found = _worst(check, seed=509)
    note = f"The difference is up to {max(sizes):.2f} of the step itself: small is not zero."
    return replace(found, note=note)


@_identity(
    "shrinking-too-late-is-ridge",
    "Shrinking after the step is the right step of a larger penalty, lambda / (1 - eta lambda).",
)
def shrinking_too_late_is_ridge(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        penalty = 0.9 * torch.rand((), generator=case.generator).item()
        eta = 0.9 * case.step
        kept = 1 - eta * penalty
        late = kept * case.step_on(SQUARED, eta)
        right = case.step_on(SQUARED, eta * kept, leak=penalty / kept)
        layer = shrink_after(ObjectiveLayer(SQUARED.value, eta), penalty)
        return max(case.error(layer, late), relative_error(right, late))

    return _worst(check, seed=510)


@claim(
    "survey-surgery-clipped-cosine",
    paper=SURVEY,
    where=WHERE,
    kind="experiment",
    says="Not every edit leaves an objective: a cosine layer with clipped values descends nothing.",
    chapter=PAGE,
)
def clipped_cosine(scale: Scale) -> Evidence:
    g = seeded(511)
    p, y = torch.randn(2, 500, 3, generator=g, dtype=torch.float64)
    layer = ObjectiveLayer(INNER_LOSSES["cosine"].value, 1.0)
    whole, clipped = curl(layer.value, p, y), curl(clip_values(layer, 0.3).value, p, y)
    return Evidence(
        measured=clipped.mean().item(),
        bound=0.05,
        comparison="at least",
        unit="mean antisymmetric share of the value map's Jacobian, 0 for a loss",
        note=f"Unclipped, the largest of 500 points is {error_size(whole.max())}. Clipping each "
        "coordinate keeps a loss only where the loss is a sum over coordinates.",
    )


@_identity(
    "trained-blocks",
    "From an empty query slot a linear attention layer uses five blocks of its matrices, "
    "and they are what surgery edits.",
)
def trained_blocks(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        m, n, width = case.ys.shape[2], case.xs.shape[1], case.d + case.ys.shape[2]
        attention = SelfAttention(
            width, init_std=0.5, generator=case.generator, dtype=torch.float64
        ).requires_grad_(False)
        context = torch.cat([case.xs, case.ys], -1)
        query = torch.cat([case.x_query, case.x_query.new_zeros(*case.x_query.shape[:2], m)], -1)
        mask = context_mask(n, query.shape[1])
        expected = attention(torch.cat([context, query], 1), mask)[:, n:, case.d :]
        layer = read_trained(attention, case.d, n)
        zeros = torch.zeros_like(case.ys), torch.zeros_like(expected)
        return relative_error(
            layer(case.xs, case.ys, zeros[0], case.x_query, zeros[1])[1], expected
        )

    return _worst(check, seed=512)
