"""Blocks of language models of `transformers`, changed in place of their context."""

import functools
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.implicit_dynamics.block_by_block import stack_update
from icl_lessons.implicit_dynamics.contextual_blocks import block_output
from icl_lessons.implicit_dynamics.pretrained_block import (
    FAMILIES,
    in_double_precision,
    language_model_blocks,
    prompt_update,
    read_out,
    updated_logits,
)
from icl_lessons.implicit_dynamics.random_language_models import random_language_model
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update, updated_output, without
from icl_lessons.implicit_dynamics.scale_update import rescaled_output, run_rescaled, scale_update
from icl_lessons.ledger import run_claim
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import seeded

SERIAL = "gpt_neox, MLP after attention"
BIASED = "llama with biases"
KINDS = (*FAMILIES, SERIAL, BIASED)
FOUR_NORMS = ("gemma2", "gemma3_text")


@functools.cache
def model_of(kind):
    options = {
        SERIAL: {"use_parallel_residual": False},
        BIASED: {"mlp_bias": True, "attention_bias": True},
    }.get(kind, {})
    family = kind.split(",")[0].split(" ")[0]
    return in_double_precision(random_language_model(family, generator=seeded(1), **options))


def prompts(seed, length, batch=2):
    return torch.randint(0, 50, (batch, length), generator=seeded(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_without_its_context(kind):
    model, ids = model_of(kind), prompts(0, 9)
    expected = model(ids).logits[:, -1]
    assert relative_error(updated_logits(model, ids), expected) < 1e-12
    alone = model(ids[:, -1:]).logits[:, -1]
    assert (alone - expected).abs().max() > 1e-2  # the context matters
    # The adapter's own blocks are the model's layers.
    blocks, streams = language_model_blocks(model, ids)
    assert streams.shape == (4, 2, 9, 17)
    for block, below, above in zip(blocks, streams, streams[1:], strict=False):
        got = block_output(block, below[:, :-1], below[:, -1])
        assert relative_error(got[:, :-1], above[:, -1, :-1]) < 1e-12
        assert (got[:, -1] == 8).all()  # the position is handed on
    assert relative_error(read_out(model, streams[-1, :, -1]), expected) < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KINDS), st.integers(2, 8), st.integers(0, 2**20), st.data())
def test_any_part_of_the_context_of_any_block(kind, length, seed, data):
    removed = data.draw(st.none() | st.lists(st.integers(0, length - 2), unique=True))
    blocks, streams = language_model_blocks(model_of(kind), prompts(seed, length))
    for block, stream in zip(blocks, streams, strict=False):
        context, query = stream[:, :-1], stream[:, -1]
        update = implicit_update(block, context, query, removed)
        got = updated_output(block, update, without(context, removed), query)
        expected = block_output(block, context, query)
        assert relative_error(got[:, :-1], expected[:, :-1]) < 1e-12
        assert (update.bias[:, -1] == 0).all()
        singular = torch.linalg.svdvals(update.weight)
        assert (singular[:, 1] <= 1e-12 * singular[:, 0]).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma3_text"])
def test_streams_from_the_prompt_are_those_computed_block_by_block(kind):
    blocks, streams = language_model_blocks(model_of(kind), prompts(3, 5))
    given_streams = prompt_update(blocks, streams)
    computed = stack_update(blocks, streams[0, :, :-1], streams[0, :, -1])
    assert relative_error(given_streams.streams, computed.streams) < 1e-12
    for first, second in zip(given_streams.updates, computed.updates, strict=True):
        assert relative_error(first.weight, second.weight) < 1e-10


def test_beside_attention_the_mlp_is_not_changed_at_all():
    blocks, streams = language_model_blocks(model_of("gpt_neox"), prompts(1, 7))
    for block, stream in zip(blocks, streams, strict=False):
        context, query = stream[:, :-1], stream[:, -1]
        update = implicit_update(block, context, query)
        assert (update.weight == 0).all()
        added = block.attend(stream)[:, -1] - block.attend(query[:, None])[:, 0]
        assert relative_error(update.bias[:, :-1], added) < 1e-12
        assert added.abs().max() > 1e-2
    blocks, streams = language_model_blocks(model_of(SERIAL), prompts(1, 7))
    assert implicit_update(blocks[0], streams[0, :, :-1], streams[0, :, -1]).size.min() > 1e-2


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "qwen3", "gemma2"])
def test_tokens_keep_their_places_when_others_go(kind):
    model, ids, gone = model_of(kind), prompts(2, 8), [3, 6]
    blocks, streams = language_model_blocks(model, ids)
    context, query = streams[0, :, :-1], streams[0, :, -1]
    seen = torch.ones_like(ids)
    seen[:, gone] = 0  # the model itself, with these tokens hidden but their places kept
    expected = model(ids, attention_mask=seen, output_hidden_states=True).hidden_states[1][:, -1]
    got = block_output(blocks[0], without(context, gone), query)[:, :-1]
    assert relative_error(got, expected) < 1e-12
    if kind != "gpt2":  # there the vectors carry the places
        moved = without(context, gone).clone()
        moved[..., -1] = torch.arange(5) + 2.0  # closed up, up to the query
        assert (block_output(blocks[0], moved, query)[:, :-1] - expected).abs().max() > 1e-4


def test_a_token_alone_does_not_know_its_rotary_position():
    blocks, streams = language_model_blocks(model_of("llama"), prompts(2, 8))
    query = streams[1, :, -1]
    elsewhere = query.clone()
    elsewhere[:, -1] = 41
    nothing = query.new_zeros(2, 0, 17)
    here, there = (block_output(blocks[1], nothing, q)[:, :-1] for q in (query, elsewhere))
    assert relative_error(there, here) < 1e-12
    # GPT-2's position is in the vector: the same token read at another place is another query.
    model = model_of("gpt2")
    ids = torch.full((1, 8), 7)
    streams = language_model_blocks(model, ids)[1]
    assert (streams[0, :, -1, :-1] - streams[0, :, 0, :-1]).abs().max() > 1e-2


def test_what_a_window_does_not_reach_adds_nothing():
    blocks, streams = language_model_blocks(model_of("gemma2"), prompts(4, 8))
    context, query = streams[0, :, :-1], streams[0, :, -1]  # a window of 3: places 5, 6 and 7
    beyond = implicit_update(blocks[0], context, query, [0, 1, 2, 3, 4])
    assert beyond.size.max() < 1e-12
    assert implicit_update(blocks[0], context, query, [5]).size.min() > 1e-3
    assert implicit_update(blocks[1], context, query, [0]).size.min() > 1e-3  # no window


@pytest.mark.parametrize("kind", FOUR_NORMS)
def test_scales_in_place_of_an_added_vector(kind):
    model, ids = model_of(kind), prompts(5, 7)
    blocks, streams = language_model_blocks(model, ids)
    changes = []
    for block, stream in zip(blocks, streams, strict=False):
        context, query = stream[:, :-1], stream[:, -1]
        for removed in (None, [0, 5]):
            change = scale_update(block, context, query, removed)
            got = rescaled_output(block, change, without(context, removed), query)
            expected = block_output(block, context, query)
            assert relative_error(got[:, :-1], expected[:, :-1]) < 1e-12
        changes.append(scale_update(block, context, query))
    got = read_out(model, run_rescaled(blocks, changes, streams[0, :, -1]))
    assert relative_error(got, model(ids).logits[:, -1]) < 1e-10


def test_in_single_precision_it_holds_to_single_precision():
    for family in ("gpt2", "llama", "gemma2"):
        model, ids = random_language_model(family), prompts(0, 9)
        expected = model(ids).logits[:, -1]
        error = relative_error(updated_logits(model, ids), expected)
        assert 0 < error < 1e-4
        assert next(model.parameters()).dtype == torch.float32
        # ... and the copy in float64 computes what the model does.
        assert relative_error(in_double_precision(model)(ids).logits[:, -1], expected) < 1e-4


def test_mistakes_are_refused(as_readers_run_it, monkeypatch):
    model, ids = random_language_model("gpt2", layers=1), prompts(0, 4)
    with pytest.raises(ValueError, match="model: is in training mode"):
        language_model_blocks(model.train(), ids)
    model.eval()
    with pytest.raises(ValueError, match=r"input_ids: got shape \(4,\)"):
        language_model_blocks(model, ids[0])
    with pytest.raises(ValueError, match="model: is in torch.bfloat16"):
        language_model_blocks(model.bfloat16(), ids)
    model.config.model_type = "t5"
    with pytest.raises(ValueError, match="model.config.model_type: .*t5"):
        language_model_blocks(model, ids)
    with pytest.raises(ValueError, match="family: .*bert"):
        random_language_model("bert")
    with pytest.raises(ValueError, match="layers: got 0"):
        random_language_model("llama", layers=0)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for needs in (lambda: random_language_model("gpt2"), lambda: in_double_precision(model)):
        with pytest.raises(ImportError, match=r"pip install icl_lessons\[language-models\]"):
            needs()


def test_claims_are_left_open_without_transformers(monkeypatch):
    import icl_lessons.implicit_dynamics.claims.pretrained_block  # noqa: F401

    claim = CLAIMS["innocenti2025-gpt-2"]
    assert run_claim(claim).verdict == Verdict.HOLDS
    monkeypatch.setitem(sys.modules, "transformers", None)
    record = run_claim(claim)
    assert record.verdict == Verdict.OPEN and "pip install" in record.note
