"""Preconditioned descent against loops in NumPy, and against what a right factor must do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent, gradient_descent_path
from icl_lessons.estimators.least_squares import least_squares_weights
from icl_lessons.estimators.preconditioned import (
    GradientDescentPlusPlus,
    PreconditionedGradientDescent,
    gradient_descent_plus_plus_path,
    input_maps,
    preconditioned_descent_path,
)
from icl_lessons.types import Learner

BATCH, N, D, M = 3, 7, 4, 2


def draw(seed, n=N, d=D, m=M, batch=BATCH):
    rng = np.random.default_rng(seed)
    shapes = (batch, n, d), (batch, n, m), (batch, 2, d)
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes]


def matrices(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def loop(xs, ys, sizes, preconditioners, start):
    """The models of one context, example by example and entry by entry of the product."""
    weights, path = start.copy(), [start.copy()]
    for size, matrix in zip(sizes, preconditioners, strict=True):
        gradient = sum(np.outer(weights @ x - y, x) for x, y in zip(xs, ys, strict=True)) / len(xs)
        weights = weights - size * np.einsum("mi,ij->mj", gradient, matrix)
        path.append(weights)
    return np.stack(path)


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 12),
    d=st.integers(1, 5),
    m=st.integers(1, 3),
    steps=st.integers(0, 4),
    shared=st.booleans(),
    from_zero=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_loop_over_examples_gives_the_same_path(seed, n, d, m, steps, shared, from_zero):
    xs, ys, x_query = draw(seed, n, d, m)
    shape = (steps, d, d) if shared else (steps, BATCH, d, d)
    preconditioners = matrices(seed + 1, *shape)
    sizes = tuple(np.random.default_rng(seed).uniform(0, 0.3, steps))
    start = None if from_zero else matrices(seed + 2, BATCH, m, d)
    path = preconditioned_descent_path(xs, ys, sizes, preconditioners, start)
    assert path.shape == (steps + 1, BATCH, m, d)
    for b in range(BATCH):
        own = preconditioners if shared else preconditioners[:, b]
        first = np.zeros((m, d)) if from_zero else start[b].numpy()
        expected = torch.from_numpy(loop(xs[b].numpy(), ys[b].numpy(), sizes, own.numpy(), first))
        assert_close(path[:, b], expected, rtol=1e-10, atol=1e-10)
    learner = PreconditionedGradientDescent(sizes, preconditioners, start)
    assert_close(learner(xs, ys, x_query), x_query @ path[-1].mT, rtol=0, atol=0)


def test_the_identity_is_plain_descent_and_the_inverse_hessian_least_squares():
    xs, ys, _ = draw(1)
    start = matrices(2, M, D)
    identities = torch.eye(D, dtype=torch.float64).expand(3, D, D)
    got = preconditioned_descent_path(xs, ys, 0.2, identities, start)
    expected = gradient_descent_path(xs, ys, 0.2, 3, start)
    assert_close(got, expected, rtol=1e-12, atol=1e-12)
    inverse = torch.linalg.inv(xs.mT @ xs / N)[None]
    once = preconditioned_descent_path(xs, ys, 1.0, inverse, start)[-1]
    assert_close(once, least_squares_weights(xs, ys), rtol=1e-9, atol=1e-9)


def test_a_transposed_preconditioner_is_another_method():
    xs, ys, x_query = draw(3)
    skewed = matrices(4, 1, D, D)
    one = PreconditionedGradientDescent(0.2, skewed)(xs, ys, x_query)
    other = PreconditionedGradientDescent(0.2, skewed.mT)(xs, ys, x_query)
    assert (one - other).abs().max() > 1e-2


# --- GD++ as tokens, example by example ---------------------------------------------------------


def tokens_of_plus_plus(xs, ys, x_query, sizes, gammas, *, new_inputs=False):
    """Inputs, targets and query after the layers, by loops; ``new_inputs`` plants the mistake of
    using the inputs that the same layer has just moved."""
    n = len(xs)
    slot = np.zeros(ys.shape[1])
    for size, gamma in zip(sizes, gammas, strict=True):
        moved = np.stack([x - gamma * sum(o * (o @ x) for o in xs) for x in xs])
        moved_query = x_query - gamma * sum(o * (o @ x_query) for o in xs)
        read, ask = (moved, moved_query) if new_inputs else (xs, x_query)
        residuals = np.stack(
            [y - size / n * sum(t * (o @ x) for t, o in zip(ys, read, strict=True))
             for x, y in zip(read, ys, strict=True)]
        )  # fmt: skip
        slot = slot - size / n * sum(t * (o @ ask) for t, o in zip(ys, read, strict=True))
        xs, ys, x_query = moved, residuals, moved_query
    return xs, ys, -slot


def bounded(seed, n, d, m, steps):
    """A context and coefficients whose layers shrink things, so that errors are relative to 1."""
    xs, ys, x_query = draw(seed, n, d, m)
    xs = xs / torch.linalg.matrix_norm(xs, 2).amax()  # largest eigenvalue of H: at most 1
    rng = np.random.default_rng(seed)
    return xs, ys, x_query, tuple(rng.uniform(0, n, steps)), tuple(rng.uniform(-0.3, 0.9, steps))


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 12),
    d=st.integers(1, 6),
    m=st.integers(1, 3),
    steps=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_plus_plus_is_what_its_tokens_do(seed, n, d, m, steps):
    xs, ys, x_query, sizes, gammas = bounded(seed, n, d, m, steps)
    path = gradient_descent_plus_plus_path(xs, ys, sizes, gammas)
    got = GradientDescentPlusPlus(sizes, gammas)(xs, ys, x_query)
    for b in range(BATCH):
        one = xs[b].numpy(), ys[b].numpy(), x_query[b, 0].numpy()
        _, residuals, prediction = tokens_of_plus_plus(*one, sizes, gammas)
        assert_close(got[b, 0], torch.from_numpy(prediction), rtol=1e-10, atol=1e-10)
        expected = ys[b] - xs[b] @ path[-1, b].mT
        assert_close(torch.from_numpy(residuals), expected, rtol=1e-10, atol=1e-10)


def test_targets_moved_with_the_new_inputs_are_something_else():
    xs, ys, x_query, _, _ = bounded(5, N, D, M, 2)
    one = xs[0].numpy(), ys[0].numpy(), x_query[0, 0].numpy()
    expected = GradientDescentPlusPlus((5.0, 5.0), (0.5, 0.5))(xs, ys, x_query)[0, 0].numpy()
    planted = tokens_of_plus_plus(*one, (5.0, 5.0), (0.5, 0.5), new_inputs=True)[2]
    assert np.abs(planted - expected).max() > 1e-2


def test_one_step_is_plain_descent_and_the_last_gamma_is_never_used():
    xs, ys, x_query, _, _ = bounded(6, N, D, M, 1)
    one = GradientDescentPlusPlus((3.0,), (0.7,))(xs, ys, x_query)
    assert_close(one, GradientDescent(3.0)(xs, ys, x_query), rtol=1e-12, atol=1e-12)
    three = GradientDescentPlusPlus((3.0, 4.0, 5.0), (0.3, 0.4, 0.5))(xs, ys, x_query)
    other = GradientDescentPlusPlus((3.0, 4.0, 5.0), (0.3, 0.4, 9.0))(xs, ys, x_query)
    assert torch.equal(three, other)
    changed = GradientDescentPlusPlus((3.0, 4.0, 5.0), (0.3, 0.9, 0.5))(xs, ys, x_query)
    assert (three - changed).abs().max() > 1e-4


def test_the_maps_commute_with_the_hessian_and_are_symmetric():
    xs, *_ = bounded(7, N, D, M, 1)
    hessian = xs.mT @ xs
    maps = input_maps(xs, (0.3, 0.5, 0.8, 0.1))
    assert maps.shape == (4, BATCH, D, D) and input_maps(xs, ()).shape == (0, BATCH, D, D)
    assert_close(maps, maps.mT, rtol=1e-13, atol=1e-13)
    assert_close(maps @ hessian, hessian @ maps, rtol=1e-13, atol=1e-13)


def test_they_are_learners():
    assert isinstance(PreconditionedGradientDescent(0.1, torch.eye(2)[None]), Learner)
    assert isinstance(GradientDescentPlusPlus((0.1,), (0.1,)), Learner)


@pytest.mark.parametrize(
    "call, error, sentence",
    [
        (lambda x, y: preconditioned_descent_path(x, y, 0.1, [1.0]), TypeError, "preconditioners"),
        (
            lambda x, y: preconditioned_descent_path(x, y, 0.1, matrices(0, D, D)),
            ValueError,
            r"preconditioners: got shape \(4, 4\); use \[steps, d, d\] with d = 4",
        ),
        (
            lambda x, y: preconditioned_descent_path(x, y, 0.1, matrices(0, 2, D, D).float()),
            TypeError,
            "preconditioners: torch.float32",
        ),
        (
            lambda x, y: preconditioned_descent_path(x, y, 0.1, matrices(0, 2, D, D) * torch.nan),
            ValueError,
            "preconditioners: holds NaN",
        ),
        (
            lambda x, y: preconditioned_descent_path(x, y, (0.1,), matrices(0, 2, D, D)),
            ValueError,
            "step_size: 1 sizes for 2 steps",
        ),
        (
            lambda x, y: gradient_descent_plus_plus_path(x, y, (1.0, 2.0), (0.1,)),
            ValueError,
            "gammas: 1 for 2 step sizes",
        ),
        (lambda x, y: input_maps(x, 0.1), TypeError, "gammas: got 0.1"),
        (lambda x, y: input_maps(x, (float("inf"), 0.1)), ValueError, "gammas: .* finite"),
        (lambda x, y: GradientDescentPlusPlus((1.0,), (0.1, 0.2)), ValueError, "1 sizes for 2"),
        (lambda x, y: GradientDescentPlusPlus((-1.0,), (0.1,)), ValueError, "step_size: got -1"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(as_readers_run_it, call, error, sentence):
    xs, ys, _ = draw(11)
    with pytest.raises(error, match=sentence):
        call(xs, ys)
