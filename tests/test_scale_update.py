"""Blocks without biases: the context as a rank-one update and a change of scales."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.implicit_dynamics.contextual_blocks import block_output
from icl_lessons.implicit_dynamics.rank_one_update import without
from icl_lessons.implicit_dynamics.scale_update import (
    NormedGatedBlock,
    rescaled_output,
    run_rescaled,
    scale_update,
    scale_updates,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import seeded


def tokens(seed, batch, n, width):
    drawn = torch.randn(batch, n + 1, width, generator=seeded(seed), dtype=torch.float64)
    return drawn[:, :n], drawn[:, n]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**20), st.integers(2, 7), st.integers(1, 8), st.integers(1, 6), st.data())
def test_scales_take_the_place_of_a_bias(seed, width, hidden, n, data):
    block = NormedGatedBlock(width, hidden, generator=seeded(seed)).requires_grad_(False)
    context, query = tokens(seed + 1, 2, n, width)
    removed = data.draw(st.none() | st.lists(st.integers(0, n - 1), unique=True))
    changes = scale_update(block, context, query, removed)
    got = rescaled_output(block, changes, without(context, removed), query)
    assert relative_error(got, block_output(block, context, query)) < 1e-11


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 5))
def test_a_stack_of_them_needs_no_context(seed, layers, n):
    blocks = [NormedGatedBlock(6, 9, generator=seeded(seed + i)) for i in range(layers)]
    context, query = tokens(seed, 2, n, 6)
    with torch.no_grad():
        changes, expected = scale_updates(blocks, context, query)
        assert relative_error(run_rescaled(blocks, changes, query), expected) < 1e-8


def test_exact_does_not_mean_small():
    block = NormedGatedBlock(16, 32).requires_grad_(False)
    changes = scale_update(block, *tokens(0, 20, 5, 16))
    size = changes.scales.norm(dim=-1) / block.scales[3].norm()
    assert size.median() > 1  # the scales change by more than they are


def test_an_entry_of_zero_cannot_be_scaled():
    block = NormedGatedBlock(4, 3).requires_grad_(False)
    block.write[2] = 0
    with pytest.raises(ValueError, match="entry of the MLP's output is 0"):
        scale_update(block, *tokens(0, 1, 3, 4))
