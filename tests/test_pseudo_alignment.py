"""Kinds of misalignment: closed forms against prompts that were drawn, and what was measured."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.mesa_optimization.experiments import pseudo_alignment as experiments
from icl_lessons.mesa_optimization.goal_misgeneralization import MergedLinearAttention
from icl_lessons.mesa_optimization.pseudo_alignment import (
    best_of_rank,
    best_step_size,
    decaying_covariance,
    descent_errors,
    descent_in_closed_form,
    error_by_direction,
    labelled_by_cue,
    metric_loss,
)
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.tasks.spurious_feature import SpuriousFeature
from icl_lessons.types import Batch


def covariance_of(d, seed):
    root = torch.randn(d, d, generator=seeded(seed), dtype=torch.float64)
    return root @ root.T / d + 0.2 * torch.eye(d, dtype=torch.float64)


def test_losses_are_those_of_prompts():
    sigma, n = covariance_of(3, 1), 5
    rows = tuple(map(tuple, sigma.tolist()))
    batch = LinearRegression(d=3, covariance=rows).sample(
        100_000, n, generator=seeded(2), dtype=torch.float64
    )
    matrix = torch.randn(3, 3, generator=seeded(3), dtype=torch.float64)
    error = (MergedLinearAttention(matrix)(*batch.context) - batch.y_query).square().flatten()
    spread = error.std() / len(error) ** 0.5
    assert abs(error.mean() - metric_loss(matrix, sigma, n)) < 5 * spread
    beta = (batch.ys.mT @ batch.xs)[:, 0] / n
    wrong = (batch.weights[:, 0] - beta @ matrix).square()
    gap = wrong.mean(0) - error_by_direction(matrix, sigma, n)
    assert (gap.abs() < 5 * wrong.std(0) / len(wrong) ** 0.5).all()


@given(st.integers(1, 6), st.integers(1, 15), st.integers(0, 10**6), st.data())
@settings(max_examples=15, deadline=None)
def test_no_metric_of_the_rank_does_better(d, n, seed, data):
    rank = data.draw(st.integers(0, d))
    sigma = covariance_of(d, seed)
    matrix, loss = best_of_rank(sigma, n, rank)
    assert metric_loss(matrix, sigma, n).item() == pytest.approx(loss, abs=1e-10)
    assert torch.linalg.matrix_rank(matrix, rtol=1e-9) <= rank
    generator = seeded(seed + 1)
    for step in (1e-3, 0.1, 1.0):
        left = torch.randn(d, rank, generator=generator, dtype=torch.float64)
        right = torch.randn(rank, d, generator=generator, dtype=torch.float64)
        assert metric_loss(step * left @ right, sigma, n) >= loss - 1e-10
        # Turn the best metric's rows: the rank stays.
        turn = torch.eye(d, dtype=torch.float64) + step * torch.randn(
            d, d, generator=generator, dtype=torch.float64
        )
        assert metric_loss(turn @ matrix, sigma, n) >= loss - 1e-10


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 40), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_descent_by_spectrum_is_descent(d, n, steps, m):
    batch = LinearRegression(d=d, m=m).sample(3, n, generator=seeded(7), dtype=torch.float64)
    size = 1 / torch.linalg.eigvalsh(batch.xs.mT @ batch.xs / n).max().item()
    weights = descent_in_closed_form(batch, size, steps)
    expected = GradientDescent(size, steps)(*batch.context)
    assert torch.allclose(batch.x_query @ weights.mT, expected, atol=1e-10)


def test_errors_and_the_choice_of_a_step():
    task = SpuriousFeature(d=2, mode="querydec", noise_std=0.5, cue_scale=0.1, cue_noise=0.0)
    batch = task.sample(200, 10, generator=seeded(8), dtype=torch.float64)
    query, context = descent_errors(batch, 0.4, [0, 3])
    predicted = GradientDescent(0.4, 3)(*batch.context)
    truth = (batch.x_query @ batch.weights.mT).squeeze()
    assert query[1].item() == pytest.approx((predicted.squeeze() - truth).square().mean().item())
    assert context[0].item() == pytest.approx(batch.ys.square().mean().item())
    sizes = (0.1, 0.4, 0.7)
    errors = [descent_errors(batch, size, [3])[0].item() for size in sizes]
    assert best_step_size(batch, 3, sizes) == sizes[int(np.argmin(errors))]


def test_an_instrument_that_reads_the_cue():
    batch = SpuriousFeature(d=2, mode="dec").sample(5, 4, generator=seeded(9))
    labelled = labelled_by_cue(batch)
    assert torch.equal(labelled.ys[..., 0], batch.xs[..., 2])
    assert torch.equal(labelled.y_query[..., 0], batch.x_query[..., 2])
    assert torch.equal(labelled.ys, batch.xs @ labelled.weights.mT)


@pytest.mark.usefixtures("as_readers_run_it")
def test_bad_input_is_named():
    with pytest.raises(ValueError, match="rank"):
        best_of_rank(torch.eye(2).double(), 4, 3)
    with pytest.raises(ValueError, match="covariance"):
        best_of_rank(torch.diag(torch.tensor([1.0, 0.0])).double(), 4, 1)
    x = torch.zeros(1, 2, 2)
    with pytest.raises(ValueError, match="weights"):
        descent_errors(Batch(x, x[..., :1], x, x[..., :1]), 0.1, [1])
    with pytest.raises(ValueError, match="steps: got none"):
        descent_errors(Batch(x, x[..., :1], x, x[..., :1], x[:, :1]), 0.1, [])
    with pytest.raises(ValueError, match="ranks"):
        experiments.RankTraining(ranks=(0, 3))
    with pytest.raises(ValueError, match="steps"):
        experiments.SuboptimalityConfig(trained_steps=7)
    with pytest.raises(ValueError, match="power"):
        decaying_covariance(3, -1.0)


def test_outer_and_inner_are_told_apart():
    result = experiments.outer_and_inner(experiments.OuterAndInnerConfig(n_fit=3000, n_test=1000))
    assert (result.of("outer_gap", "outer misalignment") > 1).all()
    assert np.abs(result.of("outer_gap", "inner misalignment")).max() == 0
    assert (result.of("inner_gap", "inner misalignment") > 0.5).all()
    assert np.abs(result.of("inner_gap", "outer misalignment")).max() < 0.05
    assert "aligned" in result.summary()


def test_ranks_and_steps_as_measured():
    ranks = experiments.approximate_alignment(experiments.ApproximateAlignmentConfig())
    assert np.allclose(ranks.loss, ranks.best[ranks.ranks][:, None], rtol=1e-6)
    assert (np.diff(ranks.best) < 0).all()
    steps = experiments.suboptimality_alignment(
        experiments.SuboptimalityConfig(n_fit=100, n_test=200)
    )
    assert (steps.error[:, -1] > 10 * steps.at("error", 8)).all()
    assert (np.diff(steps.context_loss) < 0).all()
    assert "8 steps" in steps.summary() and "rank 8" in ranks.summary()
