"""The layer that trusts a cue: its closed form against prompts that were drawn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.mesa_optimization.experiments import goal_misgeneralization as experiments
from icl_lessons.mesa_optimization.goal_misgeneralization import (
    MergedLinearAttention,
    cue_share,
    fitted_layer,
    label_use,
    moments,
    population_layer,
    population_loss,
    population_weights,
    squared_error,
)
from icl_lessons.runtime import seeded
from icl_lessons.tasks.spurious_feature import MODES, SpuriousFeature
from icl_lessons.types import Batch


@pytest.mark.parametrize("mode", MODES)
def test_moments_are_those_of_prompts(mode):
    task = SpuriousFeature(d=3, mode=mode, noise_std=0.7, cue_scale=0.6, cue_noise=0.4, share=0.3)
    n = 5
    batch = task.sample(150_000, n, generator=seeded(2), dtype=torch.float64)
    beta = (batch.ys.mT @ batch.xs)[:, 0] / n
    parts = beta * batch.x_query[:, 0]
    features = torch.stack([parts[:, :3].sum(1), parts[:, 3]], 1)
    y = batch.y_query[:, 0, 0]
    exact = moments(task, n)
    for got, terms in (
        (exact.second, features[:, :, None] * features[:, None, :]),
        (exact.cross, y[:, None] * features),
        (torch.tensor(exact.target), y.square()),
    ):
        spread = terms.std(0) / len(y) ** 0.5
        assert ((terms.mean(0) - got).abs() <= 5 * spread + 1e-12).all()


def test_fitted_layers_tend_to_the_closed_form():
    task = SpuriousFeature(d=2)
    batch = task.sample(40_000, 8, generator=seeded(3), dtype=torch.float64)
    fitted, exact = fitted_layer(batch), population_layer(task, 8)
    assert (fitted.matrix - exact.matrix).abs().max() < 0.05
    fresh = task.sample(40_000, 8, generator=seeded(4), dtype=torch.float64)
    loss = population_loss(population_weights(task, 8), task, 8)
    assert squared_error(exact, fresh) == pytest.approx(loss, rel=0.05)
    assert squared_error(fitted, batch) <= squared_error(exact, batch)


@given(
    st.integers(1, 6),
    st.integers(1, 20),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["corr", "anti", "dec", "mixed"]),
)
@settings(max_examples=15, deadline=None)
def test_no_other_weights_do_better_over_all_prompts(d, n, noise, stray, mode):
    task = SpuriousFeature(d=d, mode=mode, noise_std=noise, cue_noise=stray + 0.01)
    best = population_weights(task, n)
    least = population_loss(best, task, n)
    assert 0 <= least <= task.target_variance + 1e-12
    for step in torch.randn(5, 2, generator=seeded(7), dtype=torch.float64):
        assert population_loss(best + 0.3 * step, task, n) >= least - 1e-12


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_layer_is_one_step_in_its_metric(d, n, m, seed):
    rng = np.random.default_rng(seed)
    xs, ys, x_query, matrix = (
        rng.standard_normal(shape) for shape in ((2, n, d), (2, n, m), (2, 3, d), (d, d))
    )
    layer = MergedLinearAttention(torch.from_numpy(matrix))
    got = layer(*map(torch.from_numpy, (xs, ys, x_query))).numpy()
    for b in range(2):
        weights = sum(np.outer(y, x) for x, y in zip(xs[b], ys[b], strict=True)) @ matrix / n
        for q in range(3):
            assert np.allclose(got[b, q], weights @ x_query[b, q], atol=1e-12)


def test_a_fit_solves_its_normal_equations():
    batch = SpuriousFeature(d=2).sample(60, 4, generator=seeded(5), dtype=torch.float64)
    layer = fitted_layer(batch)
    matrix = layer.matrix.clone().requires_grad_()
    loss = (MergedLinearAttention(matrix)(*batch.context) - batch.y_query).square().mean()
    (gradient,) = torch.autograd.grad(loss, matrix)
    assert gradient.abs().max() < 1e-12


def test_what_rests_on_labels_and_what_does_not():
    batch = SpuriousFeature(d=3, mode="dec").sample(400, 6, generator=seeded(6))
    assert label_use(lambda xs, ys, x_query: x_query[..., -1:], batch) == 0
    full = label_use(MergedLinearAttention(torch.eye(4)), batch)
    assert full == pytest.approx(2.0, rel=0.1)  # the root of four inputs of variance 1
    assert cue_share(torch.diag(torch.tensor([1.0, -1.0, 2.0]))) == 0.5


@pytest.mark.usefixtures("as_readers_run_it")
def test_bad_input_is_named():
    batch = SpuriousFeature(d=2).sample(3, 4, generator=seeded(5))
    with pytest.raises(ValueError, match="3 queries for 9 entries"):
        fitted_layer(batch)
    two = Batch(batch.xs, batch.ys.expand(-1, -1, 2), batch.x_query, batch.y_query)
    with pytest.raises(ValueError, match="2 targets"):
        fitted_layer(two)
    with pytest.raises(ValueError, match="3 coordinates for a layer of 2"):
        MergedLinearAttention(torch.eye(2))(*batch.context)
    with pytest.raises(ValueError, match="steps"):
        experiments.CueTraining(steps=(1, 2, 3))


def test_the_experiment_tells_the_two_failures_apart():
    result = experiments.goal_misgeneralization(
        experiments.GoalMisgeneralizationConfig(n_fit=3000, n_test=500, n_labels=60)
    )
    assert np.abs(result.recovered - result.layer_matrix).max() < 1e-10
    assert (result.layer_r_squared > 1 - 1e-10).all()
    assert (result.error("layer", "corr", "anti") < 0.2).all()
    assert (result.error("model", "corr", "anti") > 2.5).all()
    assert (result.query_slope[0, :, -1] > 5 * result.query_slope[0, :, :-1].max(-1)).all()
    assert "share of the cue" in result.summary()
