"""Conventions between papers: conversions keep the prediction and come back where they began."""

import html
import itertools

import pytest
import torch
from torch.testing import assert_close

from icl_lessons.models import conventions as cv

LINEAR = [c for c in cv.PAPERS.values() if c.tokens == "joint" and c.layer == "linear"]
PAIRS = list(itertools.permutations(LINEAR, 2))
BATCH, N_CONTEXT, D, M = 3, 7, 4, 2


def ids(pair):
    return f"{pair[0].key}->{pair[1].key}"


@pytest.fixture
def context():
    gen = torch.Generator().manual_seed(0)
    xs, ys, x_query = (
        torch.randn(*shape, generator=gen, dtype=torch.float64)
        for shape in [(BATCH, N_CONTEXT, D), (BATCH, N_CONTEXT, M), (BATCH, 1, D)]
    )
    return xs, ys, x_query


def gradient_step(xs, ys, x_query, coefficient, steps=1, start=None):
    """Descent on one example after another inside the sum, written with loops on purpose."""
    out = []
    for x, y, q in zip(xs, ys, x_query, strict=True):
        w = torch.zeros(M, D, dtype=x.dtype) if start is None else start.clone()
        for _ in range(steps):
            gradient = torch.zeros_like(w)
            for x_i, y_i in zip(x, y, strict=True):
                gradient = gradient + torch.outer(w @ x_i - y_i, x_i)
            w = w - coefficient * gradient
        out.append(q @ w.T)
    return torch.stack(out)


def random_layer(seed=1, reads_inputs=True):
    gen = torch.Generator().manual_seed(seed)
    kq, pv = torch.randn(2, D + M, D + M, generator=gen, dtype=torch.float64)
    if not reads_inputs:
        pv[D:, :D] = 0
    return cv.LayerWeights(kq, pv)


def step_layer(coefficient):
    """Proposition 1 of von Oswald et al. 2023a with W_0 = 0, as a sum without 1/N."""
    kq = torch.zeros(D + M, D + M, dtype=torch.float64)
    kq[:D, :D] = torch.eye(D)
    pv = torch.zeros_like(kq)
    pv[D:, D:] = -coefficient * torch.eye(M, dtype=torch.float64)
    return cv.LayerWeights(kq, pv)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_converted_layer_predicts_the_same(pair, context):
    source, target = pair
    weights = random_layer(reads_inputs=source.query_is_key == target.query_is_key)
    converted = cv.convert_layer(weights, source, target, n_context=N_CONTEXT, d=D)
    assert_close(
        cv.predict(*context, [converted], target),
        cv.predict(*context, [weights], source),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_round_trip(pair):
    source, target = pair
    weights = random_layer(reads_inputs=False)
    there = cv.convert_layer(weights, source, target, n_context=N_CONTEXT, d=D)
    back = cv.convert_layer(there, target, source, n_context=N_CONTEXT, d=D)
    assert_close(back.key_query, weights.key_query, rtol=1e-15, atol=0)
    assert_close(back.projection_value, weights.projection_value, rtol=1e-15, atol=0)


@pytest.mark.parametrize("target", LINEAR, ids=lambda c: c.key)
def test_proposition_1_is_a_gradient_step_in_every_convention(target, context):
    ours = cv.convention("vonoswald2023transformers")
    weights = cv.convert_layer(step_layer(0.03), ours, target, n_context=N_CONTEXT, d=D)
    assert_close(cv.predict(*context, [weights], target), gradient_step(*context, 0.03))


def test_conversion_for_another_context_length_is_noticed(context):
    source, target = (
        cv.convention("vonoswald2023transformers"),
        cv.convention("ahn2023transformers"),
    )
    wrong = cv.convert_layer(step_layer(0.03), source, target, n_context=N_CONTEXT + 1, d=D)
    with pytest.raises(AssertionError):
        assert_close(cv.predict(*context, [wrong], target), gradient_step(*context, 0.03))


def test_initial_weights_start_the_query_slot(context):
    gen = torch.Generator().manual_seed(5)
    start = torch.randn(M, D, generator=gen, dtype=torch.float64)
    for c in LINEAR:
        assert_close(cv.predict(*context, [], c, start), context[2] @ start.T)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_stack_changes_sign_through_its_labels(steps, context):
    xs, ys, x_query = context
    ours = cv.convention("vonoswald2023transformers")
    flipped = cv.negate_label_slot(step_layer(0.03), D)
    tokens = cv.paper_tokens(xs, -ys, x_query, ours)
    for _ in range(steps):
        tokens = cv.layer_output(tokens, flipped, ours)
    assert_close(tokens[:, -1:, D:], gradient_step(xs, ys, x_query, 0.03, steps))


def test_negating_the_projection_does_not_change_the_sign_of_a_stack(context):
    """The tempting shortcut: it is right for one layer and wrong for two."""
    ours, theirs = cv.convention("ahn2023transformers"), cv.convention("zhang2024trained")
    weights = cv.LayerWeights(step_layer(0.2).key_query, step_layer(0.2).projection_value)
    converted = cv.convert_layer(weights, ours, theirs, n_context=N_CONTEXT, d=D)
    one = [
        cv.predict(*context, layers, c) for layers, c in [([weights], ours), ([converted], theirs)]
    ]
    two = [
        cv.predict(*context, layers, c)
        for layers, c in [([weights] * 2, ours), ([converted] * 2, theirs)]
    ]
    assert_close(one[0], one[1])
    assert (two[0] - two[1]).abs().max() > 1e-2


def test_no_conversion_when_the_query_reads_itself(context):
    source, target = cv.convention("zhang2024trained"), cv.convention("ahn2023transformers")
    with pytest.raises(ValueError, match="its own value is not zero"):
        cv.convert_layer(random_layer(), source, target, n_context=N_CONTEXT, d=D)


def test_initial_weights_make_the_query_a_harmless_key(context):
    """Read with plus, the query's value is W_0 x - W_0 x = 0; read with minus it is not."""
    gen = torch.Generator().manual_seed(5)
    start = torch.randn(M, D, generator=gen, dtype=torch.float64)
    layer = step_layer(0.03)
    layer.projection_value[D:, :D] = 0.03 * start  # value W_0 x - y, as in Proposition 1
    ours, theirs = cv.convention("vonoswald2023transformers"), cv.convention("zhang2024trained")
    sizes = {"n_context": N_CONTEXT, "d": D}
    with pytest.raises(ValueError, match="pass initial_weights"):
        cv.convert_layer(layer, ours, theirs, **sizes)
    converted = cv.convert_layer(layer, ours, theirs, **sizes, initial_weights=start)
    expected = gradient_step(*context, 0.03, start=start)
    assert_close(cv.predict(*context, [layer], ours, start), expected)
    assert_close(cv.predict(*context, [converted], theirs, start), expected)
    back = cv.convert_layer(converted, theirs, ours, **sizes, initial_weights=start)
    assert_close(back.projection_value, layer.projection_value)


def test_step_sizes_give_the_same_step(context):
    ours, theirs = cv.convention("vonoswald2023transformers"), cv.convention("akyurek2023what")
    alpha = cv.convert_step_size(0.7, ours, theirs, n_context=N_CONTEXT)
    assert_close(
        gradient_step(*context, 0.7 / N_CONTEXT),
        gradient_step(*context, 2 * alpha),
        rtol=1e-14,
        atol=0,
    )
    assert cv.convert_step_size(alpha, theirs, ours, n_context=N_CONTEXT) == pytest.approx(0.7)


@pytest.mark.parametrize("pair", list(itertools.permutations(cv.PAPERS.values(), 2)), ids=ids)
def test_losses_round_trip(pair):
    source, target = pair
    there = cv.convert_loss(0.3, source, target, d=20)
    assert cv.convert_loss(there, target, source, d=20) == pytest.approx(0.3, rel=1e-15)


def test_the_zero_predictor_is_at_one_in_garg_and_at_half_the_dimension_without():
    """Unit normal inputs and weights give E y^2 = d: both figures are the zero predictor's."""
    garg, zhang = cv.convention("garg2022what"), cv.convention("zhang2024trained")
    assert garg.loss_scale(20) * 20 == pytest.approx(1.0)
    assert cv.convert_loss(1.0, garg, zhang, d=20) == pytest.approx(10.0)


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: cv.convention("nobody2020"), "no convention for 'nobody2020'"),
        (lambda: cv.convention("garg2022what").attention_scale(3), "no single attention layer"),
        (lambda: cv.convention("zhang2024trained").step_scale(3), "names no step size"),
        (lambda: cv.convention("ahn2023transformers").attention_scale(0), "n_context must be"),
        (lambda: cv.LayerWeights(torch.eye(3), torch.eye(4)), "one width"),
        (lambda: cv.LayerWeights(torch.ones(3, 2), torch.eye(3)), "square"),
        (lambda: cv.negate_label_slot(cv.LayerWeights(torch.eye(3), torch.eye(3)), 3), "d must be"),
        (
            lambda: cv.convert_layer(
                cv.LayerWeights(torch.eye(3), torch.eye(3)),
                cv.convention("garg2022what"),
                cv.convention("zhang2024trained"),
                n_context=2,
                d=2,
            ),
            "there are no layer weights to convert",
        ),
    ],
)
def test_bad_input_is_told_what_is_allowed(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_the_registry_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        cv.PAPERS["new"] = cv.convention("garg2022what")


def test_table_has_every_paper_once_and_as_many_cells_as_columns():
    table = cv.conventions_table_html()
    for c in cv.PAPERS.values():
        assert table.count(f'<th scope="row">{html.escape(c.paper)}</th>') == 1
    assert table.count("<td>") == len(cv.PAPERS) * len(cv.TABLE_COLUMNS)
