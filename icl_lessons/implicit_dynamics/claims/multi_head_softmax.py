"""What is claimed of multi-head softmax attention: the identities behind its pattern."""

from collections.abc import Iterator

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed, words
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.implicit_dynamics.debiased_descent import (
    DebiasedDescent,
    SoftmaxHeads,
    approximate_loss,
    best_outputs,
)
from icl_lessons.implicit_dynamics.multi_head_softmax import best_step, contrasts
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.attention import context_mask, softmax_attention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import Scale, seeded
from icl_lessons.types import Batch

PAGE = "implicit_dynamics/training_dynamics"
CODE = "released code"
LAW = {"d": 5, "n_context": 40, "noise_variance": 0.1}


def heads_claim(name: str, where: str, says: str, *, kind: str = "experiment", own: bool = False):
    """Declare a claim on several heads of softmax attention; ``own`` if the paper has it not."""
    key, paper = "survey" if own else "he2025", "he2025incontext"
    return claim(f"{key}-{name}", paper=paper, where=where, kind=kind, says=says, chapter=PAGE)


def _cases(count: int) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Contexts of random sizes with targets of any kind, and heads of random factors."""
    for seed in range(count):
        g = seeded(2_503_000 + seed)
        d, m, n, heads = (
            int(torch.randint(low, high, (1,), generator=g))
            for low, high in ((1, 7), (1, 4), (2, 30), (1, 6))
        )
        shapes = ((4, n, d), (4, n, m), (4, 2, d), (4, 2, m), (heads,), (heads,))
        *batch, omega, mu = (torch.randn(s, generator=g, dtype=torch.float64) for s in shapes)
        yield Batch(*batch), omega, mu


@heads_claim(
    "pattern-is-attention",
    "the trained pattern",
    "The pattern, omega_h on the scores and mu_h on the targets, is a layer of softmax attention.",
    kind="identity",
)
def pattern_is_attention(scale: Scale) -> Evidence:
    worst = 0.0
    for batch, omega, mu in _cases(30):
        learner = SoftmaxHeads(omega, mu)
        (_, n, d), m = batch.xs.shape, batch.ys.shape[2]
        tokens = joint_tokens(*batch.context)
        mask = context_mask(n, batch.x_query.shape[1])
        layer = softmax_attention(tokens, *learner.attention_matrices(d, m), mask, scale=1.0)
        worst = max(worst, relative_error(layer[:, n:, d:], learner(*batch.context)))
    return Evidence(
        measured=worst, bound=1e-12, unit=RELATIVE_ERROR, note="30 random sizes and heads."
    )


@heads_claim(
    "small-scores",
    "the debiased step; the limit carried out",
    "At small scores two opposite heads are a gradient step with the mean of the inputs taken out.",
    kind="identity",
)
def small_scores(scale: Scale) -> Evidence:
    worst = 0.0
    for batch, _, _ in _cases(20):
        omega = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        average = SoftmaxHeads(omega, torch.ones_like(omega))(*batch.context)
        step = DebiasedDescent(1.0)(*batch.context)
        # mu (f(omega) - f(-omega)) at 2 mu omega = 1 tends to the slope of f.
        for answer, expected in zip(average.flatten(), step.flatten(), strict=True):
            (slope,) = torch.autograd.grad(answer, omega, retain_graph=True)
            worst = max(worst, relative_error(slope, expected[None]))
    return Evidence(
        measured=float(worst),
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="The derivative of one head by the size of its scores at 0, by automatic "
        "differentiation; 20 random sizes.",
    )


@heads_claim(
    "error-of-small-scores",
    "the debiased step; the next order carried out",
    "What separates two opposite heads from that step falls as the square of the scores.",
)
def error_of_small_scores(scale: Scale) -> Evidence:
    g = seeded(2_503_500)
    shapes = ((60, 40, 5), (60, 40, 1), (60, 1, 5))
    context = [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]
    step = DebiasedDescent(1.0)(*context)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    gaps = []
    for omega in (0.05, 0.01):
        heads = SoftmaxHeads(omega * signs, signs / (2 * omega))
        gaps.append(((heads(*context) - step).norm() / step.norm()).item())
    ratio = gaps[0] / gaps[1]
    return Evidence(
        measured=float(ratio / 25 - 1),
        bound=0.1,
        comparison="within",
        unit="gap at omega = 0.05 over gap at 0.01, divided by 25, less 1",
        note=f"The gaps are {gaps[0]:.1e} and {gaps[1]:.1e} of the step, with 2 mu omega = 1.",
    )


@heads_claim(
    "shift-invariance",
    "the debiased step",
    "Heads whose outputs sum to 0 do not see a constant added to every target; a plain step does.",
    kind="identity",
)
def shift_invariance(scale: Scale) -> Evidence:
    worst, seen = 0.0, []
    for batch, omega, mu in _cases(30):
        learner = SoftmaxHeads(omega, mu - mu.mean())
        moved = (batch.xs, batch.ys + 3.0, batch.x_query)
        worst = max(worst, relative_error(learner(*moved), learner(*batch.context)))
        step = GradientDescent(1.0)
        seen.append(relative_error(step(*moved), step(*batch.context)))
    return Evidence(
        measured=float(worst),
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note=f"30 random sizes, the constant 3; a plain step moves by {min(seen):.2f} or more of "
        "its size.",
    )


@heads_claim(
    "best-outputs",
    CODE + ", mu*(omega)",
    "For given scores the approximate loss is lowest at mu*(omega), where its gradient is 0.",
    kind="identity",
)
def outputs_are_best(scale: Scale) -> Evidence:
    worst = 0.0
    for seed in range(30):
        g = seeded(2_503_900 + seed)
        omega = torch.linspace(-0.6, 0.6, 2 + seed % 2, dtype=torch.float64)
        omega = omega + 0.05 * torch.randn(omega.shape, generator=g, dtype=torch.float64)
        best = best_outputs(omega, **LAW).requires_grad_(True)
        (gradient,) = torch.autograd.grad(approximate_loss(best, omega, **LAW), best)
        worst = max(worst, (gradient.abs().max() / omega.abs().max()).item())
    return Evidence(
        measured=float(worst),
        bound=1e-10,
        unit="largest entry of the gradient over that of omega, float64",
        note="30 random pairs and triples of heads.",
    )


@heads_claim(
    "entry-by-entry",
    CODE + ", mu*(omega)",
    "The exponential in mu*(omega) is taken entry by entry: with that of a matrix the loss is "
    "another.",
)
def entry_by_entry(scale: Scale) -> Evidence:
    omega = torch.tensor([0.33, -0.33], dtype=torch.float64)
    best = best_outputs(omega, **LAW)
    products = torch.outer(omega, omega)
    share = (1 + LAW["noise_variance"]) / LAW["n_context"]
    wrong = torch.linalg.solve(products + share * torch.linalg.matrix_exp(5 * products), omega)
    losses = [approximate_loss(mu, omega, **LAW).item() for mu in (best, wrong)]
    return Evidence(
        measured=abs(wrong[0] / best[0] - 1).item(),
        bound=0.02,
        comparison="at least",
        unit="difference of mu with the matrix exponential from mu*, over mu*, at omega = +-0.33",
        note=f"{wrong[0]:.3f} in place of {best[0]:.3f}; approximate loss {losses[1]:.4f} in place "
        f"of {losses[0]:.4f}.",
    )


@heads_claim(
    "debiasing-costs-one-example",
    "the debiased step; its cost worked out here",
    "A debiased step on N examples is a plain step on N - 1: debiasing costs one example.",
    kind="identity",
    own=True,
)
def one_example(scale: Scale) -> Evidence:
    worst = 0.0
    for batch, _, _ in _cases(30):
        xs, ys, x_query = batch.context
        n = xs.shape[1]
        fewer = GradientDescent((n - 1) / n)(contrasts(xs), contrasts(ys), x_query)
        worst = max(worst, relative_error(fewer, DebiasedDescent(1.0)(*batch.context)))
    losses = [best_step(**LAW, debiased=debiased).loss for debiased in (False, True)]
    return Evidence(
        measured=float(worst),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="30 random sizes: the N - 1 contrasts (Helmert) of normal examples are normal "
        f"examples of the same law. At d = 5, N = 40 the best losses are {losses[0]:.4f} plain, "
        f"{losses[1]:.4f} debiased.",
    )


@heads_claim(
    "one-sign-is-a-minimum",
    CODE + ", the approximate loss; its curvature worked out here",
    "Two heads of one sign end at a minimum of the loss and not at a saddle: no gradient "
    "leads out.",
    own=True,
)
def one_sign_is_a_minimum(scale: Scale) -> Evidence:
    def loss(point: Tensor) -> Tensor:
        omega, mu = point.chunk(2)
        return approximate_loss(mu, omega, **LAW)

    point = torch.tensor([0.5, 0.5, 0.7, 0.7], dtype=torch.float64)
    for _ in range(300):
        (gradient,) = torch.autograd.grad(loss(point.requires_grad_()), point)
        point = (point - 0.25 * gradient).detach()
    slope = gradient.abs().max().item()
    curvature = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, point))
    one = point[:1], 2 * point[2:3]
    return Evidence(
        measured=curvature[0].item(),
        bound=-1e-6,
        comparison="at least",
        unit="smallest eigenvalue of the Hessian in omega and mu, where the gradient is 0",
        samples=passed([slope < 1e-9]),
        note=f"Eigenvalues {words(curvature.numpy())}; the 0 moves output from one head to its "
        f"twin. Loss {loss(point):.3f}, that of the best one head "
        f"({approximate_loss(one[1], one[0], **LAW):.3f}).",
    )
