"""Measures of agreement on learners whose answers are known in closed form."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import OrdinaryLeastSquares, Ridge, ZeroPredictor
from icl_lessons.estimators.neighbours import NearestNeighbours
from icl_lessons.gradient_descent.one_step import gradient_descent_attention
from icl_lessons.measures.agreement import (
    agreement,
    implicit_linear_weight_difference,
    implicit_linear_weights,
    mean_squared_error,
    model_difference,
    prediction_difference,
    sensitivity,
    sensitivity_cosine,
    squared_prediction_difference,
)
from icl_lessons.types import Batch

BATCH, N, D, M, N_QUERY, N_PROBE = 3, 7, 4, 2, 5, 9


def draw(seed, *shape):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=gen, dtype=torch.float64)


@pytest.fixture
def batch():
    shapes = (N, D), (N, M), (N_QUERY, D), (N_QUERY, M)
    return Batch(*(draw(seed, BATCH, *shape) for seed, shape in enumerate(shapes)))


def linear(weights):
    """The learner that ignores its context and says ``W x``."""
    return lambda xs, ys, x_query: x_query @ weights.T


def squares(xs, ys, x_query):
    """A learner that is not linear: output k is (k+1) |x|^2, whatever the context."""
    return x_query.square().sum(-1, keepdim=True) * torch.arange(1.0, M + 1).to(x_query)


FIRST, SECOND = draw(10, M, D), draw(11, M, D)


def mean_over_queries(function, batch):
    values = [function(batch.x_query[b, q], b, q) for b in range(BATCH) for q in range(N_QUERY)]
    return sum(values) / len(values)


# --- predictions --------------------------------------------------------------------------------


def test_mean_squared_error_has_the_half_and_sums_over_outputs(batch):
    def half_square(x, b, q):
        return 0.5 * float(((FIRST @ x - batch.y_query[b, q]) ** 2).sum())

    expected = mean_over_queries(half_square, batch)
    assert mean_squared_error(linear(FIRST), batch) == pytest.approx(expected, rel=1e-13)


def test_differences_of_predictions_are_norms_over_outputs(batch):
    first, second = linear(FIRST), linear(SECOND)
    expected = mean_over_queries(lambda x, b, q: math.dist(FIRST @ x, SECOND @ x), batch)
    assert prediction_difference(first, second, batch) == pytest.approx(expected, rel=1e-13)
    expected = mean_over_queries(lambda x, b, q: math.dist(FIRST @ x, SECOND @ x) ** 2, batch)
    assert squared_prediction_difference(first, second, batch) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    "measure",
    [
        prediction_difference,
        squared_prediction_difference,
        model_difference,
        sensitivity_cosine,
    ],
)
def test_measures_are_symmetric_and_know_equality(batch, measure):
    first, second = GradientDescent(0.2, 3), OrdinaryLeastSquares()
    assert measure(first, second, batch) == pytest.approx(measure(second, first, batch), rel=1e-12)
    same = measure(first, GradientDescent(0.2, 3), batch)
    assert same == pytest.approx(1.0 if measure is sensitivity_cosine else 0.0, abs=1e-12)
    assert abs(measure(first, second, batch) - same) > 1e-3


def test_opposite_errors_do_not_cancel(batch):
    """Averaging before taking the norm would give nearly 0 here."""
    offset = torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [1.0]], dtype=torch.float64)

    def shifted(xs, ys, x_query):
        return linear(FIRST)(xs, ys, x_query) + offset

    expected = math.sqrt(M)
    assert prediction_difference(shifted, linear(FIRST), batch) == pytest.approx(expected)
    assert squared_prediction_difference(shifted, linear(FIRST), batch) == pytest.approx(M)


# --- sensitivity --------------------------------------------------------------------------------


def test_the_sensitivity_of_a_linear_learner_is_its_weights(batch):
    got = sensitivity(linear(FIRST), batch)
    assert got.shape == (BATCH, N_QUERY, M, D)
    assert_close(got, FIRST.expand(BATCH, N_QUERY, M, D), rtol=0, atol=0)
    held = sensitivity(OrdinaryLeastSquares(), batch)
    for b in range(BATCH):
        weights = np.linalg.lstsq(batch.xs[b].numpy(), batch.ys[b].numpy(), rcond=None)[0].T
        for q in range(N_QUERY):
            assert_close(held[b, q], torch.from_numpy(weights), rtol=1e-10, atol=1e-11)


def test_the_sensitivity_of_a_learner_that_bends(batch):
    """d (k+1)|x|^2 / dx = 2 (k+1) x."""
    got = sensitivity(squares, batch)
    for k in range(M):
        assert_close(got[:, :, k], 2 * (k + 1) * batch.x_query)


@pytest.mark.parametrize(
    "learner",
    [
        Ridge(0.3),
        squares,
        gradient_descent_attention(D, M, N, 0.2, FIRST, steps=3),
        lambda xs, ys, x_query: torch.softmax(x_query @ xs.mT, -1) @ ys,
    ],
    ids=["ridge", "squares", "construction", "kernel"],
)
def test_sensitivities_are_central_differences(batch, learner):
    got, small = sensitivity(learner, batch), 1e-6
    for i in range(D):
        step = torch.zeros(D, dtype=torch.float64)
        step[i] = small
        with torch.no_grad():
            up = learner(batch.xs, batch.ys, batch.x_query + step)
            down = learner(batch.xs, batch.ys, batch.x_query - step)
        assert_close(got[..., i], (up - down) / (2 * small), rtol=1e-6, atol=1e-7)


def test_what_does_not_depend_on_the_query_has_no_sensitivity(batch):
    constant = torch.nn.Parameter(torch.ones(BATCH, N_QUERY, M, dtype=torch.float64))
    for learner in (ZeroPredictor(), NearestNeighbours(2), lambda xs, ys, q: constant * 2):
        got = sensitivity(learner, batch)
        assert got.shape == (BATCH, N_QUERY, M, D)
        assert got.abs().max() == 0


def test_sensitivity_needs_no_gradient_mode_and_leaves_the_batch_alone(batch):
    with torch.no_grad():
        got = sensitivity(linear(FIRST), batch)
    assert_close(got, sensitivity(linear(FIRST), batch), rtol=0, atol=0)
    assert not batch.x_query.requires_grad and not got.requires_grad


def test_the_cosine_is_taken_over_all_outputs_together(batch):
    """With M = 2 outputs the mean of two cosines is another number."""
    expected = float((FIRST * SECOND).sum() / (FIRST.norm() * SECOND.norm()))
    got = sensitivity_cosine(linear(FIRST), linear(SECOND), batch)
    assert got == pytest.approx(expected, rel=1e-12)
    by_output = torch.nn.functional.cosine_similarity(FIRST, SECOND, dim=-1).mean().item()
    assert abs(got - by_output) > 1e-3


@pytest.mark.parametrize("scale, expected", [(0.01, 1.0), (7.0, 1.0), (-2.0, -1.0)])
def test_the_cosine_sees_only_the_direction_and_the_difference_sees_the_length(
    batch, scale, expected
):
    first, second = linear(FIRST), linear(scale * FIRST)
    assert sensitivity_cosine(first, second, batch) == pytest.approx(expected, rel=1e-12)
    length = abs(1 - scale) * FIRST.norm().item()
    assert model_difference(first, second, batch) == pytest.approx(length, rel=1e-12)


def test_the_cosine_averages_over_queries(batch):
    """Against |x|^2, whose sensitivity differs from query to query."""

    def cosine(x, b, q):
        steep = torch.stack([2 * (k + 1) * x for k in range(M)])
        return float((FIRST * steep).sum() / (FIRST.norm() * steep.norm()))

    expected = mean_over_queries(cosine, batch)
    assert sensitivity_cosine(linear(FIRST), squares, batch) == pytest.approx(expected, rel=1e-12)


def test_the_three_measures_at_once_are_the_three_measures(batch):
    first, second = GradientDescent(0.2, 3), squares
    together = agreement(first, second, batch)
    assert tuple(together) == pytest.approx(
        (
            prediction_difference(first, second, batch),
            sensitivity_cosine(first, second, batch),
            model_difference(first, second, batch),
        ),
        rel=1e-12,
    )


def test_a_construction_and_the_descent_it_performs_agree_in_every_measure(batch):
    construction = gradient_descent_attention(D, M, N, 0.2, FIRST, steps=3)
    descent = GradientDescent(0.2, 3, FIRST)
    assert prediction_difference(construction, descent, batch) < 1e-12
    assert model_difference(construction, descent, batch) < 1e-12
    assert sensitivity_cosine(construction, descent, batch) == pytest.approx(1.0, abs=1e-12)
    longer = GradientDescent(0.4, 3, FIRST)
    assert prediction_difference(construction, longer, batch) > 1e-2


# --- implicit linear weights --------------------------------------------------------------------


def test_implicit_weights_of_a_linear_learner_are_its_weights(batch):
    model = implicit_linear_weights(linear(FIRST), batch.xs, batch.ys, draw(12, BATCH, N_PROBE, D))
    assert_close(model.weights, FIRST.expand(BATCH, M, D), rtol=1e-12, atol=1e-13)
    assert_close(model.r_squared, torch.ones(BATCH).double(), rtol=0, atol=1e-13)


def test_exactly_d_probes_are_enough(batch):
    model = implicit_linear_weights(linear(FIRST), batch.xs, batch.ys, draw(13, BATCH, D, D))
    assert_close(model.weights, FIRST.expand(BATCH, M, D), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("learner", [NearestNeighbours(2), squares], ids=["neighbours", "squares"])
def test_implicit_weights_of_other_learners_are_the_best_linear_fit(batch, learner):
    x_probe = draw(14, BATCH, N_PROBE, D)
    model = implicit_linear_weights(learner, batch.xs, batch.ys, x_probe)
    predicted = learner(batch.xs, batch.ys, x_probe).numpy()
    for b in range(BATCH):
        x, y = x_probe[b].numpy(), predicted[b]
        weights, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
        assert_close(model.weights[b], torch.from_numpy(weights.T), rtol=1e-10, atol=1e-11)
        explained = 1 - residual.sum() / (y**2).sum()
        assert model.r_squared[b].item() == pytest.approx(explained, rel=1e-10)
        assert 0 < explained < 0.999


def test_a_learner_that_says_nothing_is_explained_by_zero_weights(batch):
    model = implicit_linear_weights(
        ZeroPredictor(), batch.xs, batch.ys, draw(15, BATCH, N_PROBE, D)
    )
    assert model.weights.abs().max() == 0
    assert_close(model.r_squared, torch.ones(BATCH).double())


def test_the_difference_of_implicit_weights_is_a_squared_norm(batch):
    x_probe = draw(16, BATCH, N_PROBE, D)
    got = implicit_linear_weight_difference(linear(FIRST), linear(SECOND), batch, x_probe)
    assert got == pytest.approx(((FIRST - SECOND) ** 2).sum().item(), rel=1e-11)


# --- errors -------------------------------------------------------------------------------------


def test_too_few_probes_are_refused(batch):
    with pytest.raises(ValueError, match="x_probe: 3 inputs cannot fix 4 weights"):
        implicit_linear_weights(linear(FIRST), batch.xs, batch.ys, draw(17, BATCH, D - 1, D))


@pytest.mark.parametrize(
    "measure", [prediction_difference, squared_prediction_difference, agreement]
)
@pytest.mark.parametrize(
    "flat",
    [
        lambda xs, ys, x_query: (x_query @ FIRST.T)[..., 0],
        lambda xs, ys, x_query: (x_query @ FIRST.T)[:, :1],
    ],
    ids=["no output axis", "one query for all"],
)
def test_predictions_of_another_shape_are_refused_and_not_broadcast(
    as_readers_run_it, batch, measure, flat
):
    with pytest.raises(ValueError, match=r"learner: predicted shape .* = \(3, 5, 2\)"):
        measure(linear(FIRST), flat, batch)
    with pytest.raises(ValueError, match="learner: predicted shape"):
        mean_squared_error(flat, batch)
