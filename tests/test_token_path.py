"""Paths of weights, token by token and block by block."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.implicit_dynamics.block_by_block import (
    regression_stack,
    run_updated,
    stack_update,
)
from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    block_output,
)
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update
from icl_lessons.implicit_dynamics.token_path import factorised_path, token_path
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression

# A layer norm leaves nothing but signs of two numbers, so that a width of 2 has too little to move.
shapes = st.fixed_dictionaries(
    {
        "width": st.integers(3, 6),
        "hidden": st.integers(2, 8),
        "heads": st.integers(1, 3),
        "reads": st.sampled_from(["attention", "stream"]),
        "skip": st.booleans(),
        "norm": st.sampled_from([None, "layer", "rms"]),
        "gated": st.booleans(),
    }
)


def block_of(shape, seed):
    config = AttentionBlockConfig(head_width=3, **shape)
    return AttentionBlock(config, generator=seeded(seed)).requires_grad_(False)


def tokens(seed, batch, n, width):
    drawn = torch.randn(batch, n + 1, width, generator=seeded(seed), dtype=torch.float64)
    return drawn[:, :n], drawn[:, n]


@settings(max_examples=15, deadline=None)
@given(shape=shapes, n=st.integers(1, 5), seed=st.integers(0, 2**20))
def test_each_token_is_a_step_of_descent_on_its_own_loss(shape, n, seed):
    block = block_of(shape, seed + 1)
    context, query = tokens(seed, 2, n, block.config.width)
    path = token_path(block, context, query)
    weights = path.weights
    for i in range(n):
        at = weights[:, i].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(path.loss(at, i).sum(), at)
        step = path.step_size[:, None, None] * gradient
        assert relative_error(weights[:, i] - step, weights[:, i + 1]) < 1e-12
        update = implicit_update(block, context[:, : i + 1], query)
        assert relative_error(weights[:, i + 1] - weights[:, 0], update.weight) < 1e-12
        assert relative_error(path.biases[:, i + 1], update.bias) < 1e-12
    moved = (weights[:, 1:] - weights[:, :-1]).flatten(2).norm(dim=-1)
    torch.testing.assert_close(moved, path.increments, rtol=1e-9, atol=1e-12)
    singular = torch.linalg.svdvals(weights[:, -1] - weights[:, 0])
    assert (singular[:, 1] <= 1e-12 * weights[:, 0].flatten(1).norm(dim=1)).all()  # rank one


@settings(max_examples=15, deadline=None)
@given(shape=shapes, n=st.integers(1, 5), seed=st.integers(0, 2**20))
def test_the_factorised_path_answers_alike_at_every_step(shape, n, seed):
    block = block_of(shape, seed + 1)
    context, query = tokens(seed, 2, n, block.config.width)
    expected = block.read(context, query)
    for i, weights in enumerate(factorised_path(block, context, query).unbind(1)):
        rest = block.read(context[:, i:], query)
        hidden = (weights @ rest.dense_input[..., None])[..., 0]
        got = block.finish(hidden, expected.residual)
        assert relative_error(got, block_output(block, context, query)) < 1e-9


def test_the_two_paths_end_at_different_weights():
    block = AttentionBlock(AttentionBlockConfig(width=6, hidden=9)).requires_grad_(False)
    context, query = tokens(3, 1, 8, 6)
    additive = token_path(block, context, query).weights[0, -1]
    factorised = factorised_path(block, context, query)[0, -1]
    start = block.dense_weight
    assert (additive - factorised).abs().max() > 1e-2
    assert torch.linalg.matrix_rank(additive - start) == 1
    assert torch.linalg.matrix_rank(factorised - start) == 6


def test_order_changes_the_path_and_not_its_end():
    block = AttentionBlock(AttentionBlockConfig(width=6, hidden=9)).requires_grad_(False)
    context, query = tokens(4, 2, 7, 6)
    path, other = (token_path(block, c, query).weights for c in (context, context.flip(1)))
    assert relative_error(path[:, -1], other[:, -1]) < 1e-12
    assert (path[:, 3] - other[:, 3]).abs().max() > 1e-3


@settings(max_examples=8, deadline=None)
@given(
    layers=st.integers(1, 4),
    n=st.integers(1, 6),
    attention=st.sampled_from(["softmax", "linear"]),
    norm=st.sampled_from(["pre", None]),
    seed=st.integers(0, 2**20),
)
def test_a_whole_transformer_without_its_context(layers, n, attention, norm, seed):
    config = TransformerConfig(
        d=3, width=12, layers=layers, heads=3, attention=attention, layer_norm=norm
    )
    model = Transformer(config, generator=seeded(seed)).double().requires_grad_(False)
    batch = LinearRegression(d=3).sample(2, n, generator=seeded(seed + 1), dtype=torch.float64)
    stack, context, query = regression_stack(model, *batch.context)
    changes = stack_update(stack, context, query)
    streams = run_updated(stack, changes, query)
    assert relative_error(streams, changes.streams) < 1e-10
    answer = model.read_out(model.norm(streams[:, -1]))
    assert relative_error(answer, model(*batch.context)[:, 0]) < 1e-10


def test_mistakes_are_refused():
    model = Transformer(TransformerConfig(d=2, width=8, positions="learned")).double()
    task = LinearRegression(d=2, n_query=2)
    batch = task.sample(1, 3, generator=seeded(0), dtype=torch.float64)
    with pytest.raises(ValueError, match="model: use a transformer with"):
        regression_stack(model, batch.xs, batch.ys, batch.x_query[:, :1])
    shape = AttentionBlockConfig(width=4, hidden=6, reads="attention", query_is_key=False)
    with pytest.raises(ValueError, match=r"A\(x\) = 0"):
        token_path(AttentionBlock(shape), *tokens(0, 1, 2, 4))
    with pytest.raises(ValueError, match=r"A\(x\) = 0"):
        factorised_path(AttentionBlock(shape), *tokens(0, 1, 2, 4))
