"""Attention against loops over batch, heads and tokens that a person would write."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.models.attention import (
    SelfAttention,
    attention_scores,
    causal_mask,
    context_mask,
    linear_attention,
    softmax_attention,
)

BATCH, SEQUENCE, WIDTH, HEADS, HEAD_WIDTH, VALUE_WIDTH = 2, 6, 5, 3, 4, 7
ATTEND = {"linear": linear_attention, "softmax": softmax_attention}
kinds = pytest.mark.parametrize("kind", ATTEND)


def draw(
    seed=0,
    batch=BATCH,
    sequence=SEQUENCE,
    width=WIDTH,
    heads=HEADS,
    key=HEAD_WIDTH,
    value=VALUE_WIDTH,
):
    gen = torch.Generator().manual_seed(seed)
    shapes = {
        "tokens": (batch, sequence, width),
        "w_query": (heads, key, width),
        "w_key": (heads, key, width),
        "w_value": (heads, value, width),
        "projection": (heads, width, value),
    }
    return {
        name: torch.randn(*shape, generator=gen, dtype=torch.float64) / math.sqrt(width)
        for name, shape in shapes.items()
    }


def by_loops(kind, parts, mask=None, scale=None):
    """``e_j + sum_h P_h sum_i a_ij W_V e_i``, one pair of tokens after another."""
    tokens = parts["tokens"]
    out = tokens.clone()
    heads, key_width, _ = parts["w_query"].shape
    scale = 1 / math.sqrt(key_width) if scale is None else scale
    for b in range(len(tokens)):
        for h in range(heads):
            for j, asking in enumerate(tokens[b]):
                seen = [i for i in range(len(tokens[b])) if mask is None or mask[j, i]]
                query = parts["w_query"][h] @ asking
                scores = [float((parts["w_key"][h] @ tokens[b, i]) @ query) for i in seen]
                if kind == "softmax" and seen:
                    exponentials = [math.exp(scale * score) for score in scores]
                    scores = [value / sum(exponentials) for value in exponentials]
                for score, i in zip(scores, seen, strict=True):
                    value = parts["w_value"][h] @ tokens[b, i]
                    out[b, j] += parts["projection"][h] @ value * score
    return out


def random_mask(seed, sequence=SEQUENCE):
    gen = torch.Generator().manual_seed(seed)
    return torch.rand(sequence, sequence, generator=gen) < 0.5


MASKS = {
    "none": None,
    "all": torch.ones(SEQUENCE, SEQUENCE, dtype=torch.bool),
    "context": context_mask(4, 2),
    "causal": causal_mask(SEQUENCE),
    "random": random_mask(1),
}


@kinds
@pytest.mark.parametrize("name", MASKS)
def test_attention_is_its_sum_over_pairs(kind, name):
    parts = draw()
    got = ATTEND[kind](**parts, mask=MASKS[name])
    assert_close(got, by_loops(kind, parts, MASKS[name]), rtol=1e-12, atol=1e-12)


@given(
    kind=st.sampled_from(list(ATTEND)),
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    sequence=st.integers(1, 6),
    width=st.integers(1, 5),
    heads=st.integers(1, 3),
    key=st.integers(1, 4),
    value=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_attention_of_any_size(kind, seed, batch, sequence, width, heads, key, value):
    parts = draw(seed, batch, sequence, width, heads, key, value)
    mask = random_mask(seed, sequence)
    got = ATTEND[kind](**parts, mask=mask)
    assert_close(got, by_loops(kind, parts, mask), rtol=1e-11, atol=1e-11)


@kinds
def test_a_mask_turned_around_is_noticed(kind):
    parts, mask = draw(), MASKS["random"]
    assert not torch.equal(mask, mask.T)
    with pytest.raises(AssertionError):
        assert_close(ATTEND[kind](**parts, mask=mask.T), by_loops(kind, parts, mask))


def test_scores_are_one_number_for_each_pair_and_head():
    parts = draw(2)
    scores = attention_scores(parts["tokens"], parts["w_query"], parts["w_key"])
    assert scores.shape == (BATCH, HEADS, SEQUENCE, SEQUENCE)
    asked = parts["w_key"][1] @ parts["tokens"][1, 4]
    asking = parts["w_query"][1] @ parts["tokens"][1, 2]
    assert_close(scores[1, 1, 2, 4], asked @ asking)


@kinds
def test_heads_add_up(kind):
    parts = draw(3)
    tokens = parts.pop("tokens")
    together = ATTEND[kind](tokens, **parts)
    alone = [
        ATTEND[kind](tokens, **{name: matrix[[h]] for name, matrix in parts.items()}) - tokens
        for h in range(HEADS)
    ]
    assert_close(together, tokens + sum(alone), rtol=1e-12, atol=1e-12)


def test_linear_attention_is_cubic_in_the_tokens_and_softmax_is_not():
    parts = draw(4)
    tokens = parts.pop("tokens")
    small, large = (linear_attention(a * tokens, **parts) - a * tokens for a in (1.0, 2.0))
    assert_close(large, 8 * small)
    small, large = (softmax_attention(a * tokens, **parts) - a * tokens for a in (1.0, 2.0))
    assert (large - 8 * small).abs().max() > 0.1


@pytest.mark.parametrize("scale", [0.0, 1.0, 0.3])
def test_the_softmax_scale(scale):
    parts = draw(5)
    got = softmax_attention(**parts, scale=scale)
    assert_close(got, by_loops("softmax", parts, scale=scale), rtol=1e-12, atol=1e-12)


def test_softmax_without_scores_is_the_mean_of_the_values_it_sees():
    parts, mask = draw(6), causal_mask(SEQUENCE)
    parts["w_query"].zero_()
    got = softmax_attention(**parts, mask=mask) - parts["tokens"]
    write = (parts["projection"] @ parts["w_value"]).sum(0)
    for j in range(SEQUENCE):
        mean = parts["tokens"][:, : j + 1].mean(1)
        assert_close(got[:, j], mean @ write.T)


def test_softmax_survives_scores_that_exp_cannot_hold():
    parts = draw(7)
    parts["w_query"] *= 1e5
    got = softmax_attention(**parts)
    assert torch.isfinite(got).all()
    # The largest score takes everything.
    scores = attention_scores(parts["tokens"], parts["w_query"], parts["w_key"])
    chosen = scores[1, :, 3].argmax(-1)
    expected = parts["tokens"][1, 3] + sum(
        parts["projection"][h] @ parts["w_value"][h] @ parts["tokens"][1, chosen[h]]
        for h in range(HEADS)
    )
    assert_close(got[1, 3], expected)


# --- masks --------------------------------------------------------------------------------------


def test_the_context_is_seen_by_all_and_a_query_by_none():
    mask = context_mask(3, 2)
    expected = torch.tensor([[1, 1, 1, 0, 0]] * 5, dtype=torch.bool)
    assert torch.equal(mask, expected)


def test_a_query_that_is_a_key_is_one_for_itself_alone():
    mask = context_mask(2, 3, query_is_key=True)
    expected = torch.tensor(
        [
            [1, 1, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 0, 1, 0],
            [1, 1, 0, 0, 1],
        ],
        dtype=torch.bool,
    )
    assert torch.equal(mask, expected)


def test_the_causal_mask_looks_back_and_at_itself():
    expected = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    assert torch.equal(causal_mask(3), expected)


@kinds
def test_what_is_masked_cannot_matter(kind):
    parts = draw(8)
    mask = causal_mask(SEQUENCE)
    before = ATTEND[kind](**parts, mask=mask)
    parts["tokens"] = parts["tokens"].clone()
    parts["tokens"][:, 4] += 1.0
    after = ATTEND[kind](**parts, mask=mask)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amin(-1).min() > 1e-6


@kinds
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_a_token_that_sees_nothing_is_passed_on_with_a_finite_gradient(kind):
    parts = draw(9)
    mask = random_mask(2)
    mask[3] = False
    got = ATTEND[kind](**parts, mask=mask)
    assert torch.equal(got[:, 3], parts["tokens"][:, 3])
    assert_close(got, by_loops(kind, parts, mask), rtol=1e-12, atol=1e-12)
    leaves = {name: part.clone().requires_grad_() for name, part in parts.items()}
    with torch.autograd.detect_anomaly():  # an error at the first NaN on the way back
        ATTEND[kind](**leaves, mask=mask).square().sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves.values())
    assert torch.autograd.gradcheck(
        lambda tokens: ATTEND[kind](**(parts | {"tokens": tokens}), mask=mask),
        parts["tokens"].clone().requires_grad_(),
    )


@kinds
def test_with_an_empty_context_nothing_is_added(kind):
    parts = draw(10)
    got = ATTEND[kind](**parts, mask=context_mask(0, SEQUENCE))
    assert torch.equal(got, parts["tokens"])


@kinds
def test_the_order_of_what_is_seen_does_not_matter(kind):
    parts = draw(11)
    order = torch.tensor([2, 0, 3, 1, 4, 5])
    mask = context_mask(4, 2)
    got = ATTEND[kind](**(parts | {"tokens": parts["tokens"][:, order]}), mask=mask)
    assert_close(got, ATTEND[kind](**parts, mask=mask)[:, order], rtol=1e-12, atol=1e-12)


# --- the module ---------------------------------------------------------------------------------


@kinds
def test_the_module_is_the_function_of_its_matrices(kind):
    parts = draw(12)
    tokens = parts.pop("tokens")
    layer = SelfAttention.from_matrices(**parts, kind=kind)
    mask = MASKS["random"]
    assert torch.equal(layer(tokens, mask), ATTEND[kind](tokens, **parts, mask=mask))
    assert torch.equal(layer(tokens), ATTEND[kind](tokens, **parts))
    for held, given_matrix in zip(layer.matrices, parts.values(), strict=True):
        assert torch.equal(held, given_matrix)
        assert held.data_ptr() != given_matrix.data_ptr()  # copied
    # Values may be wider than keys; the products have the width of a token.
    for h in range(HEADS):
        key_query = parts["w_key"][h].T @ parts["w_query"][h]
        assert_close(layer.key_query()[h], key_query)
        assert_close(layer.projection_value()[h], parts["projection"][h] @ parts["w_value"][h])


@kinds
def test_its_gradients_are_those_of_finite_differences(kind):
    layer = SelfAttention(3, 2, 2, kind, init_std=0.6, dtype=torch.float64)
    tokens = draw(13, width=3, sequence=4)["tokens"]
    assert torch.autograd.gradcheck(
        lambda *matrices: ATTEND[kind](tokens, *matrices, mask=causal_mask(4)), layer.matrices
    )


def test_its_start_is_normal_of_the_given_size_and_follows_the_generator():
    def start(seed, **options):
        gen = torch.Generator().manual_seed(seed)
        layer = SelfAttention(40, 3, 20, init_std=0.05, generator=gen, **options)
        return torch.cat([matrix.detach().flatten() for matrix in layer.matrices])

    values = start(0, dtype=torch.float64)
    assert values.dtype == torch.float64
    count = len(values)
    assert count == 4 * 3 * 20 * 40
    assert abs(values.mean()) < 4 * 0.05 / count**0.5
    assert abs(values.std() / 0.05 - 1) < 4 / (2 * count) ** 0.5
    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    default = SelfAttention(WIDTH)
    assert default.w_query.shape == (1, WIDTH, WIDTH) and default.w_query.dtype == torch.float32
    assert torch.equal(default.w_query, SelfAttention(WIDTH).w_query)


# --- errors -------------------------------------------------------------------------------------

ones = torch.ones


@kinds
@pytest.mark.parametrize(
    "change, error, sentence",
    [
        ({"tokens": ones(SEQUENCE, WIDTH).double()}, ValueError, "tokens: got shape .6, 5."),
        ({"tokens": ones(2, SEQUENCE, WIDTH).long()}, TypeError, "tokens: got dtype torch.int64"),
        ({"tokens": torch.full((2, 6, 5), torch.nan).double()}, ValueError, "tokens: holds NaN"),
        ({"tokens": [[[1.0]]]}, TypeError, "tokens: got list"),
        ({"tokens": ones(2, SEQUENCE, WIDTH)}, TypeError, "w_query: dtype torch.float64 differs"),
        ({"w_query": ones(4, 5).double()}, ValueError, "w_query: got shape .4, 5."),
        ({"w_query": ones(3, 4, 6).double()}, ValueError, "w_query: made for tokens of width 6"),
        ({"w_key": ones(3, 4, 6).double()}, ValueError, "w_key: made for tokens of width 6; got 5"),
        ({"w_key": ones(2, 4, 5).double()}, ValueError, "w_key: 2 heads; w_query has 3"),
        ({"w_key": ones(3, 3, 5).double()}, ValueError, "w_key: head width 3 differs from"),
        ({"w_key": ones(3, 4, 5)}, TypeError, "w_key: dtype torch.float32 differs from tokens'"),
        ({"w_value": ones(3, 7, 4).double()}, ValueError, "w_value: made for tokens of width 4"),
        ({"w_value": ones(4, 7, 5).double()}, ValueError, "w_value: 4 heads; w_query has 3"),
        ({"w_value": ones(3, 6, 5).double()}, ValueError, "projection: takes values of width 7"),
        ({"projection": ones(3, 7, 5).double()}, ValueError, "projection: made for tokens of wid"),
        ({"projection": ones(1, 5, 7).double()}, ValueError, "projection: 1 heads; w_query has 3"),
        ({"projection": ones(3, 5, 7).double() / 0}, ValueError, "projection: holds NaN or inf"),
        ({"mask": ones(6, 6)}, ValueError, "mask: got torch.float32 .*; use bool of shape .6, 6."),
        ({"mask": ones(5, 6, dtype=torch.bool)}, ValueError, r"mask: got .* \(5, 6\); use bool"),
    ],
)  # fmt: skip
def test_every_error_names_its_argument(as_readers_run_it, kind, change, error, sentence):
    with pytest.raises(error, match=sentence):
        ATTEND[kind](**(draw() | change))


@pytest.mark.parametrize(
    "call, error, sentence",
    [
        (lambda p: SelfAttention(0), ValueError, "width: got 0"),
        (lambda p: SelfAttention(5, 0), ValueError, "heads: got 0"),
        (lambda p: SelfAttention(5, 1, 0), ValueError, "head_width: got 0"),
        (lambda p: SelfAttention(5, kind="sparse"), ValueError, "kind: got 'sparse'; use one of"),
        (lambda p: SelfAttention(5, init_std=-1.0), ValueError, "init_std: got -1.0"),
        (lambda p: context_mask(-1), ValueError, "n_context: got -1"),
        (lambda p: context_mask(3, -2), ValueError, "n_query: got -2"),
        (lambda p: causal_mask(2.5), ValueError, "sequence: got 2.5"),
        (
            lambda p: SelfAttention.from_matrices(**(p | {"w_query": ones(4, 5).double()})),
            ValueError,
            "w_query: got shape",
        ),
        (
            lambda p: SelfAttention.from_matrices(**(p | {"w_key": ones(3, 4, 6).double()})),
            ValueError,
            "w_key: made for tokens of width 6",
        ),
        (
            lambda p: SelfAttention.from_matrices(**p, kind="sparse"),
            ValueError,
            "kind: got 'sparse'",
        ),
    ],
)
def test_a_layer_that_cannot_be_made_says_why(as_readers_run_it, call, error, sentence):
    parts = draw()
    del parts["tokens"]
    with pytest.raises(error, match=sentence):
        call(parts)
