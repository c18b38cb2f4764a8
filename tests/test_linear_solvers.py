"""Iterative solvers: the paths against polynomials of the matrix, the rates against the theory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev as polynomials
from torch.testing import assert_close

from icl_lessons.estimators.linear_solvers import (
    chebyshev,
    chebyshev_bound,
    chebyshev_coefficients,
    neumann,
    richardson,
    richardson_bound,
)

EXACT = {"rtol": 0, "atol": 1e-10}


def system(seed, *shape, low=0.5, high=2.0):
    """Symmetric matrices whose spectrum reaches from ``low`` to ``high``, and right-hand sides."""
    rng = np.random.default_rng(seed)
    n = shape[-1]
    turn = np.linalg.qr(rng.standard_normal((*shape, n)))[0]
    spectrum = rng.uniform(low, high, shape)
    spectrum[..., 0], spectrum[..., -1] = low, high
    A = (turn * spectrum[..., None, :]) @ turn.swapaxes(-1, -2)
    return torch.from_numpy((A + A.swapaxes(-1, -2)) / 2), torch.from_numpy(
        rng.standard_normal(shape)
    )


def of_spectrum(A, b, function):
    """``function(A) b`` through the eigenvectors."""
    values, vectors = np.linalg.eigh(A.numpy())
    inner = np.einsum("...ij,...i->...j", vectors, b.numpy())
    return torch.from_numpy(np.einsum("...ij,...j->...i", vectors, function(values) * inner))


SHAPES = st.sampled_from([(3,), (2, 4), (2, 3, 5), (1, 2)])


@settings(deadline=None, max_examples=15)
@given(SHAPES, st.integers(0, 8), st.floats(0.05, 0.9), st.integers(0, 10**6))
def test_richardson_is_a_polynomial(shape, steps, step_size, seed):
    A, b = system(seed, *shape)
    path = richardson(A, b, step_size, steps)
    for k, x in enumerate(path):
        expected = of_spectrum(A, b, lambda v, k=k: (1 - (1 - step_size * v) ** k) / v)
        assert_close(x, expected, **EXACT)
    each = torch.full(shape[:-1], step_size, dtype=torch.float64)
    assert_close(richardson(A, b, each, steps), path, **EXACT)


@settings(deadline=None, max_examples=15)
@given(SHAPES, st.integers(0, 8), st.integers(0, 10**6))
def test_neumann_sums_its_series(shape, steps, seed):
    A, b = system(seed, *shape, high=1.9)
    terms = [of_spectrum(A, b, lambda v, j=j: (1 - v) ** j) for j in range(steps + 1)]
    assert_close(neumann(A, b, steps), torch.stack(terms).cumsum(0), **EXACT)


@settings(deadline=None, max_examples=15)
@given(SHAPES, st.integers(0, 8), st.integers(0, 10**6))
def test_chebyshev_leaves_the_chebyshev_polynomial(shape, steps, seed):
    """The error is T_k((high + low - 2 A) / (high - low)) / T_k(...), applied to the first one."""
    low, high = 0.4, 3.0
    A, b = system(seed, *shape, low=low, high=high)
    solution = torch.linalg.solve(A, b[..., None])[..., 0]
    start = torch.ones_like(b)
    path = chebyshev(A, b, low, high, steps, start)
    at = [0.0] * steps + [1.0]
    whole = polynomials.chebval((high + low) / (high - low), at)
    left = of_spectrum(
        A,
        start - solution,
        lambda v: polynomials.chebval((high + low - 2 * v) / (high - low), at) / whole,
    )
    assert_close(path[-1] - solution, left, **EXACT)
    assert chebyshev_bound(high / low, steps) == pytest.approx(1 / whole)


def test_bounds_are_kept_and_chebyshev_is_faster():
    low, high = 0.2, 5.0
    A, b = system(1, 20, 6, low=low, high=high)
    solution = torch.linalg.solve(A, b[..., None])[..., 0]
    size = solution.norm(dim=-1)
    plain = (richardson(A, b, 2 / (low + high), 40) - solution).norm(dim=-1) / size
    best = (chebyshev(A, b, low, high, 40) - solution).norm(dim=-1) / size
    for k in range(41):
        assert plain[k].max() <= richardson_bound(high / low, k) * (1 + 1e-9)
        assert best[k].max() <= chebyshev_bound(high / low, k) * (1 + 1e-6) + 1e-13
    assert best[20].max() < plain[20].max() / 20


def test_one_eigenvalue_takes_one_step():
    b = torch.randn(3, 4).double()
    A = 2.5 * torch.eye(4).double().expand(3, 4, 4)
    assert_close(chebyshev(A, b, 2.5, 2.5, 3)[1:], (b / 2.5).expand(3, 3, 4), **EXACT)
    assert richardson_bound(1, 1) == chebyshev_bound(1, 1) == 0


def test_coefficients_may_differ_from_system_to_system():
    A, b = system(2, 3, 4)
    highs = torch.tensor([2.0, 3.0, 4.0]).double()
    together = chebyshev(A, b, 0.5 + 0 * highs, highs, 6)
    for i, high in enumerate(highs.tolist()):
        assert_close(together[:, i], chebyshev(A[i], b[i], 0.5, high, 6), **EXACT)
    assert len(chebyshev_coefficients(1, 2, 0)) == 0


def test_a_step_beyond_the_limit_diverges():
    A, b = system(3, 5, low=0.5, high=2.0)
    solution = torch.linalg.solve(A, b)
    errors = (richardson(A, b, 1.1 * 2 / 2.0, 60) - solution).norm(dim=-1)
    assert errors[-1] > 100 * errors[0]


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda A, b: chebyshev(A, b, 0.0, 2.0, 3), ValueError, "low: got 0.0"),
        (lambda A, b: chebyshev(A, b, 3.0, 2.0, 3), ValueError, "low: got 3.0, above high"),
        (lambda A, b: chebyshev(A, b, 1.0, float("inf"), 3), ValueError, "high: got inf"),
        (lambda A, b: richardson(A, b, -1.0, 3), ValueError, "step_size: got -1"),
        (lambda A, b: richardson(A, b, 1.0, -1), ValueError, "steps: got -1"),
        (lambda A, b: richardson(A[..., :2], b, 1.0, 1), ValueError, "A: got shape"),
        (lambda A, b: richardson(A.float(), b, 1.0, 1), TypeError, "A: torch.float32"),
        (lambda A, b: neumann(A.triu(), b, 1), ValueError, "A: not symmetric"),
        (lambda A, b: chebyshev_bound(0.5, 1), ValueError, "condition: got 0.5"),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(*system(0, 2, 3))
