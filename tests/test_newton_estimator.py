"""Newton-Schulz inversion and the learner made of it, against eigenvectors in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.least_squares import least_squares_weights
from icl_lessons.estimators.newton import (
    IterativeNewton,
    iterative_newton_path,
    newton_schulz_inverses,
)
from icl_lessons.types import Learner


def draw(seed, batch, n, d, m, n_query=2):
    rng = np.random.default_rng(seed)
    shapes = (batch, n, d), (batch, n, m), (batch, n_query, d)
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes]


def closed_form(s, alpha, steps):
    """``(I - (I - alpha S^2)^(2^k)) S^+`` of one matrix, on its range."""
    values, vectors = np.linalg.eigh(s)
    inside = values > 1e-9 * values.max()
    left = (1 - alpha * values[inside] ** 2) ** (2.0**steps)
    return (vectors[:, inside] * ((1 - left) / values[inside])) @ vectors[:, inside].T


SIZES = {
    "seed": st.integers(0, 2**32 - 1),
    "batch": st.integers(1, 3),
    "n": st.integers(1, 12),  # often fewer than d
    "d": st.integers(1, 8),
    "m": st.integers(1, 3),
    "steps": st.integers(0, 8),
}


@given(**SIZES, fraction=st.floats(0.05, 1.95))
@settings(max_examples=25, deadline=None)
def test_the_iterates_are_the_closed_form_also_with_fewer_examples_than_coordinates(
    seed, batch, n, d, m, steps, fraction
):
    xs, _, _ = draw(seed, batch, n, d, m)
    S = xs.mT @ xs
    alpha = fraction / torch.linalg.matrix_norm(S, 2).square().max().item()
    path = newton_schulz_inverses(S, steps, alpha)
    assert path.shape == (steps + 1, batch, d, d)
    for k in range(steps + 1):
        expected = np.stack([closed_form(s, alpha, k) for s in S.numpy()])
        scale = max(1.0, np.abs(expected).max())
        # the closed form loses digits where an eigenvalue is small: 1 - (1 - small) over small
        assert np.abs(path[k].numpy() - expected).max() <= 1e-8 * scale


@given(**SIZES)
@settings(max_examples=25, deadline=None)
def test_each_step_squares_what_is_left_and_the_learner_applies_the_last_inverse(
    seed, batch, n, d, m, steps
):
    xs, ys, x_query = draw(seed, batch, n, d, m)
    S = xs.mT @ xs
    inverses = newton_schulz_inverses(S, steps)
    left = torch.eye(d) - S @ inverses
    for before, after in zip(left, left[1:], strict=False):
        assert_close(after, before @ before, atol=1e-10, rtol=1e-10)
    weights = iterative_newton_path(xs, ys, steps)
    assert_close(weights, ys.mT @ xs @ inverses)
    assert_close(IterativeNewton(steps)(xs, ys, x_query), x_query @ weights[-1].mT)


@pytest.mark.parametrize(("n", "d"), [(12, 4), (3, 6), (5, 5)])
def test_the_limit_is_least_squares_of_smallest_norm(n, d):
    xs, ys, _ = draw(1, 4, n, d, 2)
    weights = iterative_newton_path(xs, ys, 40)[-1]
    assert_close(weights, least_squares_weights(xs, ys), atol=1e-6, rtol=1e-6)


def test_the_default_start_is_that_of_the_papers_code_and_is_not_zero_weights():
    xs, ys, _ = draw(2, 3, 7, 4, 1)
    S = xs.mT @ xs
    alpha = 1 / torch.stack([(s @ s.T).square().sum().sqrt() for s in S])
    assert_close(newton_schulz_inverses(S, 0)[0], alpha[:, None, None] * S)
    assert iterative_newton_path(xs, ys, 0)[0].abs().min() > 0


def test_an_alpha_that_diverges_is_refused_and_would_have_diverged():
    xs, ys, x_query = draw(3, 2, 9, 3, 1)
    S = xs.mT @ xs
    limit = 2 / torch.linalg.matrix_norm(S, 2).square().max().item()
    with pytest.raises(ValueError, match=r"alpha: got .* 2 / \|S\|_2\^2"):
        newton_schulz_inverses(S, 3, 1.001 * limit)
    with pytest.raises(ValueError, match="alpha"):
        IterativeNewton(3, 1.001 * limit)(xs, ys, x_query)
    inverse, exact = 1.05 * limit * S, torch.linalg.inv(S)
    for _ in range(10):
        inverse = 2 * inverse - inverse @ S @ inverse
    assert not (inverse - exact).abs().max() < 1e6
    just_below = newton_schulz_inverses(S, 60, 0.99 * limit)[-1]
    assert_close(just_below, exact, atol=1e-8, rtol=1e-8)


def test_a_context_of_zeros_gives_weights_of_zero():
    xs, ys, x_query = (torch.zeros(2, 3, size, dtype=torch.float64) for size in (4, 1, 4))
    for alpha in (None, 0.5):
        assert torch.equal(IterativeNewton(5, alpha)(xs, ys, x_query), torch.zeros_like(ys))


def test_it_is_a_learner_in_the_dtype_given():
    xs, ys, x_query = (tensor.float() for tensor in draw(4, 2, 8, 3, 2, 5))
    learner = IterativeNewton(12)
    assert isinstance(learner, Learner)
    prediction = learner(xs, ys, x_query)
    assert prediction.dtype == torch.float32 and prediction.shape == (2, 5, 2)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda: IterativeNewton(-1), "steps"),
        (lambda: IterativeNewton(2, 0.0), "alpha"),
        (lambda: IterativeNewton(2, float("nan")), "alpha"),
        (lambda: newton_schulz_inverses(torch.ones(1, 2, 3), 1), "S: got shape"),
        (lambda: newton_schulz_inverses(torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]), 1), "S: got"),
        (lambda: newton_schulz_inverses(torch.full((1, 2, 2), torch.nan), 1), "S: holds NaN"),
    ],
)
def test_a_wrong_argument_is_named(bad, named, as_readers_run_it):
    with pytest.raises(ValueError, match=named):
        bad()
