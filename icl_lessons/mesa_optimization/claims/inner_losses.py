"""What is claimed of layers that descend a loss of choice, each claim with a check."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.measures.label_influence import implied_preconditioner, label_influence
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    InnerLoss,
    ObjectiveLayer,
    ObjectiveStack,
    curl,
    gradient_step,
    huber_loss,
    huber_units,
    recovered_loss,
    weighted,
)
from icl_lessons.runtime import Scale, seeded
from icl_lessons.types import Batch

PAGE = "mesa_optimization/inner_objective"
SEED = {"paper": "anonymous2024regression", "chapter": PAGE}
STEP = "mesa-objectives as losses; the layers are the course's"


class _Random(NamedTuple):
    """Random tokens, a start, and everything a layer may have."""

    batch: Batch
    start: Tensor  # [3, m, d]
    step_size: float
    leak: float
    metric: Tensor  # [d, d]
    weights: Tensor  # [3, n]


def _cases(count: int, *, seed: int, least_m: int = 1) -> Iterator[_Random]:
    generator = seeded(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    for _ in range(count):
        d, m, n = draw(1, 7), draw(least_m, 4), draw(1, 20)
        batch = Batch(normal(3, n, d), normal(3, n, m), normal(3, 2, d), normal(3, 2, m))
        step_size, leak = torch.rand(2, generator=generator).tolist()
        yield _Random(batch, normal(3, m, d), step_size, leak, normal(d, d), normal(3, n).abs())


def _stack_error(loss: InnerLoss, case: _Random, layers: int, **changes) -> float:
    """Layers against as many steps by autograd, on context and queries."""
    xs, ys, x_query = case.batch.context
    layer = ObjectiveLayer(loss.value, case.step_size, **changes)
    stack = ObjectiveStack((layer,) * layers, case.start)
    weights = case.start
    for _ in range(layers):
        weights = gradient_step(loss, weights, xs, ys, case.step_size, **changes)
    return max(relative_error(stack(xs, ys, x), x @ weights.mT) for x in (xs, x_query))


def _losses() -> list[InnerLoss]:
    return [*INNER_LOSSES.values(), huber_loss(0.3)]


@claim(
    "survey-layer-for-every-loss",
    where=STEP,
    kind="identity",
    says="Linear attention with a token-wise value map takes one gradient step on the loss whose "
    "negative gradient the map is: squared, absolute, Huber, cosine, or its ascent.",
    **SEED,
)
def layer_for_every_loss(scale: Scale) -> Evidence:
    errors = [
        _stack_error(loss, case, 1)
        for case in _cases(12, seed=31)
        for loss in _losses()
        if loss.name != "cosine" or case.batch.ys.shape[2] > 1
    ]
    return Evidence(
        measured=max(errors),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="12 random sizes, context and queries, against automatic differentiation of the loss.",
    )


@claim(
    "survey-layers-stay-exact",
    where=STEP,
    kind="identity",
    says="Several such layers in a row take as many steps, since the prediction slot carries W x.",
    **SEED,
)
def layers_stay_exact(scale: Scale) -> Evidence:
    errors = [
        _stack_error(loss, case, layers)
        for case, layers in zip(
            _cases(8, seed=32, least_m=2), (2, 3, 4, 2, 3, 4, 2, 3), strict=True
        )
        for loss in (INNER_LOSSES["squared"], huber_loss(0.5), INNER_LOSSES["absolute"])
    ]
    return Evidence(measured=max(errors), bound=1e-10, unit=RELATIVE_ERROR)


@claim(
    "survey-edits-of-a-layer",
    where="objective surgery; the layers are the course's",
    kind="identity",
    says="A leak on the prediction adds a ridge penalty, a weight on an example's value weights "
    "its loss, and a metric between query and key preconditions the step.",
    **SEED,
)
def edits_of_a_layer(scale: Scale) -> Evidence:
    errors = []
    for case in _cases(10, seed=33, least_m=2):
        for loss in _losses():
            errors += [
                _stack_error(loss, case, 1, leak=case.leak),
                _stack_error(loss, case, 1, example_weights=case.weights),
                _stack_error(loss, case, 1, preconditioner=case.metric),
            ]
        both = weighted(INNER_LOSSES["squared"], case.weights)
        errors.append(_stack_error(both, case, 2, leak=case.leak, preconditioner=case.metric))
    return Evidence(measured=max(errors), bound=1e-10, unit=RELATIVE_ERROR)


@claim(
    "survey-objective-layer-is-attention",
    where=STEP,
    kind="identity",
    says="The layer is linear attention as it stands: its matrices, put into the package's "
    "attention on tokens (x, value, p), give the same numbers.",
    **SEED,
)
def layer_is_attention(scale: Scale) -> Evidence:
    errors = []
    for case in _cases(15, seed=34, least_m=2):
        xs, ys, x_query = case.batch.context
        starts = xs @ case.start.mT, x_query @ case.start.mT
        for loss in _losses():
            layer = ObjectiveLayer(loss.value, case.step_size, case.metric, case.leak, case.weights)
            pairs = zip(
                layer.as_attention(xs, ys, starts[0], x_query, starts[1]),
                layer(xs, ys, starts[0], x_query, starts[1]),
                strict=True,
            )
            errors += [relative_error(one, two) for one, two in pairs]
    return Evidence(measured=max(errors), bound=1e-12, unit=RELATIVE_ERROR)


@claim(
    "survey-huber-by-two-relus",
    where=STEP,
    kind="identity",
    says="Two ReLUs for each coordinate make the value map of Huber's loss, with no error.",
    **SEED,
)
def huber_by_two_relus(scale: Scale) -> Evidence:
    generator, worst = seeded(35), 0.0
    for m in (1, 2, 5):
        p, y = 3 * torch.randn(2, 500, m, generator=generator, dtype=torch.float64)
        delta = float(torch.rand((), generator=generator)) + 0.1
        value = huber_units(m, delta)(torch.cat([p, y], -1))
        worst = max(worst, relative_error(value, (y - p).clamp(-delta, delta)))
    return Evidence(measured=worst, bound=1e-14, unit=RELATIVE_ERROR)


@claim(
    "survey-objective-exists-without-curl",
    where="the objective-existence test of the course",
    kind="identity",
    says="The Jacobian of every loss's value map is symmetric.",
    **SEED,
)
def no_curl(scale: Scale) -> Evidence:
    p, y = torch.randn(2, 400, 3, generator=seeded(36), dtype=torch.float64)
    largest = max(curl(loss.value, p, y).max().item() for loss in _losses())
    return Evidence(
        measured=largest,
        bound=1e-10,
        unit="antisymmetric share of the Jacobian",
        note="The largest is the cosine's; those of the other losses are exactly 0.",
    )


@claim(
    "survey-rotated-field-has-no-objective",
    where="the objective-existence test of the course",
    kind="experiment",
    says="A layer whose values are residuals turned in the plane descends nothing: the turn shows "
    "as curl, and what is recovered as a loss depends on the path.",
    **SEED,
)
def rotated_field(scale: Scale) -> Evidence:
    p, y, through = torch.randn(3, 400, 2, generator=seeded(37), dtype=torch.float64)
    angles = torch.deg2rad(torch.tensor([20.0, 45.0, 90.0], dtype=torch.float64))
    shares, gaps = [], []
    for angle in angles:
        c, s = torch.cos(angle), torch.sin(angle)
        turn = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])

        def value(p: Tensor, y: Tensor, turn=turn) -> Tensor:
            return (y - p) @ turn.mT

        shares.append(curl(value, p, y).min().item())
        straight = recovered_loss(value, p, y)
        gaps.append((recovered_loss(value, p, y, through=through) - straight).abs().mean().item())
    return Evidence(
        measured=min(shares),
        bound=0.1,
        comparison="at least",
        unit="antisymmetric share of the Jacobian, |sin angle|",
        samples=passed(
            [share > 0.1 and gap > 0.1 for share, gap in zip(shares, gaps, strict=True)]
        ),
        note="Turned by 20, 45 and 90 degrees. Through a point on the way the recovered loss "
        "differs by " + ", ".join(f"{gap:.2f}" for gap in gaps) + " on average.",
    )


@claim(
    "survey-loss-recovered-from-values",
    where="the objective-existence test of the course",
    kind="identity",
    says="The path integral of a value map gives back the loss, whichever way the path goes.",
    **SEED,
)
def loss_recovered(scale: Scale) -> Evidence:
    p, y, through = torch.randn(3, 300, 3, generator=seeded(38), dtype=torch.float64)
    worst = 0.0
    for name in ("squared", "sign_flipped"):
        loss = INNER_LOSSES[name]
        expected = loss.loss(p, y) - loss.loss(y, y)
        for way in (None, through):
            got = recovered_loss(loss.value, p, y, through=way, nodes=8)
            worst = max(worst, relative_error(got, expected))
    near = y + 0.5 * y.norm(dim=1, keepdim=True) * torch.nn.functional.normalize(p - y, dim=1)
    cosine = INNER_LOSSES["cosine"]
    got = recovered_loss(cosine.value, near, y)
    worst = max(worst, relative_error(got, cosine.loss(near, y) - cosine.loss(y, y)))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="Squared and sign-flipped loss by two paths, the cosine within half the target's "
        "length of it. Huber's kink leaves the quadrature an error near 1e-4.",
    )


@claim(
    "survey-ridge-is-hidden-at-zero",
    where="which losses one layer can tell apart; the course's",
    kind="identity",
    says="From predictions of 0 a step on ridge is a step on the squared loss.",
    **SEED,
)
def ridge_hidden_at_zero(scale: Scale) -> Evidence:
    worst = 0.0
    for case in _cases(15, seed=39):
        xs, ys, x_query = case.batch.context
        value = INNER_LOSSES["squared"].value
        plain, ridge = (
            ObjectiveStack((ObjectiveLayer(value, case.step_size, None, leak),))(xs, ys, x_query)
            for leak in (0.0, case.leak)
        )
        worst = max(worst, relative_error(ridge, plain))
    return Evidence(measured=worst, bound=1e-12, unit=RELATIVE_ERROR)


@claim(
    "survey-label-influence-of-a-step",
    where="label Jacobians; the course's",
    kind="identity",
    says="A prediction after one preconditioned step moves with label i by x_i^T Gamma x_q / N, "
    "whatever the start, and Gamma is read off from these slopes.",
    **SEED,
)
def label_influence_of_a_step(scale: Scale) -> Evidence:
    worst = 0.0
    for case in _cases(12, seed=40):
        xs, _, x_query = case.batch.context
        (_, n, d), m = xs.shape, case.batch.ys.shape[2]
        layer = ObjectiveLayer(INNER_LOSSES["squared"].value, 1.0, case.metric)
        stack = ObjectiveStack((layer,), case.start)
        slopes = xs @ case.metric @ x_query.mT / n  # [batch, i, q]
        eye = torch.eye(m, dtype=xs.dtype)
        expected = torch.einsum("biq,kl->bqkil", slopes, eye)
        worst = max(worst, relative_error(label_influence(stack, case.batch), expected))
        if 6 * n >= 2 * d * d:
            read = implied_preconditioner(stack, case.batch)
            worst = max(worst, abs(1 - read.r_squared))
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR)
