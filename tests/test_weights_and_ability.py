"""Weights and abilities: bases that change nothing, what is counted, and what CourseLM showed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import result_of
from icl_lessons.language_models.course_models import CourseLMTraining, course_models
from icl_lessons.language_models.experiments.weights_and_ability import (
    WeightsAndAbilityConfig,
    WeightSparsityConfig,
    weight_sparsity,
)
from icl_lessons.language_models.figures import weights_and_ability as figures
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.weights_and_ability import (
    ABILITIES,
    Projections,
    ability,
    construction,
    head_products,
    incoherent_weights,
    projections,
    rescaled,
    rotated,
    rotations,
    sparsity_of_gaussian,
)
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.measures.weights import sparsity_of_construction, sparsity_ratio
from icl_lessons.models.attention import context_mask, linear_attention
from icl_lessons.models.pretrained import PretrainedLM
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.zoo import stored_recipe

few = settings(max_examples=10, deadline=None)


def model_of(heads: int, size: int, layers: int, seed: int) -> SequenceTransformer:
    shape = SequenceTransformerConfig(
        vocabulary=66, width=heads * size, layers=layers, heads=heads, init_std=0.4
    )
    return SequenceTransformer(shape, generator=seeded(seed)).double().requires_grad_(False)


shapes = given(
    heads=st.integers(1, 4), size=st.integers(2, 6), layers=st.integers(1, 3),
    seed=st.integers(0, 2**30),
)  # fmt: skip


# --- changes of basis -----------------------------------------------------------------------------


@few
@shapes
def test_rescaling_changes_the_shares_and_no_answer(heads, size, layers, seed):
    model = model_of(heads, size, layers, seed)
    tokens = torch.randint(66, (2, 9), generator=seeded(seed))
    for factor in (1e-5, 0.3, 40):
        assert_close(rescaled(model, factor)(tokens), model(tokens), atol=1e-10, rtol=0)
    small = projections(rescaled(model, 1e-5), 0)
    assert sparsity_ratio(small.query, 1e-3) == 1 and sparsity_ratio(small.key, 1e-3) == 0
    assert sparsity_ratio(projections(model, 0).query, 1e-3) < 0.3


@few
@shapes
def test_rotating_inside_heads_changes_no_answer_and_no_product(heads, size, layers, seed):
    model = model_of(heads, size, layers, seed)
    changed = rotated(model, generator=seeded(seed))
    tokens = torch.randint(66, (2, 9), generator=seeded(seed))
    assert_close(changed(tokens), model(tokens), atol=1e-10, rtol=0)
    for block in range(layers):
        before, after = projections(model, block), projections(changed, block)
        for one, two in zip(before, after, strict=True):
            assert (one - two).abs().max() > 1e-3
        pair = head_products(before, heads), head_products(after, heads)
        assert_close(*pair, atol=1e-12, rtol=0)


@few
@given(count=st.integers(1, 3), size=st.integers(1, 6), seed=st.integers(0, 2**30))
def test_rotations_are_orthogonal(count, size, seed):
    turns = rotations(count, size, generator=seeded(seed))
    identity = torch.eye(size, dtype=torch.float64).expand_as(turns)
    assert_close(turns @ turns.mT, identity, atol=1e-12, rtol=0)


@few
@given(n_x=st.integers(1, 10), n_y=st.integers(1, 10), seed=st.integers(0, 2**30))
def test_the_construction_is_a_step_of_descent_and_as_sparse_as_told(n_x, n_y, seed):
    g = seeded(seed)
    reference = torch.randn(n_y, n_x, generator=g, dtype=torch.float64)
    xs = torch.randn(1, 6, n_x, generator=g, dtype=torch.float64)
    ys = torch.randn(1, 6, n_y, generator=g, dtype=torch.float64)
    weights = construction(reference, 0.3, 5)
    told = sparsity_of_construction(n_x, n_y)
    for name in ("query", "key", "value"):
        assert sparsity_ratio(getattr(weights, name), 1e-12) == pytest.approx(told[name])
    out = linear_attention(
        torch.cat([xs, ys], -1), *(m[None] for m in weights), context_mask(5)
    )[0, -1]  # fmt: skip
    start = reference.clone().requires_grad_()
    loss = 0.5 * (xs[0, :5] @ start.mT - ys[0, :5]).square().sum(1).mean()
    change = -0.3 * torch.autograd.grad(loss, start)[0]
    assert_close(out[n_x:], ys[0, -1] - change @ xs[0, -1], atol=1e-10, rtol=0)
    key_query, output_value = (p[0] for p in head_products(weights, 1))
    assert torch.linalg.matrix_rank(key_query) == n_x
    assert torch.linalg.matrix_rank(output_value) == n_y


def test_shares_of_gaussians_are_those_of_many_draws():
    drawn = 0.125 * torch.randn(400, 400, generator=seeded(0), dtype=torch.float64)
    for threshold in (1e-3, 1e-2, 0.1):
        expected = sparsity_of_gaussian(0.125, threshold)
        assert sparsity_ratio(drawn, threshold) == pytest.approx(expected, abs=0.005)


# --- matrices of models ---------------------------------------------------------------------------


def test_products_are_what_scores_and_updates_are_made_of():
    model = model_of(3, 4, 1, 0)
    attention, p = model.blocks[0].attention, projections(model, 0)
    x = torch.randn(1, 1, 12, generator=seeded(1), dtype=torch.float64)
    _, output_value = head_products(p, 3)
    # One token attends to itself alone, so that what is written is the sum of W_O W_V over heads.
    alone = attention(x, torch.ones(1, 1, dtype=torch.bool))
    assert_close(alone, x @ output_value.sum(0).mT)
    key_query, _ = head_products(p, 3)
    q, k = (m[4:8] @ x[0, 0] for m in (p.query, p.key))
    assert_close(x[0, 0] @ key_query[1] @ x[0, 0], q @ k)


def test_heads_may_share_keys_and_values():
    g = seeded(0)
    q, k, v, o = (torch.randn(size, generator=g) for size in ((8, 8), (4, 8), (4, 8), (8, 8)))
    key_query, output_value = head_products(Projections(q, k, v, o), 4)
    assert_close(key_query[1], k[:2].mT @ q[2:4])
    assert_close(output_value[3], o[:, 6:] @ v[2:])
    with pytest.raises(ValueError, match="3 heads do not divide 8 rows"):
        head_products(Projections(q, k, v, o), 3)


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_matrices_of_pretrained_models_do_what_their_attention_does(family):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if family == "GPT2":
        config = transformers.GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2)
        adapted = PretrainedLM(transformers.GPT2LMHeadModel(config), None)
    else:
        config = transformers.LlamaConfig(
            vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=8,
        )  # fmt: skip
        adapted = PretrainedLM(transformers.LlamaForCausalLM(config), None)
    seen = {}
    attention = adapted.blocks[1].attn if family == "GPT2" else adapted.blocks[1].self_attn
    hook = attention.register_forward_hook(
        lambda module, args, kwargs, out: seen.update(
            x=(args or (kwargs["hidden_states"],))[0], out=out[0]
        ),
        with_kwargs=True,
    )
    with torch.no_grad():
        adapted(torch.tensor([[3]]))  # one token: what is written is W_O W_V x
    hook.remove()
    p = projections(adapted, 1)
    _, output_value = head_products(p, adapted.heads)
    assert p.query.shape == (16, 16) and p.output.shape == (16, 16)
    assert_close(seen["out"][0, 0], output_value.sum(0) @ seen["x"][0, 0], atol=1e-5, rtol=1e-4)


def test_sparsity_of_a_pretrained_model(tmp_path, tokenizer_of):
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizer_of(["a dull film", "a warm film"])
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    result = weight_sparsity(WeightSparsityConfig(model=str(tmp_path), seeds=(0,)))
    assert result.stages == (str(tmp_path), "Gaussian")
    assert result.ratio.shape == (2, 1, 2, 3, 2) and result.head_width == 8
    # Drawn with 0.02: a quarter and more below 0.01.
    assert abs(result.ratio[0, ..., 1].mean() - sparsity_of_gaussian(0.02, 0.01)) < 0.05
    assert len(figures.weight_sparsity(result).axes) == 2


# --- abilities ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def course():
    return course_models()[0]


def test_one_pass_gives_the_accuracy_of_every_prefix(course):
    """The last number is the accuracy of the whole prompts; the first that without any."""
    prompts = attribute_prompts("kind", 3, 50, generator=seeded(4))
    found = ability(course, "kind", 3, 50, generator=seeded(4))
    last = accuracy_over_vocabulary(answer_law(course, prompts.tokens), prompts.answer)
    assert found.accuracy[-1] == last
    first = answer_law(course, prompts.tokens[:, :4])
    assert found.accuracy[0] == accuracy_over_vocabulary(first, prompts.labels[:, 0])
    named = prompts.choices[first[:, prompts.choices].argmax(-1)]
    assert found.among_labels[0] == (named == prompts.labels[:, 0]).double().mean()
    assert (found.among_labels >= found.accuracy).all()


def test_random_labels_leave_the_right_answer(course):
    """Where the labels' words tell the attribute and nothing else, random ones do as well."""
    g = [seeded(5) for _ in range(3)]
    right, random, contrary = (
        ability(course, f"mood{kind}", 4, 100, generator=draw).accuracy
        for kind, draw in zip(("", " random labels", " contrary"), g, strict=True)
    )
    assert right[0] == random[0]  # nothing shown, the same queries
    assert right[4] == 1 and contrary[4] > 0.9 and 0.3 < random[4] < 0.9


def test_code_words_differ_from_prompt_to_prompt(course):
    found = ability(course, "topic code", 2, 60, generator=seeded(6), letters=(0, 3))
    assert found.accuracy.max() < 0.1 and 0.05 < found.among_labels.mean() < 0.5


@pytest.mark.parametrize(
    "task, said",
    [("weather", "task: its attribute"), ("topic wrong", "what follows"), ("mood novel", "novel")],
)
def test_unknown_abilities_are_refused(course, task, said):
    with pytest.raises(ValueError, match=said):
        ability(course, task, 1, 2, generator=seeded(0))


# --- what was found -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    return result_of("weights_and_ability", Scale.LESSON)


def test_the_distances_are_those_of_the_weights(lesson):
    steps = len(lesson.steps)
    assert lesson.change.shape == (steps, steps, 3, 3)
    diagonal = lesson.change[np.arange(steps), np.arange(steps)]
    assert np.allclose(diagonal[..., :2], 0) and np.allclose(diagonal[..., 2], 1)
    assert np.allclose(lesson.change[1, 5, :, 0], lesson.change[5, 1, :, 0])
    moved = lesson.to_last()[..., 1]
    assert (np.diff(moved, axis=0) < 0).all() and (moved[0] > 0.5).all()


def test_pairs_hold_the_gaps_of_two_checkpoints(lesson):
    contrary = lesson.of("stance contrary")
    steps, parameters, gap = lesson.pairs(contrary, 1000)
    assert len(steps) == 6 and steps[0, 0] == 1000
    assert np.allclose(gap[-1], np.abs(contrary[-1] - contrary[-2]))
    assert np.allclose(parameters[-1], lesson.change[-2, -1, :, 0])


def test_abilities_come_one_after_the_other(lesson):
    right, contrary = (lesson.first_step(t) for t in ("stance", "stance contrary"))
    assert (right < contrary).all() and np.isinf(lesson.first_step("topic contrary")).any()
    early = lesson.steps.index(1000)
    assert (lesson.of("stance random labels")[early] > 0.9).all()
    assert (lesson.of("stance random labels")[-1] < 0.7).all()
    assert (lesson.of("topic", 0) < 0.8).all()
    assert len(ABILITIES) == 12 and "stance contrary" in lesson.summary()


def test_without_coherent_documents_there_is_nothing_to_recognise(lesson):
    assert lesson.control[:1].max() < 0.3 and lesson.control_among_labels[0, :, 0].min() > 0.9
    stored = stored_recipe("incoherent_language_models")
    assert incoherent_weights(stored.config)["1000.read_out.bias"].dtype == torch.float16


def test_shares_and_ranks_through_training():
    result = result_of("weight_sparsity", Scale.LESSON)
    assert result.stages[0] == "0" and result.stages[result.trained] == "6000"
    assert (result.ratio[..., 0] < 0.02).all() and result.construction[0] > 0.98
    assert (result.rank[..., 3:] <= result.head_width).all()
    assert (np.diff(result.rank[:-1].mean((1, 2)), axis=0)[:4] < 0).all()


def test_the_figure_has_a_panel_for_each_attribute(lesson):
    fig = figures.weights_and_ability(lesson)
    titles = [ax.get_title("left") for ax in fig.axes[:4]]
    assert titles == ["topic", "stance", "mood", "kind"]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="trained are"):
        WeightsAndAbilityConfig(seeds=(7,))
    with pytest.raises(ValueError, match="thresholds"):
        WeightSparsityConfig(thresholds=(0.0,))
    with pytest.raises(ValueError, match="blocks are 0 to 0"):
        projections(model_of(1, 2, 1, 0), 1)
    with pytest.raises(ValueError, match="factor"):
        rescaled(model_of(1, 2, 1, 0), -1.0)
    assert CourseLMTraining().layers == 3
