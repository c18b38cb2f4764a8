"""What is claimed of Newton's method in attention, each claim with a check."""

import itertools
import math

import numpy as np
import torch

from icl_lessons.declare import Evidence, claim, error_size
from icl_lessons.estimators.newton import IterativeNewton, newton_schulz_inverses
from icl_lessons.gradient_descent.newton import (
    inverses_by_attention,
    layers_to_accuracy,
    newton_attention,
    polynomial_degree,
)
from icl_lessons.gradient_descent.random_contexts import integers
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression

PAGE = "gradient_descent/deeper"
FU = "fu2024transformers"


def _random_cases(count: int):
    """Contexts of random sizes, often with fewer examples than coordinates, and an ``alpha``."""
    generator = seeded(2024)

    draw = integers(generator)

    for _ in range(count):
        task = LinearRegression(d=draw(1, 8), m=draw(1, 3), noise_std=0.3, n_query=2)
        batch = task.sample(3, draw(1, 16), generator=generator, dtype=torch.float64)
        largest = torch.linalg.matrix_norm(batch.xs, 2).pow(4).max().item()
        alpha = (0.1 + 1.8 * torch.rand((), generator=generator).item()) / largest
        yield batch, draw(0, 8), alpha


@claim(
    "fu2024-closed-form",
    paper=FU,
    where="definition of Iterative Newton",
    kind="identity",
    says="After k steps M = (I - (I - alpha S^2)^(2^k)) S^-1: each step squares what is left.",
    chapter=PAGE,
)
def closed_form(scale: Scale) -> Evidence:
    worst = 0.0
    for batch, steps, alpha in _random_cases(60):
        values, vectors = torch.linalg.eigh(batch.xs.mT @ batch.xs)
        seen = values > 1e-9 * values.amax(-1, keepdim=True)
        left = (1 - alpha * values.square()) ** (2.0**steps)
        gain = torch.where(seen, (1 - left) / values, 0.0)
        expected = vectors @ torch.diag_embed(gain) @ vectors.mT
        got = newton_schulz_inverses(batch.xs.mT @ batch.xs, steps, alpha)[-1]
        worst = max(worst, relative_error(got, expected))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="60 random contexts; where there are fewer examples than coordinates, on the range "
        "of S.",
    )


@claim(
    "giannou2025-inversion-step",
    paper="giannou2025how",
    where="abstract",
    kind="identity",
    says="Two layers of linear attention take one Newton step towards the inverse of a matrix.",
    chapter=PAGE,
)
def inversion_step(scale: Scale) -> Evidence:
    worst = {1: 0.0, 2: 0.0}
    for batch, steps, alpha in _random_cases(60):
        S = batch.xs.mT @ batch.xs
        expected = newton_schulz_inverses(S, steps, alpha)
        for layers in worst:
            got = inverses_by_attention(S, alpha * S, steps, layers)
            worst[layers] = max(worst[layers], relative_error(got, expected))
    return Evidence(
        measured=max(worst.values()),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="Our matrices, with a scratch token for each row. One layer is enough as well: a "
        "symmetric S can be the key.",
    )


@claim(
    "fu2024-theorem-5-1",
    paper=FU,
    where="Theorem 5.1",
    kind="identity",
    says="Attention can run k steps of Iterative Newton on a context in k layers and a few more.",
    chapter=PAGE,
)
def whole_learner(scale: Scale) -> Evidence:
    worst = 0.0
    for batch, steps, alpha in _random_cases(60):
        d, m = batch.xs.shape[2], batch.ys.shape[2]
        expected = IterativeNewton(steps, alpha)(*batch.context)
        got = newton_attention(d, m, steps, alpha)(*batch.context)
        worst = max(worst, relative_error(got, expected))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="Another construction than the paper's: k + 3 single-head layers of linear attention, "
        "given d tokens to write on and a number alpha. The paper has k + 8 with ReLU attention.",
    )


@claim(
    "fu2024-degrees",
    paper=FU,
    where="comparison of rates with gradient descent",
    kind="identity",
    says="k Newton steps use powers of S up to 2^(k+1) - 1; k gradient steps use k - 1.",
    chapter=PAGE,
)
def degrees(scale: Scale) -> Evidence:
    identity, s = np.poly1d([1]), np.poly1d([1, 0])
    descent, inverse, off = identity, s, []
    for steps in range(4):
        off.append(abs(descent.order - polynomial_degree("gradient_descent", steps)))
        off.append(abs(inverse.order + 1 - polynomial_degree("newton", steps)))
        descent, inverse = descent * (identity - s), 2 * inverse - inverse * s * inverse
    return Evidence(
        measured=float(max(off)),
        bound=0.0,
        unit="degrees off, k = 0 to 3, from exact integer coefficients",
        note="Of the matrix that multiplies X^T Y. What is left of the error has one degree more: "
        "k, 2^(k+1), and (3^k - 1)/2 for GD++.",
    )


@claim(
    "fu2024-rates",
    paper=FU,
    where="comparison of rates with gradient descent",
    kind="identity",
    says="Newton's steps grow with the logarithm of the conditioning, gradient descent's with it.",
    chapter=PAGE,
)
def rates(scale: Scale) -> Evidence:
    off, counts = [], {}
    for kappa, tolerance in itertools.product((10.0, 100.0, 1000.0), (1e-3, 1e-9)):
        digits = math.log(tolerance)
        expected = {
            "gradient_descent": math.ceil(digits / math.log1p(-1 / kappa)),
            "newton": math.ceil(math.log2(digits / math.log1p(-(kappa**-2)))),
        }
        for method, steps in expected.items():
            off.append(abs(layers_to_accuracy(method, kappa, tolerance) - steps))
        counts[kappa] = [
            layers_to_accuracy(method, kappa, tolerance)
            for method in ("gradient_descent", "newton", "gd_plus_plus")
        ]
    return Evidence(
        measured=float(max(off)),
        bound=0.0,
        unit="steps off the closed form, conditioning 10 to 1000, to 1e-3 and 1e-9",
        note="To 1e-9 in the worst direction at a conditioning of 1000: gradient descent "
        "{}, Newton {}, GD++ {} steps.".format(*counts[1000.0]),
    )


@claim(
    "fu2024-printed-expansion",
    paper=FU,
    where="expansion of M_1",
    kind="dispute",
    says="The first iterate is M_1 = 2 alpha S - 4 alpha^2 S^3, as printed.",
    chapter=PAGE,
)
def printed_expansion(scale: Scale) -> Evidence:
    printed = derived = 0.0
    for batch, _, alpha in _random_cases(20):
        S = batch.xs.mT @ batch.xs
        got = newton_schulz_inverses(S, 1, alpha)[1]
        cube = S @ S @ S
        printed = max(printed, relative_error(got, 2 * alpha * S - 4 * alpha**2 * cube))
        derived = max(derived, relative_error(got, 2 * alpha * S - alpha**2 * cube))
    return Evidence(
        measured=printed,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note=f"With alpha^2 in place of 4 alpha^2 the error is {error_size(derived)}. No start "
        "that is a multiple of S gives both printed coefficients.",
    )
