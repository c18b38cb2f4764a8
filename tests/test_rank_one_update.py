"""The theorem of the implicit update, for every block, size and part of a context."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    TransformerBlock,
    block_output,
)
from icl_lessons.implicit_dynamics.rank_one_update import (
    implicit_update,
    joint_update,
    updated_output,
    without,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.attention import linear_attention, softmax_attention
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import seeded

SHAPES = [
    {"attention": attention, "reads": reads, "skip": skip, "norm": norm, "norm_place": place}
    for attention, reads, skip, (norm, place) in itertools.product(
        ("softmax", "linear"),
        ("attention", "stream"),
        (True, False),
        ((None, "pre"), ("layer", "pre"), ("rms", "pre"), ("layer", "post"), ("rms", "post")),
    )
]


def tokens(generator, batch, n, width):
    """A context and a query of random tokens."""
    drawn = torch.randn(batch, n + 1, width, generator=generator, dtype=torch.float64)
    return drawn[:, :n], drawn[:, n]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    gated=st.booleans(),
    width=st.integers(2, 7),
    hidden=st.integers(1, 9),
    heads=st.integers(1, 3),
    n=st.integers(1, 6),
    scale=st.sampled_from([1e-2, 1.0, 10.0]),
    seed=st.integers(0, 2**20),
    data=st.data(),
)
def test_changed_weights_stand_for_any_part_of_the_context(
    shape, gated, width, hidden, heads, n, scale, seed, data
):
    generator = seeded(seed)
    config = AttentionBlockConfig(
        width=width, hidden=hidden, heads=heads, head_width=3, gated=gated, **shape
    )
    block = AttentionBlock(config, generator=generator)
    context, query = tokens(generator, 2, n, width)
    context = scale * context
    removed = data.draw(st.none() | st.lists(st.integers(0, n - 1), unique=True))
    with torch.no_grad():
        update = implicit_update(block, context, query, removed)
        kept = without(context, removed)
        expected = block_output(block, context, query)
        assert relative_error(updated_output(block, update, kept, query), expected) < 1e-12
        singular = torch.linalg.svdvals(update.weight)
        if singular.shape[-1] > 1:
            assert (singular[:, 1] <= 1e-12 * singular[:, 0].clamp_min(1e-300)).all()
        torch.testing.assert_close(singular[:, 0], update.size, rtol=1e-10, atol=1e-14)
        if removed == []:
            assert (update.weight == 0).all() and (update.bias == 0).all()


@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_the_blocks_attend_as_the_course_s_attention_does(attention):
    layer = softmax_attention if attention == "softmax" else linear_attention
    block = AttentionBlock(AttentionBlockConfig(width=5, hidden=7, attention=attention))
    context, query = tokens(seeded(0), 3, 6, 5)
    seen = torch.cat([context, query[:, None]], 1)
    matrices = (block.w_query, block.w_key, block.w_value, block.projection)
    with torch.no_grad():
        expected = (layer(seen, *matrices) - seen)[:, -1]
        assert relative_error(block.attend(context, query), expected) < 1e-12


@pytest.mark.parametrize("layers", [1, 3])
def test_a_block_of_the_course_s_transformer(layers):
    shape = TransformerConfig(d=3, width=16, layers=layers, heads=4)
    model = Transformer(shape, generator=seeded(1)).double()
    context, query = tokens(seeded(2), 4, 9, 16)
    for block in map(TransformerBlock, model.blocks):
        with torch.no_grad():
            update = implicit_update(block, context, query)
            got = updated_output(block, update, context[:, :0], query)
            stream = torch.cat([context, query[:, None]], 1)
            mask = torch.ones(10, 10, dtype=torch.bool).tril()
            expected = block.block(stream, mask)[:, -1]
        assert relative_error(got, expected) < 1e-12


def test_the_update_is_the_smallest_of_all_that_serve():
    block = AttentionBlock(AttentionBlockConfig(width=5, hidden=7), generator=seeded(0))
    context, query = tokens(seeded(1), 1, 6, 5)
    with torch.no_grad():
        update = implicit_update(block, context, query)
        a = block.read(context[:, :0], query).dense_input[0]
        d = block.read(context, query).dense_input[0] - a
        by_pseudo_inverse = torch.outer(block.dense_weight @ d, torch.linalg.pinv(a[:, None])[0])
        assert relative_error(update.weight[0], by_pseudo_inverse) < 1e-12
        elsewhere = torch.randn(7, 5, generator=seeded(2), dtype=torch.float64)
        elsewhere -= torch.outer(elsewhere @ a, a) / a.square().sum()  # does nothing to a
        assert torch.allclose((update.weight[0] + elsewhere) @ a, update.weight[0] @ a)
        assert (update.weight[0] + elsewhere).norm() > update.weight[0].norm()


def test_the_update_made_for_one_query_is_wrong_for_another():
    block = AttentionBlock(AttentionBlockConfig(width=5, hidden=7), generator=seeded(0))
    context, query = tokens(seeded(1), 8, 6, 5)
    other = query.roll(1, 0)
    with torch.no_grad():
        update = implicit_update(block, context, query)
        right = block_output(block, context, other)
        assert (updated_output(block, update, context[:, :0], other) - right).abs().max() > 1e-2


@settings(max_examples=15, deadline=None)
@given(width=st.integers(2, 6), data=st.data(), seed=st.integers(0, 2**20))
def test_one_change_for_several_queries_has_their_number_as_rank(width, data, seed):
    n_query = data.draw(st.integers(1, width))
    config = AttentionBlockConfig(width=width, hidden=2 * width, skip=False)
    block = AttentionBlock(config, generator=seeded(seed))
    context, _ = tokens(seeded(seed + 1), 1, 5, width)
    queries = torch.randn(1, n_query, width, generator=seeded(seed + 2), dtype=torch.float64)
    with torch.no_grad():
        change = joint_update(block, context, queries)
        assert torch.linalg.matrix_rank(change[0]) == n_query
        for j in range(n_query):
            query = queries[:, j]
            a = block.read(context[:, :0], query)
            hidden = (block.dense_weight + change[0]) @ a.dense_input[0]
            got = block.finish(hidden[None], a.residual)
            scale = change.norm().clamp_min(1.0)
            assert (got - block_output(block, context, query)).abs().max() < 1e-8 * scale


def test_mistakes_are_refused(as_readers_run_it):
    shape = AttentionBlockConfig(width=4, hidden=6, reads="attention", query_is_key=False)
    block = AttentionBlock(shape)
    context, query = tokens(seeded(0), 2, 3, 4)
    with pytest.raises(ValueError, match=r"query: .*A\(x\) = 0"):
        implicit_update(block, context, query)
    implicit_update(block, context, query, [1])  # something is left to attend to
    with pytest.raises(ValueError, match="removed: got 3"):
        implicit_update(block, context, query, [3])
    with pytest.raises(ValueError, match="removed: .* twice"):
        implicit_update(block, context, query, [1, 1])
    with pytest.raises(ValueError, match="query: got shape"):
        implicit_update(block, context, query[:1])
    with pytest.raises(ValueError, match="queries: 5 for a dense layer of 4"):
        joint_update(block, context, torch.zeros(2, 5, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="norm: got 'batch'"):
        AttentionBlockConfig(width=4, hidden=6, norm="batch")
    without_mlp = Transformer(TransformerConfig(d=3, width=8, layers=2, mlp_ratio=0)).blocks[0]
    with pytest.raises(ValueError, match="block: has no MLP"):
        TransformerBlock(without_mlp)
