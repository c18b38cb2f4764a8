"""Function vectors: identities of head outputs, on CourseLM and on models of Hugging Face."""

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import icl_lessons.language_models.claims.function_vectors  # noqa: F401
from icl_lessons.declare import CLAIMS, result_of
from icl_lessons.language_models.claims.function_vectors import rank_correlations
from icl_lessons.language_models.experiments.function_vectors import (
    ANY_LABEL,
    SHUFFLED,
    FunctionVectorsConfig,
    corrupted_labels,
    function_vectors_by_head,
)
from icl_lessons.language_models.figures import function_vectors as figures
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.function_vectors import (
    answers_with_head,
    attention_outputs,
    causal_indirect_effects,
    function_vector,
    head_outputs,
    top_heads,
    writers,
)
from icl_lessons.language_models.subjects import course_prompts
from icl_lessons.models.pretrained import PretrainedLM
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded

VERDICTS = {
    "heads-sum": "holds",
    "own-output": "holds",
    "constant-head": "holds",
    "vectors-add-up": "holds",
    "few-heads": "holds",
    "heads-across-tasks": "does not hold",
    "heads-across-seeds": "holds in part",
    "zero-shot": "holds in part",
    "corrupted-prompts": "holds in part",
    "random-direction": "holds",
    "carries-the-mapping": "holds in part",
    "early-blocks": "holds in part",
}
SMALL = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 32, "max_position_embeddings": 32}  # fmt: skip
OLD = {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
FAMILIES = {
    "GPT2": OLD,
    "GPTJ": OLD | {"rotary_dim": 4},
    "GPTNeo": {"vocab_size": 30, "hidden_size": 16, "num_layers": 2, "num_heads": 4,
               "max_position_embeddings": 32, "attention_types": [[["global", "local"], 1]]},
    "OPT": SMALL | {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "Llama": SMALL | {"num_key_value_heads": 2},
    "Qwen3": SMALL | {"num_key_value_heads": 2, "head_dim": 6},
    "Gemma2": SMALL | {"num_key_value_heads": 2, "head_dim": 8},
}  # fmt: skip


def course(width, layers, heads, seed):
    shape = SequenceTransformerConfig(vocabulary=11, width=width, layers=layers, heads=heads)
    return SequenceTransformer(shape, generator=seeded(seed)).double()


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(1, 7),
       st.integers(0, 99))  # fmt: skip
def test_heads_sum_to_attention_and_their_own_output_changes_nothing(
    heads, size, layers, length, seed
):
    model = course(heads * size, layers, heads, seed)
    tokens = torch.randint(11, (3, length), generator=seeded(seed))
    each = head_outputs(model, tokens)
    assert each.shape == (layers, heads, 3, heads * size)
    assert_close(each.sum(1), attention_outputs(model, tokens), atol=1e-12, rtol=0)
    plain = answer_law(model, tokens)
    for head in np.ndindex(layers, heads):
        assert_close(answers_with_head(model, tokens, head, each[head]), plain, atol=1e-12, rtol=0)
    assert not any(write._forward_hooks for write in writers(model))


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_a_head_is_what_is_left_of_attention_without_the_others(heads, size, seed):
    """Against a model whose output matrix is zero but for that head."""
    model = course(heads * size, 2, heads, seed)
    tokens = torch.randint(11, (2, 5), generator=seeded(seed))
    each = head_outputs(model, tokens)[0]
    weight = model.blocks[0].attention.write.weight
    whole = weight.detach().clone()
    for head in range(heads):
        with torch.no_grad():
            weight.zero_()
            weight[:, head * size : (head + 1) * size] = whole[:, head * size : (head + 1) * size]
        assert_close(attention_outputs(model, tokens)[0], each[head], atol=1e-12, rtol=0)


@settings(max_examples=6, deadline=None)
@given(st.integers(2, 4), st.integers(0, 99))
def test_effects_are_those_of_one_head_alone_and_of_none_where_nothing_varies(heads, seed):
    model = course(4 * heads, 2, heads, seed)
    tokens = torch.randint(11, (4, 6), generator=seeded(seed))
    means = head_outputs(model, tokens.flip(0).roll(1, 1)).mean(2)
    answer = torch.randint(11, (4,), generator=seeded(seed))
    effects = causal_indirect_effects(model, tokens, answer, means)
    block, head = 1, heads - 1
    got = answers_with_head(model, tokens, (block, head), means[block, head])
    rows = torch.arange(4)
    wanted = got[rows, answer] - answer_law(model, tokens)[rows, answer]
    assert_close(effects[block, head], wanted, atol=1e-12, rtol=0)
    same = tokens[:1].expand(4, -1)  # one prompt: every mean is the output itself
    none = causal_indirect_effects(model, same, answer, head_outputs(model, same).mean(2))
    assert none.abs().max() < 1e-12


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_top_heads_are_ordered_and_vectors_add_up(layers, heads, seed):
    effects = torch.randn(layers, heads, generator=seeded(seed))
    every = top_heads(effects, layers * heads)
    values = [effects[head].item() for head in every]
    assert values == sorted(values, reverse=True) and len(set(every)) == layers * heads
    means = torch.randn(layers, heads, 5, generator=seeded(seed), dtype=torch.float64)
    cut = seed % (len(every) + 1)
    parts = function_vector(means, every[:cut]) + function_vector(means, every[cut:])
    assert_close(parts, means.sum((0, 1)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_heads_of_pretrained_models(family):
    """Their sum and the bias are what attention adds; the own output changes no answer."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    inner = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in inner.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = PretrainedLM(inner, None)
    tokens = torch.randint(30, (3, 7), generator=seeded(0))
    each, whole = head_outputs(model, tokens), attention_outputs(model, tokens)
    assert each.shape[:2] == (2, 4) and model.heads == 4
    for block in range(2):
        bias = getattr(model.attention_output(block), "bias", None)
        total = each[block].sum(0) + (0 if bias is None else bias)
        assert_close(total, whole[block], atol=1e-4, rtol=1e-4)
    again = answers_with_head(model, tokens, (1, 2), each[1, 2])
    assert_close(again, answer_law(model, tokens), atol=1e-4, rtol=1e-4)
    moved = answers_with_head(model, tokens, (1, 2), each[1, 2] + torch.arange(16.0))
    assert (moved - again).abs().max() > 1e-3
    with pytest.raises(ValueError, match="blocks are 0 to 1"):
        model.attention_output(2)


def test_corrupted_labels_are_shuffled_or_any():
    prompts = course_prompts("kind", 8, 30, 0)
    shuffled = corrupted_labels(prompts, SHUFFLED, seeded(0))
    assert torch.equal(shuffled.sort(1).values, prompts.labels.sort(1).values)
    assert not torch.equal(shuffled, prompts.labels)
    anything = corrupted_labels(prompts, ANY_LABEL, seeded(0))
    assert anything.unique().tolist() == list(range(45, 54))


def test_ranks_of_heads():
    rows = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 90.0], [3.0, 2.0, 1.0]])
    assert np.allclose(rank_correlations(rows), [1, -1, -1])


@pytest.fixture(scope="module")
def lesson():
    return result_of("function_vectors", Scale.LESSON)


def test_the_record_and_the_figure(lesson):
    assert lesson.effects.shape == (2, 8, 3, 4, 3) and lesson.added.shape == (2, 8, 3, 7, 3)
    assert np.allclose(lesson.average_effects(SHUFFLED), lesson.effects[0, :4].mean(0))
    assert "kind contrary" in lesson.summary()
    # all heads: no ranking, so that both corruptions give the same vector
    assert np.allclose(lesson.added[0, ..., -1, :], lesson.added[1, ..., -1, :])
    assert len(figures.function_vectors_by_head(lesson).axes) == 3 + 8
    with pytest.raises(ValueError, match="count: got 5"):
        lesson.of("added", ANY_LABEL, 5)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_claims(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence = CLAIMS[f"todd2024-{name}"].check(Scale.LESSON)
    assert evidence.verdict == VERDICTS[name] and type(evidence.measured) is float


def test_the_same_study_on_a_pretrained_model(tmp_path, tokenizer_of):
    transformers = pytest.importorskip("transformers")
    reviews = [
        {"text": f"{how} film number {i}", "label": label}
        for i in range(5)
        for label, how in enumerate(("a dull", "a warm and funny"))
    ]
    (tmp_path / "sst2.jsonl").write_text("\n".join(map(json.dumps, reviews)))
    tokenizer = tokenizer_of(
        [f"Review: {r['text']}\nSentiment: {w}\n\n" for r in reviews
         for w in ("positive", "negative")]
    )  # fmt: skip
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    where = {"model": str(tmp_path / "model"), "data": str(tmp_path), "tasks": ("sst2",)}
    small = {"n": 2, "dummies": 3, "n_queries": 6, "sets": 2, "counts": (1, 4), "seeds": (0,)}
    result = function_vectors_by_head(FunctionVectorsConfig(**where, **small))
    assert result.corruptions == (SHUFFLED,) and result.averaged == ("sst2",)
    assert result.effects.shape == (1, 1, 2, 2, 1) and np.abs(result.effects).max() > 0
    figures.function_vectors_by_head(result)


def test_what_cannot_be_is_refused(as_readers_run_it):
    model = course(4, 1, 2, 0)
    tokens = torch.zeros(1, 3, dtype=torch.long)
    for head, said in (((1, 0), "got block 1; use 0 to 0"), ((0, 2), "got head 2; use 0 to 1")):
        with pytest.raises(ValueError, match=said):
            answers_with_head(model, tokens, head, torch.zeros(4))
    with pytest.raises(ValueError, match="count: got 3; there are 2 heads"):
        top_heads(torch.zeros(1, 2), 3)
    with pytest.raises(TypeError, match="model: got Linear"):
        writers(torch.nn.Linear(1, 1))
    for changes, said in (
        ({"averaged": ("weather",)}, "averaged"),
        ({"corruptions": ("none",)}, "corruptions"),
        ({"n": 1}, "n: "),
    ):
        with pytest.raises(ValueError, match=said):
            FunctionVectorsConfig(**changes)
