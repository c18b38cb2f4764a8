"""What is claimed of the preconditioner of one layer, each claim with a check."""

import functools
import math

import numpy as np
import torch

from icl_lessons.declare import EXPERIMENTS, Evidence, claim
from icl_lessons.estimators.preconditioned import (
    GradientDescentPlusPlus,
    PreconditionedGradientDescent,
    preconditioned_descent_path,
)
from icl_lessons.gradient_descent.experiments.preconditioning import PreconditionedLayerResult
from icl_lessons.gradient_descent.preconditioning import (
    effective_preconditioners,
    optimal_preconditioner,
    preconditioned_attention,
    preconditioned_population_loss,
)
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression

PAGE = "gradient_descent/deeper"
RELATIVE = "largest error over size of the answer, float64"


@functools.cache
def _found(scale: Scale) -> PreconditionedLayerResult:
    """The fitted and trained matrices that several claims are about."""
    declared = EXPERIMENTS["preconditioned_layer"]
    return declared.run(declared.configs[scale])


def _relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return ((got - expected).abs().max() / expected.abs().max().clamp_min(1.0)).item()


def _random_cases(count: int):
    """Contexts of random sizes with random matrices of no symmetry, in float64."""
    generator = seeded(2024)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    for _ in range(count):
        d, m, n, layers = draw(1, 7), draw(1, 3), draw(1, 25), draw(1, 6)
        batch = LinearRegression(d=d, m=m, noise_std=0.3, n_query=2).sample(
            3, n, generator=generator, dtype=torch.float64
        )
        a, b = 0.4 * torch.randn(2, layers, d, d, generator=generator, dtype=torch.float64)
        yield batch, a, b


def _covariances(count: int):
    generator = seeded(2025)
    for _ in range(count):
        d = int(torch.randint(1, 8, (), generator=generator))
        n = int(torch.randint(1, 40, (), generator=generator))
        root = torch.randn(d, d, generator=generator, dtype=torch.float64)
        yield root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64), n


@claim(
    "ahn2023-preconditioned-steps",
    paper="ahn2023transformers",
    where="Lemma 1",
    kind="identity",
    says="Layers that compare inputs through a matrix take gradient steps preconditioned by it.",
    chapter=PAGE,
)
def preconditioned_steps(scale: Scale) -> Evidence:
    worst = transposed = 0.0
    for batch, a, _ in _random_cases(60):
        got = preconditioned_attention(a, batch.xs.shape[1], m=batch.ys.shape[2])(*batch.context)
        steps = PreconditionedGradientDescent(1.0, a)(*batch.context)
        other = PreconditionedGradientDescent(1.0, a.mT.contiguous())(*batch.context)
        worst = max(worst, _relative_error(got, steps))
        transposed = max(transposed, _relative_error(got, other))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE,
        note="60 random sizes and depths, matrices of no symmetry. On column weights the matrix "
        f"acts as its transpose, which the paper does not write: the other way is {transposed:.1f} "
        "off.",
    )


@claim(
    "ahn2023-input-maps",
    paper="ahn2023transformers",
    where="Theorem 4, the layers of its setting",
    kind="identity",
    says="Layers that move the inputs too are preconditioned steps, with a matrix made from the "
    "context.",
    chapter=PAGE,
)
def input_maps(scale: Scale) -> Evidence:
    worst = 0.0
    for batch, a, b in _random_cases(60):
        n, m = batch.xs.shape[1], batch.ys.shape[2]
        got = preconditioned_attention(a, n, b, m)(*batch.context)
        effective = effective_preconditioners(batch.xs, a, b)
        path = preconditioned_descent_path(batch.xs, batch.ys, 1.0, effective)
        worst = max(worst, _relative_error(got, batch.x_query @ path[-1].mT))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE,
        note="The matrix of layer l is T^T A T, with T what the maps before it have made of the "
        "inputs.",
    )


@claim(
    "ahn2023-last-input-map",
    paper="ahn2023transformers",
    where="Theorem 4",
    kind="identity",
    says="The input map of the last layer has no effect on the prediction.",
    chapter=PAGE,
)
def last_input_map(scale: Scale) -> Evidence:
    worst = 0.0
    for batch, a, b in _random_cases(30):
        n, m = batch.xs.shape[1], batch.ys.shape[2]
        other = b.clone()
        other[-1] = 7 * other[-1] + 1
        worst = max(
            worst,
            _relative_error(
                preconditioned_attention(a, n, other, m)(*batch.context),
                preconditioned_attention(a, n, b, m)(*batch.context),
            ),
        )
    return Evidence(measured=worst, bound=1e-12, unit=RELATIVE)


@claim(
    "ahn2023-gd-plus-plus",
    paper="ahn2023transformers",
    where="Theorem 4, with covariance I",
    kind="identity",
    says="With multiples of the identity in both places the layers are GD++.",
    chapter=PAGE,
)
def gd_plus_plus(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(8)
    for batch, a, _ in _random_cases(40):
        layers, d, n = a.shape[0], a.shape[1], batch.xs.shape[1]
        sizes, maps = 0.4 * torch.rand(2, layers, generator=generator, dtype=torch.float64)
        eye = torch.eye(d, dtype=torch.float64)
        got = preconditioned_attention(
            sizes[:, None, None] * eye, n, maps[:, None, None] * eye, batch.ys.shape[2]
        )(*batch.context)
        textbook = GradientDescentPlusPlus(sizes.tolist(), (sizes * maps / n).tolist())
        worst = max(worst, _relative_error(got, textbook(*batch.context)))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE,
        note="A = a I and B = b I make a step size of a and gamma = a b / N.",
    )


@claim(
    "ahn2023-theorem-1",
    paper="ahn2023transformers",
    where="Theorem 1",
    kind="identity",
    says="The best matrix of one layer has the inverse of (N+1)/N lambda_i + tr(Lambda)/N on the "
    "axes of the inputs.",
    chapter=PAGE,
)
def theorem_1(scale: Scale) -> Evidence:
    worst = 0.0
    for sigma, n in _covariances(40):
        a = torch.zeros_like(sigma).requires_grad_()
        # The loss is quadratic: its gradient at the stated matrix, over that at 0.
        (start,) = torch.autograd.grad(preconditioned_population_loss(a, sigma, n), a)
        values, axes = torch.linalg.eigh(sigma)
        stated = axes @ torch.diag(1 / ((n + 1) / n * values + values.sum() / n)) @ axes.T
        at = stated.requires_grad_()
        (slope,) = torch.autograd.grad(preconditioned_population_loss(at, sigma, n), at)
        worst = max(worst, (slope.norm() / start.norm()).item())
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit="gradient there over gradient at 0, exact expected loss",
        note="Normal inputs of 40 random covariances; the loss is convex in the matrix.",
    )


@claim(
    "ahn2023-fitted-preconditioner",
    paper="ahn2023transformers",
    where="Theorem 1",
    kind="experiment",
    says="The layer that predicts sampled prompts best is the stated preconditioned step.",
    chapter=PAGE,
)
def fitted(scale: Scale) -> Evidence:
    errors = np.round(100 * _found(scale).relative_error("fitted"), 1)
    return Evidence(
        measured=errors.max().item(),
        bound=2.0,
        unit="% of the stated matrix, worst seed",
        samples=(int((errors <= 2).sum()), len(errors)),
        note="Least squares over prompts, which finds the lowest point of the sampled loss.",
    )


@claim(
    "ahn2023-inverse-covariance",
    paper="ahn2023transformers",
    where="Theorem 1, as it is often read",
    kind="dispute",
    says="What one layer learns is the inverse of the inputs' covariance.",
    chapter=PAGE,
)
def inverse_covariance(scale: Scale) -> Evidence:
    result = _found(scale)
    errors = np.round(100 * result.relative_error("fitted", "inverse"))
    return Evidence(
        measured=errors.min().item(),
        bound=10.0,
        unit="% of the inverse covariance, best seed",
        note=f"Its loss is {result.inverse_loss:.3f}; the best multiple of the identity reaches "
        f"{result.scalar_loss:.3f} and the stated matrix {result.optimal_loss:.3f}. The term "
        "tr(Lambda)/N, absent from the inverse, shrinks directions seen in few examples.",
    )


@claim(
    "ahn2023-low-loss-right-matrix",
    paper="ahn2023transformers",
    where="Theorem 1, as training runs are often read",
    kind="dispute",
    says="A layer trained to within a few percent of the lowest loss holds the stated matrix.",
    chapter=PAGE,
)
def low_loss(scale: Scale) -> Evidence:
    result = _found(scale)
    errors = np.round(100 * result.relative_error("trained"), -1)
    excess = 100 * (result.trained_loss / result.optimal_loss - 1)
    return Evidence(
        measured=errors.min().item(),
        bound=10.0,
        unit="% of the stated matrix, best seed",
        note=f"Trained with Adam on prompts to within {math.ceil(excess.max())} % of the lowest "
        "loss. Directions of low variance carry next to no loss, and hold most of the matrix.",
    )


@claim(
    "zhang2024-limit-of-training",
    paper="zhang2024trained",
    where="main theorem on gradient flow",
    kind="experiment",
    says="Gradient flow from a small balanced start ends at the best matrix, whatever the start.",
    chapter=PAGE,
)
def limit_of_training(scale: Scale) -> Evidence:
    result = _found(scale)
    errors = result.flow_error[:, -1]
    corner = 100 * np.abs(result.flow_corner / result.stated_corner - 1).max()
    return Evidence(
        measured=float(f"{errors.max():.1g}"),
        bound=1e-5,
        unit="relative distance to the stated matrix, worst start",
        samples=(int((errors <= 1e-5).sum()), len(errors)),
        note="Small steps on the exact expected loss. The share of the two blocks in the product "
        f"is the stated one to {corner:.1g} %, which the size of the steps explains.",
    )


@claim(
    "zhang2024-covariate-shift",
    paper="zhang2024trained",
    where="section on covariate shift",
    kind="identity",
    says="Inputs c times as large make the layer's slope c squared times that of training.",
    chapter=PAGE,
)
def covariate_shift(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(31)
    for sigma, n in _covariances(40):
        layer = preconditioned_attention(optimal_preconditioner(sigma, n)[None], n)
        c = 0.2 + 3 * torch.rand((), generator=generator, dtype=torch.float64).item()
        batch = LinearRegression(d=len(sigma)).sample(
            3, n, generator=generator, dtype=torch.float64
        )
        shifted = layer(c * batch.xs, c * batch.ys, c * batch.x_query) / c  # per unit of target
        worst = max(worst, _relative_error(shifted, c**2 * layer(*batch.context)))
    measured = _found(scale).slope_ratio[:, -1]
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE,
        note=f"On prompts drawn afresh at c = {_found(scale).shifts[-1]:g} the ratio of slopes is "
        f"{measured.mean():.2f} on average over seeds.",
    )


@claim(
    "zhang2024-fails-under-covariate-shift",
    paper="zhang2024trained",
    where="section on covariate shift",
    kind="experiment",
    says="Under covariate shift the trained layer fails where least squares does not.",
    chapter=PAGE,
)
def fails_under_shift(scale: Scale) -> Evidence:
    result = _found(scale)
    ratio = result.shift_loss[-1] / result.shift_zero_loss[-1]
    return Evidence(
        measured=round(float(ratio), 1),
        bound=1.0,
        comparison="at least",
        unit=f"loss over that of predicting 0, inputs times {result.shifts[-1]:g}",
        note=f"Exact losses. At the inputs of training it is "
        f"{result.shift_loss[list(result.shifts).index(1.0)] / result.zero_loss:.2f}; that of "
        f"least squares stays at {result.least_squares_loss[0]:.3f} for every factor.",
    )


@claim(
    "zhang2024-query-shift",
    paper="zhang2024trained",
    where="section on query shift",
    kind="identity",
    says="A query of another size is no harm: the prediction grows as the target does.",
    chapter=PAGE,
)
def query_shift(scale: Scale) -> Evidence:
    worst = 0.0
    for sigma, n in _covariances(20):
        layer = preconditioned_attention(optimal_preconditioner(sigma, n)[None], n)
        batch = LinearRegression(d=len(sigma)).sample(
            3, n, generator=seeded(n), dtype=torch.float64
        )
        far = layer(batch.xs, batch.ys, 10 * batch.x_query)
        worst = max(worst, _relative_error(far, 10 * layer(*batch.context)))
    return Evidence(measured=worst, bound=1e-12, unit=RELATIVE)


@claim(
    "zhang2024-orthogonal-query",
    paper="zhang2024trained",
    where="section on query shift",
    kind="identity",
    says="For inputs without preferred directions, a query across the whole context gets 0.",
    chapter=PAGE,
)
def orthogonal_query(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(12)
    for d in range(2, 9):
        layer = preconditioned_attention(
            optimal_preconditioner(torch.eye(d, dtype=torch.float64), 6)[None], 6
        )
        turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
        batch = LinearRegression(d=d).sample(3, 6, generator=generator, dtype=torch.float64)
        flat = batch.xs - (batch.xs @ turn[:, :1]) @ turn[:, :1].T
        query = turn[:, 0].expand(3, 1, d).contiguous()
        worst = max(worst, layer(flat, batch.ys, query).abs().max().item())
    return Evidence(measured=worst, bound=1e-12, unit="prediction, float64")


@claim(
    "zhang2024-length-floor",
    paper="zhang2024trained",
    where="bound on the prediction error, 1/M + 1/N^2",
    kind="experiment",
    says="The error on ever longer prompts stops at a floor, of order 1/N^2 in the length of "
    "training.",
    chapter=PAGE,
)
def length_floor(scale: Scale) -> Evidence:
    result = _found(scale)
    sigma = torch.from_numpy(result.covariance[0])
    floors = [
        preconditioned_population_loss(optimal_preconditioner(sigma, n), sigma, math.inf).item()
        for n in (10_000, 20_000)
    ]
    order = -math.log2(floors[1] / floors[0])
    return Evidence(
        measured=round(order - 2, 2),
        bound=0.05,
        comparison="within",
        unit="order of the floor in 1/N, minus 2",
        note=f"Exact losses of the stated matrix. At N = {result.train_lengths[0]} the floor is "
        f"{result.length_floor[0]:.3f}, at N = {result.train_lengths[-1]} "
        f"{result.length_floor[-1]:.4f}; the order is reached for N well above d over the smallest "
        "share of variance.",
    )


@claim(
    "zhang2024-random-covariances",
    paper="zhang2024trained",
    where="section on random covariances",
    kind="experiment",
    says="Trained on covariances with exponential entries, the layer predicts a third of the truth "
    "on average, however long the prompts.",
    chapter=PAGE,
)
def random_covariances(scale: Scale) -> Evidence:
    result = _found(scale)
    factor, stated = result.random_factor[:, -1], result.random_stated[-1]
    off = np.round(100 * (factor / stated - 1), 1)
    n = result.random_lengths[-1]
    return Evidence(
        measured=off[np.abs(off).argmax()].item(),
        bound=3.0,
        comparison="within",
        unit=f"% off N/(3N + d + 5) at N = {n}, worst seed",
        samples=(int((np.abs(off) <= 3).sum()), len(off)),
        note=f"The share is {factor.mean():.3f} at N = {n}, stated {stated:.4f}, and 1/3 in the "
        "limit. It is an average over covariances with the query held fixed.",
    )


@claim(
    "mahankali2024-nonlinear-targets",
    paper="mahankali2024one",
    where="theorem on nonlinear targets",
    kind="experiment",
    says="For targets g(w.x) with an odd g the best layer is still one step of linear regression, "
    "of another size.",
    chapter=PAGE,
)
def nonlinear_targets(scale: Scale) -> Evidence:
    result = _found(scale)
    off = np.abs(result.link_step / result.link_stated - 1)
    worst = np.round(100 * np.maximum(off, result.link_distance).max(1), 1)
    steps = ", ".join(
        f"{link} {step:.4f}" for link, step in zip(result.links, result.link_stated, strict=True)
    )
    return Evidence(
        measured=worst.max().item(),
        bound=2.0,
        unit="% off the stated step, or off a multiple of I, worst of targets and seeds",
        samples=(int((worst <= 2).sum()), len(worst)),
        note=f"Stated steps: {steps}.",
    )
