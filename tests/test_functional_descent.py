"""Attention with a kernel for its scores is functional gradient descent, whatever the sizes."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import Verdict
from icl_lessons.estimators.kernels import (
    FunctionalGradientDescent,
    LinearKernel,
    RBFKernel,
    SoftmaxWeights,
    kernel_descent_path,
)
from icl_lessons.gradient_descent.experiments.functional_descent import (
    ATTENTION,
    FunctionalDescentConfig,
    functional_descent,
)
from icl_lessons.gradient_descent.functional_descent import (
    errors_of_rates,
    kernel_attention,
    power_features,
    product_polynomial,
    relative_error,
    tuned_rates,
)
from icl_lessons.gradient_descent.one_step import gradient_descent_attention
from icl_lessons.ledger import collect_experiments, stored_result
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.gaussian_process import GaussianProcess
from icl_lessons.types import Learner


def draw(seed, n, d, m, n_query):
    rng = np.random.default_rng(seed)
    shapes = (2, n, d), (2, n, m), (2, n_query, d)
    return [torch.from_numpy(0.6 * rng.standard_normal(shape)) for shape in shapes]


@pytest.mark.parametrize("name", ATTENTION)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 5), st.integers(1, 3),
    st.lists(st.floats(0.0, 0.4), min_size=1, max_size=4),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_layers_are_functional_gradient_steps(name, seed, n, d, m, rates):
    xs, ys, x_query = draw(seed, n, d, m, 2)
    kernel = ATTENTION[name]
    learner = kernel_attention(kernel, rates)
    path = learner.token_path(xs, ys, x_query)
    predictions = kernel_descent_path(kernel, xs, ys, x_query, rates)
    fitted = kernel_descent_path(kernel, xs, ys, xs, rates)
    assert_close(-path[:, :, n:, d:], predictions, rtol=1e-11, atol=1e-11)
    assert_close(path[:, :, :n, d:], ys - fitted, rtol=1e-11, atol=1e-11)
    assert_close(path[..., :n, :d], xs.expand(len(path), -1, -1, -1), rtol=0, atol=0)
    assert isinstance(learner, Learner)


def planted(kernel, xs, ys, x_query, rates, *, query_is_key=False, sequential=False):
    """The layer by hand, on one query, with two mistakes to switch on."""
    tokens = torch.cat([xs, x_query], 1)
    labels = torch.cat([ys, torch.zeros_like(x_query[..., :1]).expand(-1, -1, ys.shape[2])], 1)
    n = xs.shape[1]
    keys = n + 1 if query_is_key else n
    for rate in rates:
        old = labels if sequential else labels.clone()  # sequential: later tokens see new labels
        for j in range(n + 1):
            scores = kernel(tokens[:, j : j + 1], tokens[:, :keys])
            labels[:, j : j + 1] = labels[:, j : j + 1] - rate * scores @ old[:, :keys]
    return -labels[:, n:]


@pytest.mark.parametrize(
    "mistake, steps, exact",
    [
        ({}, 3, True),
        ({"query_is_key": True}, 1, True),
        ({"query_is_key": True}, 3, False),
        ({"sequential": True}, 1, False),
        ({"sequential": True}, 3, False),
    ],
)
def test_planted_mistakes_are_noticed(mistake, steps, exact):
    xs, ys, x_query = draw(3, 6, 3, 2, 1)
    kernel, rates = RBFKernel(), [0.3] * steps
    got = planted(kernel, xs, ys, x_query, rates, **mistake)
    expected = kernel_attention(kernel, rates)(xs, ys, x_query)
    error = (got - expected).abs().max().item()
    assert error < 1e-12 if exact else error > 1e-2


def test_the_linear_kernel_is_the_construction_of_proposition_1():
    xs, ys, x_query = draw(4, 7, 4, 2, 3)
    sizes = (0.2, 0.5, 0.1)
    expected = gradient_descent_attention(4, 2, 7, sizes, steps=3)
    got = kernel_attention(LinearKernel(), [size / 7 for size in sizes])
    assert_close(
        got.token_path(xs, ys, x_query),
        expected.token_path(xs, ys, x_query),
        rtol=1e-12,
        atol=1e-12,
    )


def test_float32_contexts_are_taken():
    xs, ys, x_query = (t.float() for t in draw(5, 5, 3, 1, 2))
    got = kernel_attention(RBFKernel(), [0.2])(xs, ys, x_query)
    assert got.dtype == torch.float32


# --- tuning -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompts():
    task = GaussianProcess(kernel=RBFKernel(), d=3, input_norm=1.2, n_query=3)
    return task.sample(300, 8, generator=seeded(0), dtype=torch.float64)


@pytest.mark.parametrize("kernel", [LinearKernel(), RBFKernel(), SoftmaxWeights()])
def test_the_error_by_polynomials_is_that_of_the_layers(prompts, kernel):
    rates = [[0.1], [0.05, 0.3], [0.02, 0.1, 0.2]]
    expected = [
        relative_error(kernel_attention(kernel, r)(*prompts.context), prompts) for r in rates
    ]
    assert_close(errors_of_rates(kernel, prompts, rates), np.array(expected), rtol=1e-9, atol=0)


@pytest.mark.parametrize("kernel", [RBFKernel(), SoftmaxWeights()])
def test_tuned_rates_cannot_be_improved(prompts, kernel):
    found = tuned_rates(kernel, prompts, 4)
    errors = errors_of_rates(kernel, prompts, found)
    assert [len(rates) for rates in found] == [1, 2, 3, 4]
    assert (np.diff(errors) < 0).all()  # a layer more is no worse
    for rates, error in zip(found, errors, strict=True):
        for k in range(len(rates)):
            for factor in (0.97, 1.03):
                changed = [r * (factor if i == k else 1) for i, r in enumerate(rates)]
                assert errors_of_rates(kernel, prompts, [changed])[0] > error * (1 - 1e-9)
    # No polynomial of the degree does better, whether its roots are rates or not.
    features, _ = power_features(kernel, prompts, 4)
    target = prompts.y_query.reshape(-1).numpy()
    for depth, error in enumerate(errors, 1):
        free = np.linalg.lstsq(features[:, :depth], target, rcond=None)[0]
        left = np.square(features[:, :depth] @ free - target).sum() / np.square(target).sum()
        assert left <= error * (1 + 1e-9)
        assert error < 1.05 * left
        assert depth > 1 or error == pytest.approx(left, rel=1e-6)


@given(st.lists(st.floats(-2.0, 2.0), min_size=0, max_size=5), st.floats(-2.0, 2.0))
@settings(max_examples=25, deadline=None)
def test_product_polynomial(rates, t):
    value = sum(c * t**k for k, c in enumerate(product_polynomial(np.array(rates))))
    assert value == pytest.approx(np.prod([1 - r * t for r in rates]), abs=1e-9)


# --- experiment and claims ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    return functional_descent(FunctionalDescentConfig())


def test_every_layer_helps_and_none_beats_bayes(lesson):
    assert lesson.error.shape == (3, 4, 5, 7)
    assert (lesson.error >= lesson.bayes[:, :, None, None] - 1e-9).all()
    assert (lesson.error[..., 2] < lesson.error[..., 0]).all()


def test_a_mismatch_costs_as_in_the_table(lesson):
    table = lesson.table.mean(0)
    names = list(lesson.attention_kernels)
    linear, arc, rbf, softmax = (names.index(n) for n in ("linear", "arc-cosine", "RBF", "softmax"))
    assert table[linear].argmin() == linear
    assert table[rbf, rbf] < 0.95 * table[rbf, arc] < 0.5 * table[rbf, linear]
    assert table[arc, softmax] < 0.9 * table[arc, arc]
    assert_close(table[rbf], table[names.index("exponential")], rtol=1e-5, atol=1e-5)
    assert (lesson.matched_is_best()[:, [0, 2, 3]] == 1).all()
    assert (lesson.matched_is_best()[:, 1] == 0).all()


def test_every_claim_has_the_verdict_that_the_book_discusses(stored_verdicts):
    expected = {
        "cheng2024-functional-descent": Verdict.HOLDS,
        "cheng2024-linear-kernel": Verdict.HOLDS,
        "cheng2024-softmax-attention": Verdict.HOLDS,
        "cheng2024-limit-is-bayes": Verdict.HOLDS,
        "cheng2024-matched-kernel": Verdict.IN_PART,
        "cheng2024-matched-against-softmax": Verdict.IN_PART,
        "cheng2024-linear-fails-on-curves": Verdict.HOLDS,
        "cheng2024-depth-towards-bayes": Verdict.IN_PART,
    }
    assert {name: stored_verdicts[name] for name in expected} == expected


def test_the_stored_paper_scale_run_is_the_declared_one():
    stored = stored_result("functional_descent")["config"]
    declared = collect_experiments()["functional_descent"].configs[Scale.PAPER]
    for name, value in dataclasses.asdict(declared).items():
        if name != "device":
            assert stored[name] == (list(value) if isinstance(value, tuple) else value), name


@pytest.mark.parametrize(
    "bad", [{"layers": 0}, {"table_depth": 9}, {"seeds": ()}, {"input_scale": -1.0}]
)
def test_a_wrong_setting_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FunctionalDescentConfig(**bad)


def test_the_learner_of_the_estimators_agrees():
    xs, ys, x_query = draw(6, 5, 3, 1, 2)
    learner = FunctionalGradientDescent(SoftmaxWeights(), (1.0, 0.5))
    assert_close(
        learner(xs, ys, x_query), kernel_attention(SoftmaxWeights(), (1.0, 0.5))(xs, ys, x_query)
    )
