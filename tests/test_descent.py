"""Gradient descent against autograd, against loops, and against what a step must do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import (
    GradientDescent,
    StochasticGradientDescent,
    context_gradient,
    context_loss,
    gradient_descent_path,
    step_sizes,
    stochastic_gradient_descent_weights,
)
from icl_lessons.types import Learner

BATCH, N, D, M, N_QUERY = 3, 7, 4, 2, 5


def draw(seed=0, batch=BATCH, n=N, d=D, m=M, n_query=N_QUERY):
    gen = torch.Generator().manual_seed(seed)
    shapes = (batch, n, d), (batch, n, m), (batch, n_query, d), (batch, m, d)
    return tuple(torch.randn(*shape, generator=gen, dtype=torch.float64) for shape in shapes)


def half_mean_square(weights, xs, ys):
    """1/(2N) sum_i |W x_i - y_i|^2 of one context, as a sum over examples."""
    errors = [weights @ x - y for x, y in zip(xs, ys, strict=True)]
    return sum((error @ error) for error in errors) / (2 * len(errors))


def autograd_path(xs, ys, sizes, start):
    path, weights = [start], start
    for size in sizes:
        weights = weights.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(half_mean_square(weights, xs, ys), weights)
        weights = (weights - size * gradient).detach()
        path.append(weights)
    return torch.stack(path)


def test_loss_and_gradient_of_each_context():
    xs, ys, _, weights = draw()
    for b in range(BATCH):
        one = weights[b].clone().requires_grad_()
        loss = half_mean_square(one, xs[b], ys[b])
        loss.backward()
        assert_close(context_loss(weights, xs, ys)[b], loss.detach(), rtol=1e-13, atol=0)
        gradient = context_gradient(weights, xs, ys)[b]
        assert_close(gradient, one.grad, rtol=1e-12, atol=1e-13)


@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    n=st.integers(1, 9),
    d=st.integers(1, 6),
    m=st.integers(1, 3),
    sizes=st.lists(st.floats(0, 0.3), min_size=0, max_size=5),
    start=st.sampled_from(["none", "shared", "each"]),
)
@settings(max_examples=40, deadline=None)
def test_the_path_is_autograd_s(seed, batch, n, d, m, sizes, start):
    xs, ys, _, weights = draw(seed, batch, n, d, m)
    given_start = {"none": None, "shared": weights[0], "each": weights}[start]
    path = gradient_descent_path(xs, ys, tuple(sizes), len(sizes), given_start)
    assert path.shape == (len(sizes) + 1, batch, m, d)
    for b in range(batch):
        begin = {"none": torch.zeros(m, d).double(), "shared": weights[0], "each": weights[b]}
        expected = autograd_path(xs[b], ys[b], sizes, begin[start])
        assert_close(path[:, b], expected, rtol=1e-11, atol=1e-11)


def test_another_step_size_is_noticed():
    xs, ys, _, weights = draw(1)
    expected = autograd_path(xs[0], ys[0], [0.2, 0.2], weights[0])
    for wrong in (0.2 * (1 + 1e-8), 0.2 * N):
        path = gradient_descent_path(xs, ys, wrong, 2, weights)
        with pytest.raises(AssertionError):
            assert_close(path[:, 0], expected, rtol=1e-11, atol=1e-11)


def test_many_small_steps_descend_to_least_squares_of_smallest_norm():
    """From zero, descent stays in the span of the inputs, so it ends at the shortest solution."""
    rows, ys, _, _ = draw(2, n=3)
    lengths = torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64)
    xs = torch.linalg.qr(rows.mT).Q.mT * lengths[:, None]  # orthogonal: X^T X is well conditioned
    path = gradient_descent_path(xs, ys, 3 / 2.0**2, 200)
    losses = torch.stack([context_loss(weights, xs, ys) for weights in path])
    assert (losses.diff(dim=0) <= 1e-15).all()
    for b in range(BATCH):
        expected = np.linalg.lstsq(xs[b].numpy(), ys[b].numpy(), rcond=None)[0].T
        assert_close(path[-1, b], torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_the_error_shrinks_by_a_known_factor_along_each_eigenvector():
    """W_k - W* = (W_0 - W*) (I - eta S)^k: a closed form that contains no loop."""
    xs, ys, _, weights = draw(3)
    size, steps = 0.15, 6
    got = gradient_descent_path(xs, ys, size, steps, weights)[-1]
    for b in range(BATCH):
        x, y = xs[b].numpy(), ys[b].numpy()
        best = np.linalg.lstsq(x, y, rcond=None)[0].T
        shrink = np.linalg.matrix_power(np.eye(D) - size * x.T @ x / N, steps)
        expected = best + (weights[b].numpy() - best) @ shrink
        assert_close(got[b], torch.from_numpy(expected), rtol=1e-11, atol=1e-12)


def test_a_step_beyond_two_over_the_largest_eigenvalue_diverges():
    xs, ys, _, _ = draw(4, batch=1)
    largest = torch.linalg.eigvalsh(xs.mT @ xs / N).max().item()
    for size, grows in ((1.99 / largest, False), (2.05 / largest, True)):
        path = gradient_descent_path(xs, ys, size, 400)
        loss = context_loss(path[-1], xs, ys) / context_loss(path[0], xs, ys)
        assert (loss.item() > 1) == grows


def test_the_learner_predicts_with_the_last_weights_of_the_path():
    xs, ys, x_query, weights = draw(5)
    sizes = (0.1, 0.4, 0.2)
    got = GradientDescent(sizes, 3, weights[1])(xs, ys, x_query)
    for b in range(BATCH):
        last = autograd_path(xs[b], ys[b], sizes, weights[1])[-1]
        assert_close(got[b], x_query[b] @ last.T, rtol=1e-12, atol=1e-12)
    assert isinstance(GradientDescent(0.1), Learner)


def test_no_steps_leave_the_initial_weights():
    xs, ys, x_query, weights = draw(6)
    got = GradientDescent(0.3, 0, weights)(xs, ys, x_query)
    assert_close(got, x_query @ weights.mT, rtol=0, atol=0)


@pytest.mark.parametrize(
    "given_size, steps, expected",
    [
        (0.5, 3, (0.5, 0.5, 0.5)),
        (2, 2, (2.0, 2.0)),
        ([1, 0.5], 2, (1.0, 0.5)),
        ((), 0, ()),
        (0.5, 0, ()),
        (np.float64(0.25), 1, (0.25,)),
        (np.array([0.25, 0.75]), 2, (0.25, 0.75)),
        (torch.tensor([0.25, 0.75]), 2, (0.25, 0.75)),
    ],
)
def test_step_sizes_are_one_for_each_step(as_readers_run_it, given_size, steps, expected):
    got = step_sizes(given_size, steps)
    assert got == expected and all(type(size) is float for size in got)


# --- mini-batches -------------------------------------------------------------------------------


def stochastic_loop(xs, ys, size, orders, batch_size, start):
    weights = start.copy()
    for order in orders:
        for at in range(0, len(order), batch_size):
            some = order[at : at + batch_size]
            gradient = sum(np.outer(weights @ xs[i] - ys[i], xs[i]) for i in some) / len(some)
            weights = weights - size * gradient
    return weights


@pytest.mark.parametrize("batch_size", [1, 3, N, N + 4])
@pytest.mark.parametrize("passes", [0, 1, 2])
def test_mini_batches_in_the_given_order_are_a_plain_loop(batch_size, passes):
    xs, ys, _, weights = draw(7)
    got = stochastic_gradient_descent_weights(
        xs, ys, 0.11, passes=passes, batch_size=batch_size, initial_weights=weights
    )
    for b in range(BATCH):
        expected = stochastic_loop(
            xs[b].numpy(), ys[b].numpy(), 0.11, [range(N)] * passes, batch_size, weights[b].numpy()
        )
        assert_close(got[b], torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_a_mini_batch_of_everything_is_full_batch_descent_in_any_order():
    xs, ys, x_query, _ = draw(8)
    full = GradientDescent(0.2, 3)(xs, ys, x_query)
    for seed in (None, 4):
        learner = StochasticGradientDescent(0.2, passes=3, batch_size=N, seed=seed)
        assert_close(learner(xs, ys, x_query), full, rtol=1e-12, atol=1e-12)


def test_a_seed_shuffles_each_pass_anew_and_alike_for_every_context():
    xs, ys, x_query, _ = draw(9)
    learner = StochasticGradientDescent(0.2, passes=2, seed=4)
    got = learner(xs, ys, x_query)
    assert torch.equal(got, learner(xs, ys, x_query))
    generator = torch.Generator().manual_seed(4)
    orders = [torch.randperm(N, generator=generator).tolist() for _ in range(2)]
    assert orders[0] != orders[1]
    for b in range(BATCH):
        last = stochastic_loop(xs[b].numpy(), ys[b].numpy(), 0.2, orders, 1, np.zeros((M, D)))
        assert_close(got[b], x_query[b] @ torch.from_numpy(last).T, rtol=1e-12, atol=1e-12)
    other = StochasticGradientDescent(0.2, passes=2, seed=5)(xs, ys, x_query)
    assert (got - other).abs().max() > 1e-3


def test_the_order_of_examples_matters_to_single_examples_and_not_to_full_batches():
    xs, ys, x_query, _ = draw(10)
    order = torch.arange(N).flip(0)
    for learner, matters in ((StochasticGradientDescent(0.2), True), (GradientDescent(0.2), False)):
        change = learner(xs[:, order], ys[:, order], x_query) - learner(xs, ys, x_query)
        assert (change.abs().max() > 1e-6) == matters


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, error, sentence",
    [
        (lambda c: GradientDescent(-0.1), ValueError, "step_size: got -0.1; .* 0 or more"),
        (lambda c: GradientDescent(-0.1, 0), ValueError, "step_size: got -0.1"),
        (lambda c: GradientDescent(float("inf")), ValueError, "step_size: got inf"),
        (lambda c: GradientDescent(True), ValueError, "step_size: got True"),
        (lambda c: GradientDescent(None), TypeError, "step_size: got None; use a number, or a seq"),
        (lambda c: GradientDescent("fast"), TypeError, "step_size: got 'fast'"),
        (lambda c: GradientDescent((0.1, 0.2), 3), ValueError, "step_size: 2 sizes for 3 steps"),
        (lambda c: GradientDescent((0.1, float("nan")), 2), ValueError, "step_size: got nan"),
        (lambda c: GradientDescent(0.1, -1), ValueError, "steps: got -1"),
        (lambda c: GradientDescent(0.1, 1.5), ValueError, "steps: got 1.5"),
        (lambda c: StochasticGradientDescent(-0.1), ValueError, "step_size: got -0.1"),
        (lambda c: StochasticGradientDescent(0.1, passes=-1), ValueError, "passes: got -1"),
        (lambda c: StochasticGradientDescent(0.1, batch_size=0), ValueError, "batch_size: got 0"),
        (lambda c: StochasticGradientDescent(0.1, seed=-3)(*c[:3]), ValueError, "seed: -3"),
        (
            lambda c: GradientDescent(0.1)(c[0][:, :0], c[1][:, :0], c[2]),
            ValueError,
            "xs: the context is empty .N = 0",
        ),
        (lambda c: context_loss(c[3], c[0][:, :0], c[1][:, :0]), ValueError, "N = 0"),
        (
            lambda c: GradientDescent(0.1, 1, c[3].mT)(*c[:3]),
            ValueError,
            r"initial_weights: got shape \(3, 4, 2\); use \[m, d\] = \(2, 4\)",
        ),
        (lambda c: GradientDescent(0.1, 1, [[0.0]])(*c[:3]), TypeError, "initial_weights: got li"),
        (
            lambda c: GradientDescent(0.1, 1, c[3] * torch.nan)(*c[:3]),
            ValueError,
            "initial_weights: holds NaN",
        ),
        (
            lambda c: GradientDescent(0.1, 1, c[3].float())(*c[:3]),
            TypeError,
            "initial_weights: torch.float32 on cpu, but xs is torch.float64",
        ),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(as_readers_run_it, call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(draw(11))
