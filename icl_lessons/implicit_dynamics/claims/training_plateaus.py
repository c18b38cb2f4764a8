"""What is claimed of linear attention's plateaus, each claim with a check."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed, words
from icl_lessons.estimators.preconditioned_law import (
    optimal_preconditioner,
    preconditioned_population_loss,
    second_moment,
)
from icl_lessons.implicit_dynamics.training_plateaus import (
    MergedHeads,
    PrincipalComponentRegression,
    SeparateHeads,
    attention_matrices,
    escape_step,
    fixed_point,
    gradient_flow,
    in_random_basis,
    plateau_losses,
    random_heads,
    shrinkage,
    white_merged_strength,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.attention import linear_attention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Batch

PAGE = "implicit_dynamics/training_dynamics"
PAPER = "zhang2025training"


class Case(NamedTuple):
    """A law of random size in float64, and a generator for more."""

    eigenvalues: Tensor
    covariance: Tensor
    n: int
    generator: torch.Generator

    @property
    def d(self) -> int:
        """Coordinates of an input."""
        return len(self.eigenvalues)

    def force(self, product: Tensor) -> Tensor:
        """``-1/2 dL/dM`` of the expected loss."""
        return (
            self.covariance @ self.covariance
            - second_moment(self.covariance, self.n) @ product @ self.covariance
        )

    def heads(self, kind: str) -> MergedHeads | SeparateHeads:
        """Heads of random number and rank, all entries of order 1."""
        count, rank = (int(torch.randint(1, 4, (), generator=self.generator)) for _ in range(2))
        return random_heads(kind, count, self.d, 1.0, self.generator, rank)

    def batch(self) -> Batch:
        """Three contexts of the law."""
        rows = tuple(map(tuple, self.covariance.tolist()))
        task = LinearRegression(d=self.d, input_law="normal", covariance=rows)
        return task.sample(3, self.n, generator=self.generator, dtype=torch.float64)


def _id(name: str, where: str) -> str:
    """The paper's key for what it says; that of the notes for what is only about it."""
    return f"{'survey-plateaus' if where.startswith('not in the paper') else 'zhangy2025'}-{name}"


def _cases(count: int = 20) -> Iterator[Case]:
    generator = seeded(2_501_162)
    for _ in range(count):
        d, n = (int(torch.randint(1, k, (), generator=generator)) for k in (6, 40))
        eigenvalues = 0.2 + torch.rand(d, generator=generator, dtype=torch.float64)
        eigenvalues = eigenvalues.sort(descending=True).values
        yield Case(eigenvalues, in_random_basis(eigenvalues, generator), n, generator)


def _identity(name: str, where: str, says: str):
    def register(check: Callable[[Case], float]) -> Callable[[Scale], Evidence]:
        def run(scale: Scale) -> Evidence:
            worst = max(map(check, _cases()))
            note = "20 laws of random size, in random bases."
            return Evidence(measured=worst, bound=1e-12, unit=RELATIVE_ERROR, note=note)

        return claim(
            _id(name, where), paper=PAPER, where=where, kind="identity", says=says, chapter=PAGE
        )(run)

    return register


def measured_claim(name: str, where: str, says: str):
    """Declare a claim that is measured, on samples or on runs of training."""
    return claim(
        _id(name, where), paper=PAPER, where=where, kind="experiment", says=says, chapter=PAGE
    )


# --- identities ---------------------------------------------------------------------------------


@_identity(
    "cubic-features",
    "merged and separate heads as networks",
    "Linear attention is a fully connected network on features that are cubic in the prompt: two "
    "layers with merged heads, three with separate ones, with the same gradients.",
)
def cubic_features(case: Case) -> float:
    batch, worst = case.batch(), 0.0
    z = torch.einsum("bnm,bni,bqj->bij", batch.ys, batch.xs, batch.x_query) / case.n
    for kind in ("merged", "separate"):
        start = case.heads(kind)
        names, leaves = zip(*((k, v.requires_grad_()) for k, v in vars(start).items()), strict=True)
        with torch.enable_grad():
            heads = type(start)(**dict(zip(names, leaves, strict=True)))
            tokens = joint_tokens(*batch.context)
            seen = linear_attention(tokens, *attention_matrices(heads, case.n))[:, -1, -1]
            if isinstance(heads, MergedHeads):
                hidden = torch.einsum("hij,bij->bh", heads.key_query, z)
            else:
                first = torch.einsum("hrj,bij->bhri", heads.queries, z)
                hidden = (heads.keys * first).sum((2, 3))
            network = hidden @ heads.values
            target = batch.y_query[:, 0, 0]
            of_layer, of_network = (
                torch.autograd.grad((y - target).square().mean(), leaves, retain_graph=True)
                for y in (seen, network)
            )
        pairs = [(seen, network), *zip(of_layer, of_network, strict=True)]
        worst = max(worst, *(relative_error(a.detach(), b.detach()) for a, b in pairs))
    return worst


@_identity(
    "fixed-points",
    "separate key and query of rank one",
    "Every subset of the principal directions is a fixed point of separate heads' training, one "
    "head for each direction.",
)
def fixed_points(case: Case) -> float:
    vectors = torch.linalg.eigh(case.covariance).eigenvectors.flip(1).T
    rho = shrinkage(case.eigenvalues, case.n)
    values = (rho / case.eigenvalues) ** (1 / 3)
    worst = 0.0
    for subset in range(2**case.d):
        which = [i for i in range(case.d) if subset >> i & 1]
        aligned = (values[which, None] * vectors[which])[:, None]
        heads = SeparateHeads(values[which], aligned, aligned)
        product = fixed_point(case.covariance, case.n, which)
        moved = heads.step(case.force(product), 1.0)
        worst = max(worst, relative_error(heads.product, product))
        if which:
            for before, after in zip(vars(heads).values(), vars(moved).values(), strict=True):
                worst = max(worst, relative_error(after, before))
    return worst


@_identity(
    "minimum",
    "merged key and query",
    "Both parametrisations have one minimum: M = (Lambda + (Lambda + tr(Lambda) I) / N)^{-1}.",
)
def minimum(case: Case) -> float:
    eye = torch.eye(case.d, dtype=torch.float64)
    smoothed = case.covariance + (case.covariance + case.eigenvalues.sum() * eye) / case.n
    lowest = torch.linalg.inv(smoothed)
    everything = fixed_point(case.covariance, case.n, case.d)
    return max(
        relative_error(everything, lowest),
        relative_error(optimal_preconditioner(case.covariance, case.n), lowest),
        case.force(lowest).abs().max().item(),
    )


@_identity(
    "plateau-formula",
    "separate key and query of rank one",
    "With the m largest components learned the loss is tr Lambda - sum of lambda_d rho_d.",
)
def plateau_formula(case: Case) -> float:
    levels = plateau_losses(case.eigenvalues, case.n)
    losses = [
        2 * preconditioned_population_loss(fixed_point(case.covariance, case.n, m), *case[1:3])
        for m in range(case.d + 1)
    ]
    return relative_error(torch.stack(losses), levels)


@_identity(
    "reduced-equation",
    "separate key and query of rank one",
    "A head aligned with a principal direction obeys one equation, "
    "dv/dt = lambda^2 v^2 - lambda^3 v^5 / rho, whatever the other aligned heads do.",
)
def reduced_equation(case: Case) -> float:
    vectors = torch.linalg.eigh(case.covariance).eigenvectors.flip(1).T
    values = 0.1 + torch.rand(case.d, generator=case.generator, dtype=torch.float64)
    aligned = (values[:, None] * vectors)[:, None]
    heads = SeparateHeads(values, aligned, aligned)
    moved = heads.step(case.force(heads.product), 1.0)
    change = escape_step(values, case.eigenvalues, shrinkage(case.eigenvalues, case.n))
    return max(
        relative_error(moved.values - values, change),
        relative_error((moved.keys - heads.keys)[:, 0], change[:, None] * vectors),
        relative_error((moved.queries - heads.queries)[:, 0], change[:, None] * vectors),
    )


@_identity(
    "conserved",
    "separate key and query of rank one",
    "Gradient flow leaves |k|^2 - v^2 and |q|^2 - v^2 of every head as they started.",
)
def conserved(case: Case) -> float:
    heads = case.heads("separate")
    moved = heads.step(case.force(heads.product), 1.0)
    of_value = heads.values * (moved.values - heads.values)
    return max(
        relative_error((side * (after - side)).sum((1, 2)), of_value)
        for side, after in ((heads.keys, moved.keys), (heads.queries, moved.queries))
    )


@_identity(
    "white-closed-form",
    "merged key and query, white covariance",
    "For inputs N(0, I) merged heads' whole training has a closed form, sigma(t).",
)
def white_closed_form(case: Case) -> float:
    d, start = case.d, 0.3
    times = torch.linspace(0, 8, 50, dtype=torch.float64).requires_grad_()
    with torch.enable_grad():
        sigma = white_merged_strength(times, d, case.n, start)
        (rate,) = torch.autograd.grad(sigma.sum(), times)
    eye = torch.eye(d, dtype=torch.float64)
    worst = relative_error(sigma[0].detach(), torch.tensor(start**2 / d**0.5, dtype=torch.float64))
    for strength, speed in zip(sigma.detach()[::7], rate[::7], strict=True):
        size = (strength * d**0.5).sqrt()  # balanced: v = |U|_F
        heads = MergedHeads(size[None], (size * eye / d**0.5)[None])
        moved = heads.step(eye - second_moment(eye, case.n) @ heads.product, 1.0)
        change = (moved.values - heads.values) * heads.key_query[0]
        change = change + heads.values * (moved.key_query - heads.key_query)[0]
        worst = max(worst, relative_error(change, speed * eye))
    return worst


@_identity(
    "regression",
    "separate key and query, what the layer computes",
    "At a fixed point attention is principal component regression with the population's "
    "components.",
)
def regression(case: Case) -> float:
    batch, worst = case.batch(), 0.0
    vectors = torch.linalg.eigh(case.covariance).eigenvectors.flip(1)
    rho = shrinkage(case.eigenvalues, case.n)
    for m in range(1, case.d + 1):
        values = (rho / case.eigenvalues)[:m] ** (1 / 3)
        aligned = (values[:, None] * vectors[:, :m].T)[:, None]
        layer = attention_matrices(SeparateHeads(values, aligned, aligned), case.n)
        seen = linear_attention(joint_tokens(*batch.context), *layer)[:, -1:, -1:]
        learner = PrincipalComponentRegression(case.covariance, m)
        worst = max(worst, relative_error(seen, learner(*batch.context)))
    return worst


# --- without a result ---------------------------------------------------------------------------


@measured_claim(
    "expected-loss",
    "not in the paper; the expected loss of its setting",
    "The expected loss of a layer is a quadratic function of M alone, with E S^2 in it.",
)
def expected_loss(scale: Scale) -> Evidence:
    eigenvalues = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    generator = seeded(2_501_163)
    covariance = in_random_basis(eigenvalues, generator)
    case = Case(eigenvalues, covariance, 7, generator)
    product = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    rows = tuple(map(tuple, covariance.tolist()))
    batch = LinearRegression(d=3, input_law="normal", covariance=rows).sample(
        200_000, case.n, generator=generator, dtype=torch.float64
    )
    seen = batch.x_query @ product.T @ (batch.xs.mT @ batch.ys / case.n)
    sampled = (seen - batch.y_query).square().mean()
    exact = 2 * preconditioned_population_loss(product, covariance, case.n)
    return Evidence(
        measured=(sampled / exact - 1).item(),
        bound=0.02,
        comparison="within",
        unit="relative difference of the losses",
        note=f"{sampled:.4f} on 200 000 contexts, {exact:.4f} in closed form.",
    )


@measured_claim(
    "conserved-drift",
    "not in the paper; its conserved quantities at finite steps",
    "What the flow conserves drifts in proportion to the step size once steps are finite.",
)
def conserved_drift(scale: Scale) -> Evidence:
    covariance = in_random_basis(torch.tensor([0.6, 0.4], dtype=torch.float64), seeded(0))

    def drift(start: SeparateHeads, size: float) -> float:
        end = gradient_flow(start, covariance, 20, steps=round(40 / size), step_size=size).heads
        kept = [h.keys.square().sum((1, 2)) - h.values.square() for h in (start, end)]
        return (kept[1] - kept[0]).abs().max().item()

    starts = [random_heads("separate", 2, 2, 0.3, seeded(seed)) for seed in (2, 3, 4)]
    ratios = np.array([drift(start, 0.2) / drift(start, 0.1) for start in starts])
    return Evidence(
        measured=float(np.abs(ratios - 2).max()),
        bound=0.3,
        unit="distance of the ratio of drifts from 2 when the step is halved",
        samples=passed(np.abs(ratios - 2) <= 0.3),
        note=f"Ratios {words(ratios)}.",
    )
