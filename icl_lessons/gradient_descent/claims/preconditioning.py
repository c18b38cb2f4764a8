"""What is claimed of the preconditioner of one layer, each claim with a check."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed, result_of
from icl_lessons.estimators.preconditioned import (
    GradientDescentPlusPlus,
    PreconditionedGradientDescent,
    preconditioned_descent_path,
)
from icl_lessons.estimators.preconditioned_law import preconditioned_population_loss
from icl_lessons.gradient_descent.preconditioning import (
    effective_preconditioners,
    preconditioned_attention,
)
from icl_lessons.gradient_descent.random_contexts import random_contexts, random_covariances
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.runtime import Scale, seeded
from icl_lessons.types import Batch

PAGE = "gradient_descent/deeper"


def _cases(count: int) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Contexts of random sizes with random matrices of no symmetry."""
    for case in random_contexts(count, seed=2024, d=7, m=3, n=25, steps=6):
        a, b = 0.4 * case.normal(2, case.steps, case.d, case.d)
        yield case.batch, a, b


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
    for batch, a, _ in _cases(60):
        got = preconditioned_attention(a, batch.xs.shape[1], m=batch.ys.shape[2])(*batch.context)
        steps = PreconditionedGradientDescent(1.0, a)(*batch.context)
        other = PreconditionedGradientDescent(1.0, a.mT.contiguous())(*batch.context)
        worst = max(worst, relative_error(got, steps))
        transposed = max(transposed, relative_error(got, other))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
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
    for batch, a, b in _cases(60):
        n, m = batch.xs.shape[1], batch.ys.shape[2]
        got = preconditioned_attention(a, n, b, m)(*batch.context)
        effective = effective_preconditioners(batch.xs, a, b)
        path = preconditioned_descent_path(batch.xs, batch.ys, 1.0, effective)
        worst = max(worst, relative_error(got, batch.x_query @ path[-1].mT))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
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
    for batch, a, b in _cases(30):
        n, m = batch.xs.shape[1], batch.ys.shape[2]
        other = b.clone()
        other[-1] = 7 * other[-1] + 1
        worst = max(
            worst,
            relative_error(
                preconditioned_attention(a, n, other, m)(*batch.context),
                preconditioned_attention(a, n, b, m)(*batch.context),
            ),
        )
    return Evidence(measured=worst, bound=1e-12, unit=RELATIVE_ERROR)


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
    for batch, a, _ in _cases(40):
        layers, d, n = a.shape[0], a.shape[1], batch.xs.shape[1]
        sizes, maps = 0.4 * torch.rand(2, layers, generator=generator, dtype=torch.float64)
        eye = torch.eye(d, dtype=torch.float64)
        got = preconditioned_attention(
            sizes[:, None, None] * eye, n, maps[:, None, None] * eye, batch.ys.shape[2]
        )(*batch.context)
        textbook = GradientDescentPlusPlus(sizes.tolist(), (sizes * maps / n).tolist())
        worst = max(worst, relative_error(got, textbook(*batch.context)))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
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
    for sigma, n in random_covariances(40, seed=2025):
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
    errors = np.round(100 * result_of("preconditioned_layer", scale).relative_error("fitted"), 1)
    return Evidence(
        measured=errors.max().item(),
        bound=2.0,
        unit="% of the stated matrix, worst seed",
        samples=passed(errors <= 2),
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
    result = result_of("preconditioned_layer", scale)
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
    result = result_of("preconditioned_layer", scale)
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
    result = result_of("preconditioned_layer", scale)
    errors = result.flow_error[:, -1]
    corner = 100 * np.abs(result.flow_corner / result.stated_corner - 1).max()
    return Evidence(
        measured=float(f"{errors.max():.1g}"),
        bound=1e-5,
        unit="relative distance to the stated matrix, worst start",
        samples=passed(errors <= 1e-5),
        note="Small steps on the exact expected loss. The share of the two blocks in the product "
        f"is the stated one to {corner:.1g} %, which the size of the steps explains.",
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
    result = result_of("preconditioned_layer", scale)
    off = np.abs(result.link_step / result.link_stated - 1)
    worst = np.round(100 * np.maximum(off, result.link_distance).max(1), 1)
    steps = ", ".join(
        f"{link} {step:.4f}" for link, step in zip(result.links, result.link_stated, strict=True)
    )
    return Evidence(
        measured=worst.max().item(),
        bound=2.0,
        unit="% off the stated step, or off a multiple of I, worst of targets and seeds",
        samples=passed(worst <= 2),
        note=f"Stated steps: {steps}.",
    )
