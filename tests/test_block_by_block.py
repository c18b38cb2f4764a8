"""Updates at every position and in every block of a stack."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.declare import EXPERIMENTS
from icl_lessons.implicit_dynamics.block_by_block import (
    BlockPath,
    alignment,
    last_with_others,
    pairs,
    reference_update,
    run_updated,
    run_visible,
    stack_path,
    stack_streams,
    stack_update,
    updates_at,
)
from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    TransformerBlock,
    block_output,
)
from icl_lessons.implicit_dynamics.experiments.block_by_block import (
    INNOCENTI,
    BlockByBlockConfig,
    StackTraining,
    innocenti_weights,
    stack_weights,
)
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update, updated_output
from icl_lessons.implicit_dynamics.token_path import token_path
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.attention import causal_mask
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import seeded

FORMS = [
    {"attention": attention, "norm": norm, "norm_place": place, "gated": gated}
    for attention, (norm, place), gated in itertools.product(
        ("softmax", "linear"),
        ((None, "pre"), ("layer", "pre"), ("rms", "pre"), ("layer", "post"), ("rms", "post")),
        (False, True),
    )
]


def stack_of(layers, seed, width=5, **form):
    config = AttentionBlockConfig(width=width, hidden=7, head_width=3, **form)
    generator = seeded(seed)
    return [
        AttentionBlock(config, generator=generator).requires_grad_(False) for _ in range(layers)
    ]


def tokens_of(n, seed, width=5, batch=2):
    return torch.randn(batch, n, width, generator=seeded(seed), dtype=torch.float64)


@settings(max_examples=15, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    layers=st.integers(1, 4),
    n=st.integers(1, 7),
    width=st.integers(3, 6),  # of two numbers a layer norm leaves nothing but signs
    seed=st.integers(0, 2**20),
    data=st.data(),
)
def test_a_stack_needs_no_token_whose_updates_are_made(form, layers, n, width, seed, data):
    blocks, tokens = stack_of(layers, seed, width, **form), tokens_of(n, seed + 1, width)
    streams = stack_streams(blocks, tokens)
    changes = stack_update(blocks, tokens[:, :-1], tokens[:, -1])
    assert torch.equal(changes.streams, streams[:, :, -1])
    assert relative_error(run_updated(blocks, changes, tokens[:, -1]), streams[:, :, -1]) < 1e-10
    gone = data.draw(st.integers(0, n - 1))
    own = [updates_at(blocks, streams, i, range(gone)) for i in range(gone, n)]
    left = run_visible(blocks, own, tokens[:, gone:])
    assert relative_error(left, streams[:, :, gone:]) < 1e-10  # norms of nearly equal numbers


@settings(max_examples=15, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    n=st.integers(1, 6),
    causal=st.booleans(),
    seed=st.integers(0, 2**20),
    data=st.data(),
)
def test_a_reference_token_takes_any_position_s_place(form, n, causal, seed, data):
    (block,), tokens = stack_of(1, seed, **form), tokens_of(n, seed + 1)
    reference = tokens_of(1, seed + 2)[:, 0]
    position = data.draw(st.integers(0, n - 1))
    update = reference_update(block, tokens, position, reference, causal=causal)
    others = [i for i in range(n) if i < position or (not causal and i > position)]
    expected = block_output(block, tokens[:, others], tokens[:, position])
    got = updated_output(block, update, tokens[:, :0], reference)
    assert relative_error(got, expected) < 1e-12


def test_at_the_query_the_update_of_a_position_is_the_theorem_s():
    (block,), tokens = stack_of(1, 0, norm="layer"), tokens_of(6, 1)
    ours = reference_update(block, tokens, 5, tokens[:, 5])
    theirs = implicit_update(block, tokens[:, :5], tokens[:, 5])
    assert relative_error(ours.weight, theirs.weight) < 1e-12
    assert relative_error(ours.bias, theirs.bias) < 1e-12
    other = reference_update(block, tokens, 5, tokens[:, 0])
    assert relative_error(other.weight, theirs.weight) > 1e-2


def test_the_streams_are_those_of_the_model():
    shape = TransformerConfig(d=3, width=16, layers=3, heads=4)
    model = Transformer(shape, generator=seeded(1)).double().requires_grad_(False)
    tokens, x = tokens_of(7, 2, 16), []
    stream = tokens
    for block in model.blocks:
        stream = block(stream, causal_mask(7))
        x.append(stream)
    streams = stack_streams([TransformerBlock(block) for block in model.blocks], tokens)
    assert relative_error(streams[:, 1:], torch.stack(x, 1)) < 1e-12


@settings(max_examples=10, deadline=None)
@given(layers=st.integers(1, 3), n=st.integers(0, 5), seed=st.integers(0, 2**20))
def test_the_path_of_a_stack_is_its_update_after_each_token(layers, n, seed):
    blocks, tokens = stack_of(layers, seed, norm="rms"), tokens_of(n + 1, seed + 1)
    context, query = tokens[:, :-1], tokens[:, -1]
    paths = stack_path(blocks, context, query)
    matrices = [path.left[..., None] * path.right[:, :, None] for path in paths]
    for i in range(n + 1):
        whole = stack_update(blocks, context[:, :i], query)
        for layer, update in enumerate(whole.updates):
            assert relative_error(matrices[layer][:, i], update.weight) < 1e-12
    for path, matrix in zip(paths, matrices, strict=True):
        moved = (matrix[:, 1:] - matrix[:, :-1]).flatten(2).norm(dim=-1)
        torch.testing.assert_close(path.increments, moved, rtol=1e-8, atol=1e-12)
    # In the first block nothing below the query moves: the path is the theorem's.
    first = token_path(blocks[0], context, query)
    torch.testing.assert_close(paths[0].increments, first.increments, rtol=1e-8, atol=1e-12)


def test_increments_do_not_cancel():
    left = torch.randn(1, 2, 4, generator=seeded(0), dtype=torch.float64)
    right = torch.randn(1, 2, 3, generator=seeded(1), dtype=torch.float64)
    left[:, 1], right[:, 1] = left[:, 0] * (1 + 1e-9), right[:, 0]
    size = left[:, 0].norm() * right[:, 0].norm()
    torch.testing.assert_close(BlockPath(left, right).increments[0, 0], 1e-9 * size, rtol=1e-5,
                               atol=0.0)  # fmt: skip


def test_alignment_is_the_cosine_of_the_matrices():
    (block,), tokens = stack_of(1, 3), tokens_of(5, 4)
    updates = [reference_update(block, tokens, i, tokens[:, 4]) for i in range(5)]
    flat = torch.stack([update.weight.flatten(1) for update in updates], 1)
    flat = flat / flat.norm(dim=-1, keepdim=True)
    table = alignment(updates)
    assert relative_error(table, (flat @ flat.mT).mean(0)) < 1e-12
    off = [table[i, j].item() for i in range(5) for j in range(5) if i != j]
    assert pairs(table.numpy()) == pytest.approx(np.mean(off))
    assert last_with_others(table.numpy()) == pytest.approx(table[4, :4].mean().item())


def test_independent_tokens_have_updates_with_an_alignment_of_a_half():
    """Where no position sees another, minus the reference is what any two updates share."""
    width = 64
    (block,), tokens = stack_of(1, 5, width), tokens_of(12, 6, width, batch=16)
    nothing = tokens[:, :0]
    updates = [
        reference_update(block, torch.cat([nothing, tokens[:, i : i + 1]], 1), 0, tokens[:, -1])
        for i in range(11)
    ]
    assert abs(pairs(alignment(updates).numpy()) - 0.5) < 0.05


def small(**changes):
    config = {"n_context": 7, "width": 8, "heads": 2, "layers": 2, "steps": 2, "n_tasks": 3}
    return BlockByBlockConfig(**(config | {"seeds": (3,)} | changes))


def test_the_experiment_measures_what_its_fields_say():
    declared = EXPERIMENTS["block_by_block"]
    result = declared.run(small())
    for group in (result.trained, result.untrained):
        assert group.residual.max() < 1e-12 < group.residual_single.min() < 1e-5
        assert group.to_query.shape == (1, 2, 8, 8) and group.tokens_alone.shape == (1, 2, 7, 7)
        assert group.rank_to_query.max() < 1e-12
        assert group.spectrum[..., 1].min() > 1e-3  # of more than rank one
        assert group.increments.shape == group.increments_fixed.shape == (1, 2, 7)
        np.testing.assert_allclose(group.increments[:, 0], group.increments_fixed[:, 0])
        assert np.abs(group.increments[:, 1] / group.increments_fixed[:, 1] - 1).max() > 1e-3
    falling = np.array([[[1.0 / i for i in range(1, 21)]]])
    assert result.trained.slopes(falling).item() == pytest.approx(-1.0)
    assert "examples' alignment to the query" in result.summary()
    assert len(declared.figure(result).axes) == 3


def test_stored_stacks_have_learned_and_fit_their_configurations():
    assert stack_weights.is_stored(StackTraining())
    assert innocenti_weights.is_stored(StackTraining(**INNOCENTI))
    measured = stack_weights.metadata()["measured"]
    assert max(measured.values()) < 0.05  # of 1 for the answer 0
    for pair in innocenti_weights.verify().values():
        assert pair[0] == pytest.approx(pair[1], rel=2e-3)


def test_mistakes_are_refused(as_readers_run_it):
    (block,), tokens = stack_of(1, 0), tokens_of(3, 1)
    streams = stack_streams([block], tokens)
    with pytest.raises(ValueError, match="position: got 3; use 0 to 2"):
        updates_at([block], streams, 3)
    with pytest.raises(ValueError, match="position: got -1"):
        reference_update(block, tokens, -1, tokens[:, 0])
    with pytest.raises(ValueError, match="removed: got 2; use positions from 0 to 1"):
        updates_at([block], streams, 2, [2])
    with pytest.raises(ValueError, match="tokens: got shape"):
        stack_streams([block], tokens[0])
    with pytest.raises(ValueError, match="heads: 5 do not divide width 24"):
        StackTraining(heads=5)
