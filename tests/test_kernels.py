"""Kernels are the inner products they claim to be, and descent in their space is what it says.

Expected values come from loops in NumPy or from sampled features, not from the package.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.kernels import (
    ArcCosineKernel,
    ExponentialKernel,
    FunctionalGradientDescent,
    KernelRidge,
    LinearKernel,
    RBFKernel,
    SoftmaxWeights,
    kernel_descent_path,
)
from icl_lessons.estimators.least_squares import OrdinaryLeastSquares, Ridge
from icl_lessons.types import Learner

SYMMETRIC = [LinearKernel(), ArcCosineKernel(), RBFKernel(0.8), ExponentialKernel(1.5)]


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def by_hand(kernel, a, b):
    """The kernel of two vectors, from its formula."""
    match kernel:
        case LinearKernel():
            return float(a @ b)
        case RBFKernel():
            return math.exp(-float((a - b) @ (a - b)) / (2 * kernel.length_scale**2))
        case ExponentialKernel():
            return math.exp(float(a @ b) / kernel.temperature)
        case ArcCosineKernel():
            lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
            if lengths == 0:
                return 0.0
            angle = math.acos(max(-1.0, min(1.0, float(a @ b) / lengths)))
            return lengths * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)


@pytest.mark.parametrize("kernel", SYMMETRIC, ids=lambda k: type(k).__name__)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_kernel_is_its_formula_symmetric_and_positive(kernel, seed, d, p, q):
    queries, keys = draw(seed, 2, p, d), draw(seed + 1, 2, q, d)
    got = kernel(queries, keys)
    expected = [
        [[by_hand(kernel, a, b) for b in keys[i].numpy()] for a in queries[i].numpy()]
        for i in range(2)
    ]
    assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-10)
    assert_close(kernel(keys, queries), got.mT, rtol=1e-12, atol=1e-12)
    values = torch.linalg.eigvalsh(kernel(keys, keys))
    assert (values[:, 0] > -1e-9 * values[:, -1].abs()).all()


def test_the_arc_cosine_kernel_is_the_mean_over_relu_features():
    a, b = draw(3, 4, 3), draw(4, 5, 3)
    features = draw(5, 3, 400_000)
    sampled = (a @ features).relu() @ (b @ features).relu().T / features.shape[1]
    assert_close(ArcCosineKernel()(a, b), sampled, rtol=0, atol=0.02)
    zero = torch.zeros(1, 3, dtype=torch.float64)
    assert ArcCosineKernel()(zero, b).abs().max() == 0


def test_softmax_weights_sum_to_one_and_are_the_exponential_kernel_over_its_sums():
    a, b = draw(6, 2, 3, 4), draw(7, 2, 5, 4)
    weights, kernel = SoftmaxWeights(2.0)(a, b), ExponentialKernel(2.0)(a, b)
    assert_close(weights.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    assert_close(weights, kernel / kernel.sum(-1, keepdim=True))
    assert (SoftmaxWeights()(a, a) - SoftmaxWeights()(a, a).mT).abs().max() > 0.01


def test_on_inputs_of_one_length_rbf_and_exponential_are_multiples():
    x = draw(8, 6, 3)
    x = 1.3 * x / x.norm(dim=-1, keepdim=True)
    ratio = ExponentialKernel()(x, x) / RBFKernel()(x, x)
    assert_close(ratio, torch.full_like(ratio, math.exp(1.3**2)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_a_step_adds_each_residual_times_its_kernel(seed, n, d, m):
    kernel = RBFKernel()
    xs, ys, x_query = draw(seed, 2, n, d), draw(seed + 1, 2, n, m), draw(seed + 2, 2, 3, d)
    rates = (0.3, 0.0, 0.2)
    path = kernel_descent_path(kernel, xs, ys, x_query, rates)
    for b in range(2):
        inputs, targets = xs[b].numpy(), ys[b].numpy()
        centres: list[tuple[np.ndarray, np.ndarray]] = []  # f = sum of weight times k(., centre)

        def function(x, centres=centres):
            return sum((w * by_hand(kernel, x, c) for w, c in centres), np.zeros(m))

        for step, rate in enumerate((None, *rates)):
            if rate is not None:
                residuals = [y - function(x) for x, y in zip(inputs, targets, strict=True)]
                centres += [(rate * r, x) for r, x in zip(residuals, inputs, strict=True)]
            expected = np.stack([function(q) for q in x_query[b].numpy()])
            assert np.abs(path[step, b].numpy() - expected).max() < 1e-11


def test_the_linear_kernel_descends_as_gradient_descent_does():
    xs, ys, x_query = draw(1, 3, 7, 4), draw(2, 3, 7, 2), draw(3, 3, 5, 4)
    sizes = (0.2, 0.4, 0.1)
    learner = FunctionalGradientDescent(LinearKernel(), tuple(s / 7 for s in sizes))
    assert isinstance(learner, Learner)
    expected = GradientDescent(sizes, 3)(xs, ys, x_query)
    assert_close(learner(xs, ys, x_query), expected, rtol=1e-12, atol=1e-12)


def test_descent_ends_at_the_kernel_interpolation():
    xs, ys, x_query = draw(1, 3, 4, 4), draw(2, 3, 4, 2), draw(3, 3, 5, 4)
    kernel = RBFKernel()
    end = kernel_descent_path(kernel, xs, ys, x_query, [0.7] * 3000)[-1]
    assert_close(end, KernelRidge(kernel)(xs, ys, x_query), rtol=1e-8, atol=1e-8)
    assert_close(KernelRidge(kernel)(xs, ys, xs), ys, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n", [3, 9], ids=["fewer examples", "more examples"])
def test_kernel_ridge_with_the_linear_kernel_is_ridge(n):
    xs, ys, x_query = draw(1, 3, n, 5), draw(2, 3, n, 2), draw(3, 3, 4, 5)
    kernel = LinearKernel()
    assert_close(KernelRidge(kernel, 0.3)(xs, ys, x_query), Ridge(0.3)(xs, ys, x_query))
    if n < 5:  # with more examples than coordinates the targets cannot be met
        expected = OrdinaryLeastSquares()(xs, ys, x_query)
        assert_close(KernelRidge(kernel)(xs, ys, x_query), expected)


def test_kernel_ridge_is_the_conditional_mean_of_a_normal_vector():
    kernel, n = RBFKernel(), 5
    xs, x_query = draw(1, 1, n, 2), draw(2, 1, 1, 2)
    both = torch.cat([xs, x_query], 1)[0]
    precision = torch.linalg.inv(kernel(both, both) + 0.1 * torch.eye(n + 1, dtype=xs.dtype))
    ys = draw(3, 1, n, 1)
    # For a normal vector the mean of one entry given the others is read off the precision.
    expected = -(precision[n, :n] @ ys[0, :, 0]) / precision[n, n]
    got = KernelRidge(kernel, 0.1)(xs, ys, x_query).item()
    assert got == pytest.approx(expected.item(), rel=1e-9)


def test_bad_arguments_are_named(as_readers_run_it):
    for kernel in (RBFKernel, ExponentialKernel, SoftmaxWeights):
        with pytest.raises(ValueError, match="use a finite number greater than 0"):
            kernel(0.0)
    with pytest.raises(ValueError, match="rates: got -0.1"):
        FunctionalGradientDescent(LinearKernel(), (0.1, -0.1))
    with pytest.raises(TypeError, match="rates: got 'fast'"):
        FunctionalGradientDescent(LinearKernel(), "fast")
    with pytest.raises(ValueError, match="penalty: got -1"):
        KernelRidge(LinearKernel(), -1)
    empty = torch.zeros(1, 0, 2).double()
    with pytest.raises(ValueError, match="xs: the context is empty"):
        FunctionalGradientDescent(LinearKernel(), (0.1,))(empty, empty, empty)
