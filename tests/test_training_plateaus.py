"""Linear attention's training in closed form: plateaus, fixed points, reduced equations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    fixed_point,
    gradient_flow,
    plateau_losses,
    random_heads,
    reduced_flow,
    reduced_losses,
    shrinkage,
    white_merged_strength,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.attention import linear_attention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression


def covariance_of(eigenvalues, generator):
    d = len(eigenvalues)
    turn, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    lam = turn @ torch.diag(eigenvalues) @ turn.T
    return (lam + lam.T) / 2


def spectrum(generator, d):
    return 0.1 + torch.rand(d, generator=generator, dtype=torch.float64)


laws = st.tuples(st.integers(0, 2**20), st.integers(1, 5), st.integers(1, 40))


@settings(max_examples=12, deadline=None)
@given(laws, st.sampled_from(["merged", "separate"]), st.integers(1, 3), st.integers(1, 3))
def test_the_heads_are_attention_and_their_step_is_the_gradient(law, kind, heads, rank):
    seed, d, n = law
    generator = seeded(seed)
    start = random_heads(kind, heads, d, 1.0, generator, rank)
    batch = LinearRegression(d=d).sample(3, n, generator=generator, dtype=torch.float64)
    tokens = joint_tokens(*batch.context)
    seen = linear_attention(tokens, *attention_matrices(start, n))[:, -1:, -1:]
    beta = batch.ys.mT @ batch.xs / n
    assert relative_error(seen, beta @ start.product @ batch.x_query.mT) < 1e-12

    lam = covariance_of(spectrum(generator, d), generator)
    force = lam @ lam - second_moment(lam, n) @ start.product @ lam
    leaves = {name: p.clone().requires_grad_(True) for name, p in vars(start).items()}
    free = type(start)(**leaves)
    loss = 2 * preconditioned_population_loss(free.product, lam, n)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    stepped = start.step(force, 0.1)
    for name, gradient in zip(leaves, gradients, strict=True):
        expected = getattr(start, name) - 0.1 * 0.5 * gradient
        assert relative_error(getattr(stepped, name), expected) < 1e-10


@settings(max_examples=12, deadline=None)
@given(laws, st.data())
def test_every_subset_of_directions_is_a_fixed_point(law, data):
    seed, d, n = law
    lam = covariance_of(spectrum(seeded(seed), d), seeded(seed + 1))
    which = data.draw(st.lists(st.integers(0, d - 1), unique=True))
    eigenvalues, vectors = torch.linalg.eigh(lam)
    order = eigenvalues.argsort(descending=True)
    rho = shrinkage(eigenvalues[order], n)
    values = (rho / eigenvalues[order])[which] ** (1 / 3)
    vectors = values[:, None] * vectors[:, order[which]].T
    heads = SeparateHeads(values, vectors[:, None], vectors[:, None])
    product = fixed_point(lam, n, which)
    if which:
        assert relative_error(heads.product, product) < 1e-10
        moved = heads.step(lam @ lam - second_moment(lam, n) @ product @ lam, 1.0)
        assert relative_error(moved.keys, heads.keys) < 1e-10
        assert relative_error(moved.values, heads.values) < 1e-10
    ordered = plateau_losses(eigenvalues, n)
    for m in range(d + 1):
        loss = 2 * preconditioned_population_loss(fixed_point(lam, n, m), lam, n)
        assert relative_error(loss, ordered[m]) < 1e-10
    assert relative_error(fixed_point(lam, n, d), optimal_preconditioner(lam, n)) < 1e-8


def test_one_drop_for_merged_heads_and_one_for_each_direction_for_separate_ones():
    eigenvalues = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    lam, n = covariance_of(eigenvalues, seeded(0)), 31
    plateaus = plateau_losses(eigenvalues, n)
    law = {"covariance": lam, "n_context": n}
    separate = random_heads("separate", 4, 3, 0.01, seeded(2))
    flow = gradient_flow(separate, steps=3000, step_size=1.0, keep_every=5, **law)
    dwell = [(flow.losses / level - 1).abs().lt(0.01).sum().item() for level in plateaus]
    assert min(dwell) > 15, dwell  # of 600 moments
    merged = random_heads("merged", 6, 3, 1e-3, seeded(1))
    drop = gradient_flow(merged, steps=800, step_size=0.5, **law)
    rest = (drop.losses[1:] - drop.losses[:-1]).abs() < 1e-6
    assert (drop.losses[-1] - plateaus[-1]).abs() < 1e-6
    between = (drop.losses[1:] < 0.98) & (drop.losses[1:] > 1.01 * plateaus[-1])
    assert not (rest & between).any()  # no stop on the way


def test_what_the_flow_conserves_drifts_with_the_step_size():
    lam = covariance_of(torch.tensor([0.6, 0.4], dtype=torch.float64), seeded(0))
    start = random_heads("separate", 2, 2, 0.3, seeded(2))

    def drift(size):
        end = gradient_flow(start, lam, 20, steps=round(40 / size), step_size=size).heads
        kept = [h.keys.square().sum((1, 2)) - h.values.square() for h in (start, end)]
        return (kept[1] - kept[0]).abs().max().item()

    assert drift(0.05) < 1e-2 and 1.7 < drift(0.1) / drift(0.05) < 2.3


def test_the_white_case_has_a_closed_form():
    d, n, start = 3, 12, 0.05
    eye = torch.eye(d, dtype=torch.float64)
    # Balanced and aligned: |v|^2 = |U|^2, so that w_2 w_1 starts at start^2 along vec(I).
    heads = MergedHeads(
        torch.tensor([start], dtype=torch.float64), (start * eye / math.sqrt(d))[None]
    )
    flow = gradient_flow(heads, eye, n, steps=2000, step_size=4e-3)
    strength = flow.products.diagonal(dim1=1, dim2=2).mean(1)
    expected = white_merged_strength(flow.times.double(), d, n, start)
    assert (strength - expected).abs().max() < 1e-2
    assert abs(expected[-1].item() - 1 / (1 + (1 + d) / n)) < 1e-2
    # The growing exponential itself would overflow at late times.
    late = white_merged_strength(torch.tensor([1e4], dtype=torch.float64), d, n, start)
    assert relative_error(late, late.new_tensor([1 / (1 + (1 + d) / n)])) < 1e-12


def test_one_number_for_each_direction_is_enough_once_heads_have_aligned():
    eigenvalues = torch.tensor([0.5, 0.3], dtype=torch.float64)
    n, size = 20, 0.5
    lam = torch.diag(eigenvalues)
    values = torch.tensor([0.02, 0.02], dtype=torch.float64)
    along = torch.diag(values)[:, None]
    flow = gradient_flow(
        SeparateHeads(values, along, along), lam, n, steps=2500, step_size=size, keep_every=100
    )
    reduced = reduced_flow(eigenvalues, n, 0.02, steps=2500, step_size=size)[::100]
    assert relative_error(flow.values, reduced) < 1e-9
    assert relative_error(flow.losses, reduced_losses(reduced, eigenvalues, n)) < 1e-9
    assert relative_error(reduced[-1], (shrinkage(eigenvalues, n) / eigenvalues) ** (1 / 3)) < 1e-2


def test_principal_component_regression_is_the_plateau_s_learner():
    lam = covariance_of(torch.tensor([2.0, 1.0, 0.2], dtype=torch.float64), seeded(0))
    batch = LinearRegression(d=3).sample(4, 9, generator=seeded(1), dtype=torch.float64)
    for m in range(4):
        learner = PrincipalComponentRegression(lam, m)
        beta = (batch.ys * batch.xs).mean(1, keepdim=True)
        expected = beta @ fixed_point(lam, 9, m) @ batch.x_query.mT
        assert relative_error(learner(*batch.context), expected) < 1e-12
        if m == 0:
            assert (learner(*batch.context) == 0).all()


def test_mistakes_are_refused():
    eye = torch.eye(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="eigenvalues: use positive"):
        plateau_losses(torch.tensor([1.0, 0.0]), 3)
    with pytest.raises(ValueError, match="components: got"):
        fixed_point(eye, 3, [2])
    with pytest.raises(ValueError, match="parametrisation: got 'both'"):
        random_heads("both", 1, 2, 0.1, seeded(0))
    with pytest.raises(ValueError, match="heads: "):
        random_heads("merged", 0, 2, 0.1, seeded(0))
    with pytest.raises(ValueError, match="n_context: "):
        white_merged_strength(torch.ones(1), 2, 0, 0.1)
    with pytest.raises(ValueError, match="start: use positive"):
        reduced_flow(torch.ones(2), 3, 0.0, steps=1, step_size=0.1)
