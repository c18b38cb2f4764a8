"""Softmax regression: its gradient, the bounds on its movements, and what they do not show."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.gradient_descent.experiments.softmax_regression import (
    SoftmaxRegressionConfig,
    draw_problems,
    softmax_regression_shift,
)
from icl_lessons.gradient_descent.softmax_regression import (
    attention_shift,
    attention_step,
    data_shift_bound,
    descent_shift,
    descent_step,
    equivalent_data,
    paper_constant,
    softmax_gradient,
    softmax_jacobian,
    softmax_loss,
    softmax_prediction,
    weight_shift_bound,
)
from icl_lessons.ledger import collect_claims, run_claim

sizes = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 6))


def problem(seed, n, d, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = (3, n, d), (3, d), (3, n)
    return [torch.from_numpy(scale * rng.standard_normal(shape)) for shape in shapes]


def loss_by_hand(data, weights, targets):
    scores = [math.exp(sum(a * x for a, x in zip(row, weights, strict=True))) for row in data]
    shares = [s / sum(scores) for s in scores]
    return 0.5 * sum((f - b) ** 2 for f, b in zip(shares, targets, strict=True))


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_gradient_is_the_derivative_of_the_loss(case):
    data, weights, targets = problem(*case)
    gradient = softmax_gradient(data, weights, targets)
    leaf = weights.clone().requires_grad_()
    (automatic,) = torch.autograd.grad(softmax_loss(data, leaf, targets).sum(), leaf)
    assert_close(gradient, automatic, rtol=1e-10, atol=1e-12)
    a, x, b = data[0].numpy(), weights[0].numpy(), targets[0].numpy()
    assert softmax_loss(data, weights, targets)[0].item() == pytest.approx(loss_by_hand(a, x, b))
    for k in range(case[2]):
        step = np.zeros_like(x)
        step[k] = 1e-5
        difference = (loss_by_hand(a, x + step, b) - loss_by_hand(a, x - step, b)) / 2e-5
        assert gradient[0, k].item() == pytest.approx(difference, abs=1e-6)


def without_outer_product(data, prediction, residual):
    return (data.mT @ (prediction * residual)[..., None])[..., 0]


def without_diagonal(data, prediction, residual):
    shared = (prediction * residual).sum(-1, keepdim=True)
    return (data.mT @ (-prediction * shared)[..., None])[..., 0]


def without_transpose_order(data, prediction, residual):
    return (data.mT @ residual[..., None])[..., 0]


@pytest.mark.parametrize(
    "planted", [without_outer_product, without_diagonal, without_transpose_order]
)
def test_a_gradient_with_a_term_dropped_is_noticed(planted):
    data, weights, targets = problem(1, 6, 4)
    prediction = softmax_prediction(data, weights)
    wrong = planted(data, prediction, prediction - targets)
    assert (wrong - softmax_gradient(data, weights, targets)).abs().max() > 1e-2


@given(sizes, st.floats(0.1, 5.0), st.floats(0.01, 3.0))
@settings(max_examples=25, deadline=None)
def test_movements_stay_below_their_bounds(case, scale, step):
    data, weights, targets = problem(*case, scale)
    moved = descent_step(data, weights, targets, step)
    shift = descent_shift(data, weights, targets, step).norm(dim=-1)
    assert (shift <= weight_shift_bound(data, weights, moved) + 1e-12).all()
    shift = attention_shift(data, weights, step).norm(dim=-1)
    assert (shift <= data_shift_bound(data, attention_step(data, step), weights) + 1e-12).all()
    radius = max(torch.linalg.matrix_norm(data, 2).max().item(), weights.norm(dim=-1).max().item())
    if 10 * radius**2 < 700:
        assert paper_constant(case[1], radius) >= 0.5 * radius


@given(st.integers(0, 2**32 - 1), st.integers(2, 10), st.floats(0.1, 30.0))
@settings(max_examples=25, deadline=None)
def test_the_jacobian_has_norm_one_half_at_most(seed, n, scale):
    scores = torch.from_numpy(scale * np.random.default_rng(seed).standard_normal((4, n)))
    jacobian = softmax_jacobian(scores.softmax(-1))
    assert (torch.linalg.matrix_norm(jacobian, 2) <= 0.5 + 1e-12).all()
    assert_close(jacobian.sum(-1), torch.zeros(4, n, dtype=torch.float64))


def test_one_half_cannot_be_made_smaller():
    prediction = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
    assert torch.linalg.matrix_norm(softmax_jacobian(prediction), 2).item() == pytest.approx(0.5)


@given(sizes, st.floats(0.01, 5.0))
@settings(max_examples=25, deadline=None)
def test_a_change_of_data_of_rank_one_does_what_the_step_did(case, step):
    data, weights, targets = problem(*case)
    moved = descent_step(data, weights, targets, step)
    other = equivalent_data(data, weights, moved)
    assert_close(
        softmax_prediction(other, weights), softmax_prediction(data, moved), rtol=1e-9, atol=1e-11
    )
    assert (torch.linalg.matrix_rank(other - data, atol=1e-9) <= 1).all()


def test_the_attention_step_is_a_softmax_over_rows():
    data, *_ = problem(2, 4, 3)
    got = attention_step(data, 0.3)
    for b in range(3):
        rows = data[b].numpy()
        for i in range(4):
            scores = np.exp([rows[i] @ rows[j] for j in range(4)])
            expected = rows[i] + 0.3 * (scores / scores.sum()) @ rows
            assert np.abs(got[b, i].numpy() - expected).max() < 1e-12


@pytest.fixture(scope="module")
def lesson():
    return softmax_regression_shift(SoftmaxRegressionConfig())


def test_small_is_not_equal(lesson):
    assert lesson.cosine.shape == (3, 4, 500)
    assert (lesson.descent_bound_ratio >= 1).all() and (lesson.attention_bound_ratio >= 1).all()
    assert (lesson.unexplained.mean(-1) > 0.3).all()
    assert (lesson.cosine.mean(-1) < 0).all()
    assert (lesson.descent_gain > 0).mean() > 0.99
    assert (lesson.attention_gain > 0).mean() < 0.2
    orders = np.median(np.log10(lesson.paper_bound_ratio), axis=(0, 2))
    assert (np.diff(orders) > 2).all()  # the constant grows by orders of magnitude with R


def test_problems_have_the_norms_asked_for():
    data, weights, targets = draw_problems(SoftmaxRegressionConfig(n_draws=5), 1.5, 0)
    assert_close(torch.linalg.matrix_norm(data, 2), torch.full((5,), 1.5, dtype=torch.float64))
    assert_close(weights.norm(dim=-1), torch.full((5,), 1.5, dtype=torch.float64))
    assert_close(targets.sum(-1), torch.ones(5, dtype=torch.float64))


def test_every_claim_has_the_verdict_that_the_book_discusses(lesson):
    collect_claims()
    expected = {
        "li2023-gradient": Verdict.HOLDS,
        "li2023-data-shift-equals-weight-shift": Verdict.HOLDS,
        "li2023-bounded-shifts": Verdict.HOLDS,
        "li2023-constant-is-informative": Verdict.FAILS,
        "li2023-closeness": Verdict.FAILS,
    }
    assert {name: run_claim(CLAIMS[name]).verdict for name in expected} == expected


def test_bad_arguments_are_named(as_readers_run_it):
    data, weights, targets = problem(3, 4, 3)
    with pytest.raises(
        ValueError, match=r"weights: got shape \(3, 2\); use \[batch, d\] = \(3, 3\)"
    ):
        softmax_prediction(data, weights[:, :2])
    with pytest.raises(ValueError, match=r"targets: got shape .* use \[batch, n\] = \(3, 4\)"):
        softmax_gradient(data, weights, targets[:, :2])
    with pytest.raises(ValueError, match="step_size: got -1"):
        descent_step(data, weights, targets, -1.0)
    with pytest.raises(ValueError, match="weights: all zero"):
        equivalent_data(data, 0 * weights, weights)
    with pytest.raises(ValueError, match="data: holds NaN"):
        attention_step(data * math.nan, 0.1)
    for bad in ({"n": 1}, {"step_size": 0.0}, {"seeds": ()}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SoftmaxRegressionConfig(**bad)
