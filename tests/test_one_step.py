"""Proposition 1: linear attention layers are gradient steps, whatever the sizes.

The expected values come from a loop over examples in NumPy, written as in a textbook; it shares no
code with the package.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.one_step import (
    LinearSelfAttentionLearner,
    gradient_descent_attention,
    gradient_descent_matrices,
)
from icl_lessons.models.attention import SelfAttention
from icl_lessons.types import Learner

BATCH, N_CONTEXT, D, M, N_QUERY = 3, 7, 4, 2, 5
STEP = 0.3


def descend(xs, ys, sizes, start):
    """The models ``W_0, ..., W_K`` of one context, example by example."""
    weights, path = start.copy(), [start.copy()]
    for size in sizes:
        gradient = np.zeros_like(weights)
        for x, y in zip(xs, ys, strict=True):
            gradient += np.outer(weights @ x - y, x) / len(xs)
        weights = weights - size * gradient
        path.append(weights)
    return path


def draw(seed, batch, n, d, m, n_query):
    rng = np.random.default_rng(seed)
    shapes = (batch, n, d), (batch, n, m), (batch, n_query, d), (m, d)
    return [rng.standard_normal(shape) for shape in shapes]


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def expected_predictions(xs, ys, x_query, sizes, start):
    return np.stack(
        [q @ descend(x, y, sizes, start)[-1].T for x, y, q in zip(xs, ys, x_query, strict=True)]
    )


def relative_error(got, expected):
    return float(np.abs(np.asarray(got) - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.fixture
def context():
    return draw(0, BATCH, N_CONTEXT, D, M, N_QUERY)


@st.composite
def settings_of_a_construction(draw_from):
    d = draw_from(st.integers(1, 8))
    steps = draw_from(st.integers(1, 7))
    size = st.floats(0.0, 1.2, allow_nan=False)
    shared = draw_from(st.booleans())
    return {
        "seed": draw_from(st.integers(0, 2**32 - 1)),
        "batch": draw_from(st.integers(1, 3)),
        "n": draw_from(st.one_of(st.integers(1, 3), st.integers(1, 29))),
        "d": d,
        "m": draw_from(st.integers(1, 4)),
        "n_query": draw_from(st.integers(1, 3)),
        "steps": steps,
        "step_size": draw_from(size if shared else st.tuples(*[size] * steps)),
        "heads": draw_from(st.integers(1, d)),
        "start": draw_from(st.sampled_from(["none", "zero", "random"])),
    }


@given(settings_of_a_construction())
@settings(max_examples=100, deadline=None)
def test_layers_are_gradient_steps_for_any_sizes(case):
    xs, ys, x_query, start = draw(
        case["seed"], case["batch"], case["n"], case["d"], case["m"], case["n_query"]
    )
    if case["start"] != "random":
        start = np.zeros_like(start)
    given_start = None if case["start"] == "none" else torch.from_numpy(start)
    # Steps up to 1.2 times the inverse of the largest eigenvalue, so that no model explodes.
    largest = max(np.linalg.eigvalsh(x.T @ x / len(x)).max() for x in xs)
    step_size = np.asarray(case["step_size"]) / largest
    sizes = np.broadcast_to(step_size, (case["steps"],))
    learner = gradient_descent_attention(
        case["d"],
        case["m"],
        case["n"],
        float(step_size) if step_size.ndim == 0 else tuple(map(float, step_size)),
        given_start,
        steps=case["steps"],
        heads=case["heads"],
    )
    with torch.no_grad():
        path = learner.token_path(*tensors(xs, ys, x_query)).numpy()
        predicted = learner(*tensors(xs, ys, x_query)).numpy()

    assert relative_error(predicted, expected_predictions(xs, ys, x_query, sizes, start)) < 1e-12
    n, d = case["n"], case["d"]
    assert np.array_equal(path[..., :n, :d], np.broadcast_to(xs, (len(path), *xs.shape)))
    assert np.array_equal(path[..., n:, :d], np.broadcast_to(x_query, (len(path), *x_query.shape)))
    for b in range(case["batch"]):
        for k, weights in enumerate(descend(xs[b], ys[b], sizes, start)):
            residual = ys[b] - xs[b] @ (weights - start).T
            assert relative_error(path[k, b, :n, d:], residual) < 1e-12
            assert relative_error(path[k, b, n:, d:], -x_query[b] @ weights.T) < 1e-12


def test_the_tolerance_notices_a_step_of_another_size(context):
    xs, ys, x_query, start = context
    learner = gradient_descent_attention(D, M, N_CONTEXT, STEP, torch.from_numpy(start), steps=2)
    got = learner(*tensors(xs, ys, x_query)).detach()
    other = expected_predictions(xs, ys, x_query, [STEP * (1 + 1e-9)] * 2, start)
    assert relative_error(got, other) > 1e-12


def test_it_is_a_learner_with_the_four_printed_matrices():
    """Sizes small enough to write the matrices out by hand: d = 2, m = 1, N = 5."""
    start = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    w_query, w_key, w_value, projection = gradient_descent_matrices(2, 1, 5, 0.5, start)
    compare = torch.tensor([[[1, 0, 0], [0, 1, 0], [0, 0, 0]]], dtype=torch.float64)
    residual = torch.tensor([[[0, 0, 0], [0, 0, 0], [3, -4, -1]]], dtype=torch.float64)
    assert_close(w_query, compare, rtol=0, atol=0)
    assert_close(w_key, compare, rtol=0, atol=0)
    assert_close(w_value, residual, rtol=0, atol=0)
    assert_close(projection, 0.1 * torch.eye(3, dtype=torch.float64)[None], rtol=0, atol=0)
    assert isinstance(gradient_descent_attention(2, 1, 5, 0.5, start), Learner)


@pytest.mark.parametrize("heads", [1, 2, 3, D])
def test_heads_share_the_coordinates_and_sum_to_the_merged_head(heads):
    merged = gradient_descent_matrices(D, M, N_CONTEXT, STEP)
    split = gradient_descent_matrices(D, M, N_CONTEXT, STEP, heads=heads)
    assert all(matrix.shape == (heads, D + M, D + M) for matrix in split)
    comparisons = (split[1].mT @ split[0]).sum(0)
    assert_close(comparisons, (merged[1].mT @ merged[0])[0], rtol=0, atol=0)
    assert all(matrix.abs().sum() > 0 for matrix in split[0])  # none of them idle


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("with_start", [False, True])
def test_the_short_way_for_one_layer_equals_the_token_path(context, heads, with_start):
    xs, ys, x_query, start = tensors(*context)
    gen = torch.Generator().manual_seed(3)
    layer = SelfAttention(D + M, heads, init_std=0.7, generator=gen, dtype=torch.float64)
    learner = LinearSelfAttentionLearner([layer], D, start if with_start else None)
    from_tokens = -learner.token_path(xs, ys, x_query)[-1, :, N_CONTEXT:, D:]
    assert_close(learner(xs, ys, x_query), from_tokens, rtol=1e-12, atol=1e-12)


def test_a_softmax_layer_is_not_taken_the_short_way(context):
    xs, ys, x_query, _ = tensors(*context)
    gen = torch.Generator().manual_seed(4)
    layer = SelfAttention(D + M, kind="softmax", init_std=0.7, generator=gen, dtype=torch.float64)
    learner = LinearSelfAttentionLearner([layer], D)
    from_tokens = -learner.token_path(xs, ys, x_query)[-1, :, N_CONTEXT:, D:]
    assert_close(learner(xs, ys, x_query), from_tokens)


def test_layers_of_one_size_are_one_module_and_others_are_not():
    assert len(gradient_descent_attention(D, M, N_CONTEXT, STEP, steps=5).layers) == 1
    learner = gradient_descent_attention(D, M, N_CONTEXT, (0.1, 0.2, 0.1), steps=3)
    assert len(learner.layers) == 2
    assert learner.order == (0, 1, 0)


# --- what breaks it -----------------------------------------------------------------------------


def learner_from(layers, start, **options):
    return LinearSelfAttentionLearner(layers, D, start, **options)


def layer_for(start, step=STEP, n=N_CONTEXT):
    return SelfAttention.from_matrices(*gradient_descent_matrices(D, M, n, step, start))


def query_is_a_key(start, steps):
    return gradient_descent_attention(D, M, N_CONTEXT, STEP, start, steps, query_is_key=True)


def start_only_in_the_first_layer(start, steps):
    return learner_from([layer_for(start)] + [layer_for(None)] * (steps - 1), start)


def query_slot_zero(start, steps):
    return learner_from([layer_for(start)] * steps, None)


def query_counted_in_the_mean(start, steps):
    return gradient_descent_attention(D, M, N_CONTEXT + 1, STEP, start, steps)


def correct(start, steps):
    return gradient_descent_attention(D, M, N_CONTEXT, STEP, start, steps)


# For W_0 = 0 and one step, W_0 = 0 and more, W_0 != 0 and one step, W_0 != 0 and more.
EXACT = {
    correct: (True, True, True, True),
    query_is_a_key: (True, False, False, False),
    start_only_in_the_first_layer: (True, True, True, False),
    query_slot_zero: (True, True, False, False),
    query_counted_in_the_mean: (False, False, False, False),
}


@pytest.mark.parametrize("variant", EXACT, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("column", range(4), ids=["zero-1", "zero-3", "start-1", "start-3"])
def test_what_breaks_the_construction(context, variant, column):
    xs, ys, x_query, start = context
    start, steps = start * (column >= 2), (1, 3)[column % 2]
    expected = expected_predictions(xs, ys, x_query, [STEP] * steps, start)
    predicted = variant(torch.from_numpy(start), steps)(*tensors(xs, ys, x_query)).detach()
    error = relative_error(predicted, expected)
    if EXACT[variant][column]:
        assert error < 1e-12
    else:
        assert error > 1e-2


@pytest.mark.parametrize("steps", [1, 3])
def test_a_zero_query_slot_is_off_by_the_initial_prediction(context, steps):
    xs, ys, x_query, start = context
    expected = expected_predictions(xs, ys, x_query, [STEP] * steps, start)
    learner = query_slot_zero(torch.from_numpy(start), steps)
    predicted = learner(*tensors(xs, ys, x_query)).detach().numpy()
    assert relative_error(predicted + x_query @ start.T, expected) < 1e-12


def test_another_context_length_is_a_step_of_another_size(context):
    """The weights hold eta / N: Shen et al.'s objection, as a factor."""
    xs, ys, x_query, start = context
    learner = gradient_descent_attention(D, M, 2 * N_CONTEXT, STEP, torch.from_numpy(start))
    expected = expected_predictions(xs, ys, x_query, [STEP / 2], start)
    assert relative_error(learner(*tensors(xs, ys, x_query)).detach(), expected) < 1e-12


# --- symmetries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [-3.0, 0.2])
def test_only_the_products_matter(context, scale):
    """W_KQ / s with s W_PV, and any invertible change of basis of the keys: the same function."""
    xs, ys, x_query, start = tensors(*context)
    matrices = gradient_descent_matrices(D, M, N_CONTEXT, STEP, start)
    w_query, w_key, w_value, projection = matrices
    gen = torch.Generator().manual_seed(5)
    change = torch.randn(D + M, D + M, generator=gen, dtype=torch.float64) + 3 * torch.eye(D + M)
    other = SelfAttention.from_matrices(
        torch.linalg.inv(change).mT @ w_query / scale, change @ w_key, scale * w_value, projection
    )
    expected = learner_from([SelfAttention.from_matrices(*matrices)] * 3, start)
    got = learner_from([other] * 3, start)
    assert_close(got(xs, ys, x_query), expected(xs, ys, x_query), rtol=1e-11, atol=1e-11)


def test_the_order_of_the_examples_does_not_matter(context):
    xs, ys, x_query, start = tensors(*context)
    order = torch.randperm(N_CONTEXT, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(order, torch.arange(N_CONTEXT))
    learner = gradient_descent_attention(D, M, N_CONTEXT, STEP, start, steps=3)
    assert_close(
        learner(xs[:, order], ys[:, order], x_query),
        learner(xs, ys, x_query),
        rtol=1e-13,
        atol=1e-13,
    )


def test_rotating_inputs_and_initial_weights_together_changes_nothing(context):
    xs, ys, x_query, start = tensors(*context)
    gen = torch.Generator().manual_seed(7)
    rotation = torch.linalg.qr(torch.randn(D, D, generator=gen, dtype=torch.float64)).Q
    plain = gradient_descent_attention(D, M, N_CONTEXT, STEP, start, steps=3)
    turned = gradient_descent_attention(D, M, N_CONTEXT, STEP, start @ rotation.T, steps=3)
    assert_close(
        turned(xs @ rotation.T, ys, x_query @ rotation.T),
        plain(xs, ys, x_query),
        rtol=1e-12,
        atol=1e-12,
    )


def test_a_query_does_not_see_the_other_queries(context):
    xs, ys, x_query, start = tensors(*context)
    learner = gradient_descent_attention(D, M, N_CONTEXT, STEP, start, steps=3)
    together = learner(xs, ys, x_query)
    alone = torch.cat([learner(xs, ys, x_query[:, [q]]) for q in range(N_QUERY)], 1)
    assert_close(together, alone, rtol=1e-13, atol=1e-13)


def test_it_equals_the_learner_of_the_estimators(context):
    xs, ys, x_query, start = tensors(*context)
    sizes = (0.1, 0.0, 0.4)
    construction = gradient_descent_attention(D, M, N_CONTEXT, sizes, start, steps=3)
    descent = GradientDescent(sizes, 3, start)
    assert_close(construction(xs, ys, x_query), descent(xs, ys, x_query), rtol=1e-12, atol=1e-12)


# --- errors -------------------------------------------------------------------------------------

EMPTY = {
    "xs": torch.zeros(BATCH, 0, D, dtype=torch.float64),
    "ys": torch.zeros(BATCH, 0, M, dtype=torch.float64),
}


@pytest.mark.parametrize(
    "change, error, sentence",
    [
        ({"n_context": 0}, ValueError, r"n_context: .*N = 0.*eta/N.*no meaning"),
        ({"n_context": -1}, ValueError, "n_context: got -1"),
        ({"n_context": 2.0}, ValueError, "n_context: got 2.0"),
        ({"d": 0}, ValueError, "d: got 0"),
        ({"m": 0}, ValueError, "m: got 0"),
        ({"steps": 0}, ValueError, "steps: got 0; use an integer of 1 or more"),
        ({"step_size": -0.1}, ValueError, "step_size: got -0.1; .* 0 or more"),
        ({"step_size": float("nan")}, ValueError, "step_size: got nan"),
        ({"step_size": float("inf")}, ValueError, "step_size: got inf"),
        ({"step_size": (0.1, 0.2)}, ValueError, "step_size: 2 sizes for 3 steps"),
        ({"step_size": (0.1, -0.2, 0.1)}, ValueError, "step_size: got -0.2"),
        ({"step_size": "fast"}, TypeError, "step_size: got 'fast'"),
        ({"heads": 0}, ValueError, "heads: got 0"),
        ({"heads": D + 1}, ValueError, f"heads: got {D + 1}; use at most d = {D}"),
        (
            {"initial_weights": torch.zeros(D, M).double()},
            ValueError,
            r"initial_weights: got shape \(4, 2\); use \[m, d\] = \(2, 4\)",
        ),
        ({"initial_weights": torch.zeros(M).double()}, ValueError, "initial_weights: got shape"),
        ({"initial_weights": [[0.0] * D] * M}, TypeError, "initial_weights: got list"),
        (
            {"initial_weights": torch.full((M, D), torch.nan).double()},
            ValueError,
            "initial_weights: holds NaN",
        ),
        (
            {"initial_weights": torch.zeros(M, D)},
            TypeError,
            "initial_weights: torch.float32, but dtype is torch.float64",
        ),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, change, error, sentence):
    arguments = {"d": D, "m": M, "n_context": N_CONTEXT, "step_size": STEP, "steps": 3}
    with pytest.raises(error, match=sentence):
        gradient_descent_attention(**(arguments | change))


@pytest.mark.parametrize("steps", [1, 2], ids=["short way", "token path"])
@pytest.mark.parametrize(
    "change, error, sentence",
    [
        (EMPTY, ValueError, "xs: the context is empty .N = 0.*no gradient to follow"),
        ({"xs": torch.zeros(N_CONTEXT, D).double()}, ValueError, "xs: got shape"),
        ({"xs": torch.zeros(BATCH, N_CONTEXT, D + 1).double()}, ValueError, "x_query: inputs of"),
        ({"xs": torch.zeros(BATCH, N_CONTEXT + 1, D).double()}, ValueError, "ys: 7 targets for"),
        ({"ys": torch.zeros(BATCH, N_CONTEXT, M + 1).double()}, ValueError, "ys: targets of 3"),
        ({"ys": torch.zeros(BATCH + 1, N_CONTEXT, M).double()}, ValueError, "ys: batch of 4"),
        ({"ys": torch.full((BATCH, N_CONTEXT, M), torch.nan).double()}, ValueError, "ys: holds"),
        ({"ys": torch.zeros(BATCH, N_CONTEXT, M)}, TypeError, "ys: dtype torch.float32 differs"),
        ({"x_query": torch.zeros(BATCH, N_QUERY, D).int()}, TypeError, "x_query: got dtype"),
        ({"x_query": torch.zeros(BATCH, N_QUERY, D - 1).double()}, ValueError, "x_query: inputs"),
        ({"x_query": torch.full((BATCH, N_QUERY, D), torch.inf).double()}, ValueError, "x_query: "),
        ({"x_query": np.zeros((BATCH, N_QUERY, D))}, TypeError, "x_query: got ndarray"),
    ],
)  # fmt: skip
def test_bad_contexts_are_named(as_readers_run_it, context, steps, change, error, sentence):
    learner = gradient_descent_attention(D, M, N_CONTEXT, STEP, steps=steps)
    arguments = dict(zip(("xs", "ys", "x_query"), tensors(*context[:3]), strict=True))
    with pytest.raises(error, match=sentence):
        learner(**(arguments | change))


@pytest.mark.parametrize("steps", [1, 2], ids=["short way", "token path"])
def test_a_context_for_other_layers_is_named(as_readers_run_it, context, steps):
    xs, ys, x_query, _ = tensors(*context)
    wider = gradient_descent_attention(D + 1, M, N_CONTEXT, STEP, steps=steps)
    with pytest.raises(ValueError, match="xs: inputs of 4 coordinates; the layers are for 5"):
        wider(xs, ys, x_query)
    learner = gradient_descent_attention(D, M, N_CONTEXT, STEP, steps=steps)
    with pytest.raises(TypeError, match="xs: torch.float32, but the layers hold torch.float64"):
        learner(xs.float(), ys.float(), x_query.float())
