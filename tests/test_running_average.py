"""Attention as a running average, and descent on the examples beside the implicit update."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.implicit_dynamics.block_regressor import BlockRegressor, without_context
from icl_lessons.implicit_dynamics.contextual_blocks import AttentionBlock, AttentionBlockConfig
from icl_lessons.implicit_dynamics.fine_tuning import (
    cosine,
    cosine_at_query,
    example_gradient,
    full_batch_steps,
    stochastic_steps,
)
from icl_lessons.implicit_dynamics.running_average import running_average
from icl_lessons.implicit_dynamics.token_path import token_path
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression

SHAPE = AttentionBlockConfig(width=6, hidden=9, heads=2, reads="attention", skip=False)


@settings(max_examples=12, deadline=None)
@given(
    heads=st.integers(1, 4), width=st.integers(2, 7), n=st.integers(0, 9), seed=st.integers(0, 999)
)
def test_the_path_of_a_block_is_that_of_its_heads_averages(heads, width, n, seed):
    shape = AttentionBlockConfig(width=width, hidden=5, heads=heads, reads="attention", skip=False)
    block = AttentionBlock(shape, generator=seeded(seed)).requires_grad_(False)
    tokens = torch.randn(3, n + 1, width, generator=seeded(seed + 1), dtype=torch.float64)
    context, query = tokens[:, :-1], tokens[:, -1]
    found, path = running_average(block, context, query), token_path(block, context, query)
    assert relative_error(found.averages.sum(1), path.inputs) < 1e-12
    assert found.increments(block.dense_weight).shape == (3, n)
    if n:
        torch.testing.assert_close(
            found.increments(block.dense_weight), path.increments, rtol=1e-9, atol=1e-12
        )
        assert (found.shares > 0).all() and (found.shares < 1).all()


@settings(max_examples=10, deadline=None)
@given(heads=st.integers(1, 4), n=st.integers(1, 12), seed=st.integers(0, 999))
def test_one_token_repeated_and_even_attention_in_closed_form(heads, n, seed):
    shape = AttentionBlockConfig(width=4, hidden=5, heads=heads, reads="attention", skip=False)
    block = AttentionBlock(shape, generator=seeded(seed)).requires_grad_(False)
    token, query = torch.randn(2, 3, 4, generator=seeded(seed + 1), dtype=torch.float64)
    context = token[:, None].expand(-1, n, -1)
    found = running_average(block, context, query)
    odds = found.shares[..., :1] / (1 - found.shares[..., :1])
    left = 1 / (1 + torch.arange(n + 1) * odds)  # of the way from the query's value to the token's
    start, end = found.values[:, :, :1], found.values[:, :, 1:2]
    expected = (end + left[..., None] * (start - end)).sum(1)
    assert relative_error(token_path(block, context, query).inputs, expected) < 1e-12
    block.w_key.zero_()
    even = running_average(block, context, query).shares
    assert relative_error(even, (1 / torch.arange(2.0, n + 2)).double().expand_as(even)) < 1e-6


@settings(max_examples=10, deadline=None)
@given(heads=st.integers(1, 4), n=st.integers(1, 8), seed=st.integers(0, 999))
def test_in_linear_attention_a_step_does_not_know_its_place(heads, n, seed):
    shape = AttentionBlockConfig(
        width=4, hidden=5, heads=heads, attention="linear", reads="attention"
    )
    block = AttentionBlock(shape, generator=seeded(seed)).requires_grad_(False)
    tokens = torch.randn(2, n + 1, 4, generator=seeded(seed + 1), dtype=torch.float64)
    order = torch.randperm(n, generator=seeded(seed))
    there = token_path(block, tokens[:, :n], tokens[:, n]).increments
    back = token_path(block, tokens[:, order], tokens[:, n]).increments
    torch.testing.assert_close(back, there[:, order], rtol=1e-9, atol=1e-12)


def test_the_share_of_a_token_is_its_softmax_weight_by_hand():
    block = AttentionBlock(SHAPE, generator=seeded(1)).requires_grad_(False)
    tokens = torch.randn(1, 4, 6, generator=seeded(2), dtype=torch.float64)
    context, query = tokens[:, :3], tokens[:, 3]
    shares = running_average(block, context, query).shares
    for h in range(2):
        asked = block.w_query[h] @ query[0]
        scores = [asked @ block.w_key[h] @ token / 2 for token in (query[0], *context[0])]
        for i in range(1, 4):
            weights = torch.stack(scores[: i + 1]).softmax(0)
            torch.testing.assert_close(shares[0, h, i - 1], weights[-1])


def test_blocks_whose_attention_is_no_such_average_are_refused():
    tokens = torch.randn(1, 4, 6, dtype=torch.float64, generator=seeded(0))
    for wrong, named in (
        ({"attention": "linear"}, "attention='softmax'"),
        ({"query_is_key": False}, "query_is_key=True"),
        ({"norm": "rms"}, "norm=None"),
    ):
        block = AttentionBlock(AttentionBlockConfig(width=6, hidden=4, **wrong))
        with pytest.raises(ValueError, match=named):
            running_average(block, tokens[:, :3], tokens[:, 3])


def regressor():
    model = BlockRegressor(2, SHAPE, generator=seeded(4), dtype=torch.float64)
    batch = LinearRegression(d=2).sample(3, 5, generator=seeded(5), dtype=torch.float64)
    return model.requires_grad_(False), batch


def test_the_gradient_on_examples_against_differences():
    model, batch = regressor()
    weights = model.block.dense_weight.expand(3, -1, -1)
    gradient = example_gradient(model, batch.xs, batch.ys, weights)

    def loss(changed):
        error = without_context(model, batch.xs, changed) - batch.ys
        return 0.5 * error.square().mean((1, 2))

    direction = torch.randn(weights.shape, generator=seeded(6), dtype=torch.float64)
    slope = (loss(weights + 1e-5 * direction) - loss(weights - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum((1, 2)), slope, rtol=1e-6, atol=1e-8)


def test_one_example_is_one_step_either_way():
    model, batch = regressor()
    one = list(full_batch_steps(model, batch.xs[:, :1], batch.ys[:, :1], 0.05, 1))
    first = list(stochastic_steps(model, batch.xs, batch.ys, 0.05))[1]
    assert len(one) == 2 and relative_error(one[1], first) < 1e-12


def test_full_batch_steps_lower_the_loss_on_their_examples():
    model, batch = regressor()
    losses = [
        (without_context(model, batch.xs, weights) - batch.ys).square().mean().item()
        for weights in full_batch_steps(model, batch.xs, batch.ys, 0.02, 10)
    ]
    assert len(losses) == 11 and losses == sorted(losses, reverse=True)


def test_cosines_of_changes():
    g = seeded(7)
    a, b = torch.randn(2, 3, 4, 5, generator=g, dtype=torch.float64)
    fed = torch.randn(3, 5, generator=g, dtype=torch.float64)
    assert relative_error(cosine(a, 2 * a), torch.ones(3)) < 1e-12
    assert relative_error(cosine_at_query(a, -a, fed), -torch.ones(3)) < 1e-12
    assert (cosine(a, b).abs() < 1).all()
    # Changes that differ only where the query does not look are the same to the query.
    unseen = b - (b @ fed[..., None]) * fed[:, None] / fed.square().sum(-1)[:, None, None]
    assert relative_error(cosine_at_query(a, a + unseen, fed), torch.ones(3)) < 1e-12


def test_mistakes_are_refused():
    model, batch = regressor()
    with pytest.raises(ValueError, match="learning_rate"):
        next(stochastic_steps(model, batch.xs, batch.ys, -1.0))
    with pytest.raises(ValueError, match="steps"):
        next(full_batch_steps(model, batch.xs, batch.ys, 0.1, -1))
