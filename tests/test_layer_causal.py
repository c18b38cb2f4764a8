"""Layer-causal descent: what a block's update may know, what ordinary descent shares with it."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.language_models.fine_tuning import FineTuning, fine_tune, label_loss, parts_of
from icl_lessons.language_models.layer_causal import (
    early_predictions,
    layer_causal_fine_tune,
    layer_causal_loss,
)
from icl_lessons.models.pretrained import FAMILIES, PretrainedLM
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import seeded

STEPS = FineTuning(epochs=3, learning_rate=0.05)


def random_model(layers, seed=0, **shape):
    """A small model in float64."""
    config = SequenceTransformerConfig(
        **{"vocabulary": 7, "width": 8, "layers": layers, "heads": 2, "init_std": 0.4} | shape
    )
    return SequenceTransformer(config, generator=seeded(seed)).double()


def some_demonstrations(n, length=4, vocabulary=7, seed=1):
    """Random inputs and labels."""
    g = seeded(seed)
    inputs = torch.randint(vocabulary, (n, length), generator=g)
    return inputs, torch.randint(vocabulary, (n,), generator=g)


def shortened(model, layers):
    """The model that ends after so many blocks."""
    short = copy.deepcopy(model)
    short.blocks = short.blocks[:layers]
    return short


sizes = st.integers(1, 4)
seeds = st.integers(0, 10**6)


@given(layers=st.integers(2, 4), n=sizes, seed=seeds, batch_size=st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=8)
def test_the_update_of_a_block_does_not_know_the_blocks_above(layers, n, seed, batch_size):
    model, shown = random_model(layers, seed), some_demonstrations(n, seed=seed + 1)
    other, replaced = copy.deepcopy(model), random_model(layers, seed + 7)
    other.blocks[-1] = replaced.blocks[-1]
    how = FineTuning(epochs=2, learning_rate=0.05, batch_size=batch_size)
    one, two = (layer_causal_fine_tune(m, *shown, how) for m in (model, other))
    for below, again in zip(one.blocks[:-1], two.blocks[:-1], strict=True):
        for first, second in zip(below.parameters(), again.parameters(), strict=True):
            assert torch.equal(first, second)
    plain, changed = (fine_tune(m, *shown, how) for m in (model, other))
    first, second = (m.blocks[0].attention.write.weight for m in (plain, changed))
    assert (first - second).abs().max() > 1e-9  # ordinary descent knows


@given(layers=sizes, n=sizes, seed=seeds, kind=st.sampled_from(["descent", "adam"]))
@settings(deadline=None, max_examples=12)
def test_with_nothing_above_it_is_ordinary_descent(layers, n, seed, kind):
    model, shown = random_model(layers, seed), some_demonstrations(n, seed=seed + 1)
    how = FineTuning(optimizer=kind, epochs=3, learning_rate=0.01, parts=f"block:{layers - 1}")
    causal, plain = (f(model, *shown, how) for f in (layer_causal_fine_tune, fine_tune))
    for one, two in zip(causal.parameters(), plain.parameters(), strict=True):
        assert_close(one, two, atol=1e-10, rtol=0)


@given(layers=sizes, n=sizes, length=sizes, seed=seeds)
@settings(deadline=None, max_examples=12)
def test_the_loss_is_that_of_models_that_end_early(layers, n, length, seed):
    model, shown = random_model(layers, seed), some_demonstrations(n, length, seed=seed + 1)
    ends = [shortened(model, count) for count in range(1, layers + 1)]
    expected = sum(label_loss(short, *shown) for short in ends)
    assert_close(layer_causal_loss(model, *shown), expected, atol=1e-10, rtol=0)
    rows = early_predictions(model, shown[0])
    assert_close(rows, torch.stack([short(shown[0]) for short in ends]), atol=1e-10, rtol=0)
    assert_close(rows[-1], model(shown[0]), atol=1e-10, rtol=0)


def test_each_row_reaches_its_own_block_alone():
    model, (inputs, labels) = random_model(3), some_demonstrations(2)
    for layer in range(3):
        model.zero_grad()
        early_predictions(model, inputs)[layer, :, -1].gather(-1, labels[:, None]).sum().backward()
        for place, block in enumerate(model.blocks):
            grad = block.attention.query_key_value.weight.grad
            assert (grad is not None and grad.abs().max() > 0) == (place == layer)
        assert model.embedding.weight.grad is None


@pytest.mark.parametrize("parts", ["all", "blocks", "block:1", "value:1"])
def test_what_moves(parts):
    model, shown = random_model(3), some_demonstrations(3)
    before = copy.deepcopy(model.state_dict())
    tuned = layer_causal_fine_tune(
        model, *shown, FineTuning(epochs=2, learning_rate=0.1, parts=parts)
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    moved = {k for k, v in tuned.state_dict().items() if not torch.equal(v, before[k])}
    named = {part.name for part in parts_of(model, "blocks" if parts == "all" else parts)}
    assert moved and moved <= named and all(name.startswith("blocks.") for name in moved)
    if parts in ("all", "blocks"):
        assert {name.split(".")[1] for name in moved} == {"0", "1", "2"}
    else:
        assert {name.split(".")[1] for name in moved} == {"1"}


def test_hooks_are_gone_afterwards_and_it_is_watched():
    model, (inputs, labels) = random_model(2), some_demonstrations(3)
    plain, seen = model(inputs), []

    def watch(epoch, tuned):
        seen.append((epoch, tuned(inputs).shape))

    layer_causal_fine_tune(model, inputs, labels, STEPS, every=2, watch=watch)
    assert seen == [(e, torch.Size([3, 4, 7])) for e in (0, 2, 3)]
    assert torch.equal(model(inputs), plain)
    with pytest.raises(ValueError, match="parts"):
        layer_causal_fine_tune(model, inputs, labels, FineTuning(parts="heads"))


def tiny(family):
    """A pretrained model's like, at random, in float64."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 4,
             "num_key_value_heads": 2, "intermediate_size": 16}  # fmt: skip
    old = {"n_embd": 8, "n_layer": 2, "n_head": 2, "rotary_dim": 4}
    sizes = {
        "gpt2": old,
        "gptj": old,
        "gpt_neo": {"hidden_size": 8, "num_layers": 2, "num_heads": 2,
                    "attention_types": [[["global", "local"], 1]]},
        "opt": small | {"ffn_dim": 16, "word_embed_proj_dim": 6},
    }  # fmt: skip
    config = transformers.AutoConfig.for_model(
        family, vocab_size=11, pad_token_id=0, **sizes.get(family, small)
    )
    model = transformers.AutoModelForCausalLM.from_config(config).double()
    with torch.no_grad():
        for parameter in model.parameters():  # norms are the identity at the start
            parameter.add_(0.3 * torch.randn_like(parameter))
    return PretrainedLM(model, None)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_last_early_prediction_is_the_models_own(family):
    model, inputs = tiny(family), some_demonstrations(3, vocabulary=11)[0]
    assert_close(early_predictions(model, inputs)[-1], model(inputs), atol=1e-10, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_pretrained_model_descends_layer_by_layer(family):
    model = tiny(family)
    inputs, labels = some_demonstrations(3, vocabulary=11)
    tuned = layer_causal_fine_tune(model, inputs, labels, STEPS)
    before, after = (
        layer_causal_loss(model, inputs, labels),
        layer_causal_loss(tuned, inputs, labels),
    )
    assert after < before
    blocks = {part.name for part in parts_of(model, "blocks")}
    old = dict(model.named_parameters())
    assert {n for n, p in tuned.named_parameters() if not torch.equal(p, old[n])} <= blocks
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.blocks[1].parameters():
            parameter.mul_(1.5)
    again = layer_causal_fine_tune(other, inputs, labels, STEPS)
    for one, two in zip(tuned.blocks[0].parameters(), again.blocks[0].parameters(), strict=True):
        assert torch.equal(one, two)
