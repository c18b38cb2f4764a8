"""How alike two updates are: identities of the measures, the record, its claims and its figure."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import icl_lessons.language_models.claims.attention_as_update
import icl_lessons.language_models.claims.update_similarity  # noqa: F401
from icl_lessons.declare import CLAIMS, result_of
from icl_lessons.language_models.course_models import course_models
from icl_lessons.language_models.experiments.update_similarity import (
    BY_ANSWER,
    BY_BLOCK,
    CAUSAL,
    EMBEDDINGS,
    FULL_BATCH,
    MODELS,
    ONE_PASS,
    UNTRAINED,
    WAYS,
    UpdateSimilarityConfig,
    other_labels,
    similarity_of_updates,
    the_models,
)
from icl_lessons.language_models.figures import update_similarity as figures
from icl_lessons.language_models.fine_tuning import FineTuning, fine_tune
from icl_lessons.language_models.function_vectors import attention_outputs
from icl_lessons.language_models.layer_causal import layer_causal_fine_tune
from icl_lessons.language_models.subjects import course_prompts, subject
from icl_lessons.language_models.update_similarity import (
    KEYS_AND_VALUES,
    attention_scores,
    cosine,
    demonstrations_as_update,
    demonstrations_share,
    embeddings_only,
    independent_similarity,
    random_update,
    recalled,
    relative_sizes,
    score_change_similarity,
    score_similarity,
    untrained,
    update_similarity,
    weight_updates,
)
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded

VERDICTS = {
    "dai2023-demonstrations-as-update": "holds",
    "dai2023-training-as-attention": "holds",
    "deutch2024-softmax-mixes": "holds",
    "deutch2024-independent-updates": "holds",
    "dai2023-outputs-alike": "holds",
    "dai2023-alike-by-labels": "holds",
    "deutch2024-no-more-than-null": "does not hold",
    "deutch2024-normalising-raises": "holds in part",
    "deutch2024-raw-is-low": "does not hold",
    "deutch2024-untrained-as-alike": "does not hold",
    "deutch2024-untrained-as-alike-normalised": "does not hold",
    "deutch2024-embeddings-as-alike": "does not hold",
    "deutch2024-causal-closer-in-outputs": "does not hold",
    "deutch2024-causal-closer-in-scores": "holds in part",
    "dai2023-scores-nearer": "holds",
    "deutch2024-untrained-scores-alike": "does not hold",
    "dai2023-covers-fine-tuning": "holds",
    "dai2023-context-better": "holds in part",
    "deutch2024-different-updates": "does not hold",
    "deutch2024-causal-moves-further": "holds in part",
}
sizes, seeds = st.integers(1, 6), st.integers(0, 10**6)
few = settings(deadline=None, max_examples=12)


def drawn(seed, *shapes):
    """Standard normal tensors in float64."""
    g = seeded(seed)
    return [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes]


def random_model(heads, size, layers, seed, **shape):
    config = SequenceTransformerConfig(
        vocabulary=9, width=heads * size, layers=layers, heads=heads, init_std=0.5, **shape
    )
    return SequenceTransformer(config, generator=seeded(seed)).double()


# --- attention as an update -----------------------------------------------------------------------


@few
@given(n=sizes, own=sizes, width=sizes, inputs=sizes, seed=seeds)
def test_linear_attention_adds_an_update_and_softmax_mixes(n, own, width, inputs, seed):
    values, keys, query = drawn(seed, (n + own, width), (n + own, inputs), (inputs,))
    scores = keys @ query
    update = demonstrations_as_update(values[:n], keys[:n])
    assert torch.linalg.matrix_rank(update) <= n
    alone = values[n:].mT @ scores[n:]
    assert_close(alone + update @ query, values.mT @ scores, atol=1e-10, rtol=0)
    share = demonstrations_share(scores[:n], scores[n:])
    assert_close(share, scores.softmax(0)[:n].sum(), atol=1e-12, rtol=0)
    demo, zero = (scores[p].softmax(0) @ values[p] for p in (slice(n), slice(n, None)))
    mixed = share * demo + (1 - share) * zero
    assert_close(mixed, scores.softmax(0) @ values, atol=1e-10, rtol=0)


@few
@given(heads=st.integers(1, 3), size=sizes, length=sizes, seed=seeds,
       positions=st.sampled_from(["alibi", "learned", None]))  # fmt: skip
def test_scores_are_those_that_attention_is_made_from(heads, size, length, seed, positions):
    model = random_model(heads, size, 2, seed, positions=positions)
    tokens = torch.randint(9, (3, length), generator=seeded(seed))
    scores = attention_scores(model, tokens, length)
    seen = []
    hooks = [
        block.attention.query_key_value.register_forward_hook(lambda m, a, o: seen.append(o))
        for block in model.blocks
    ]
    outputs = attention_outputs(model, tokens)
    for hook in hooks:
        hook.remove()
    for block, layer in enumerate(model.blocks):
        values = seen[block].chunk(3, -1)[2].unflatten(-1, (heads, size))
        read = torch.einsum("hbt,bths->bhs", scores[block].softmax(-1), values).flatten(1)
        assert_close(layer.attention.write(read), outputs[block], atol=1e-10, rtol=0)
    for own in range(1, length):
        assert torch.equal(attention_scores(model, tokens, own), scores[..., -own:])
    assert not any(b.attention.query_key_value._forward_hooks for b in model.blocks)


# --- cosines of changes ---------------------------------------------------------------------------


@few
@given(layers=sizes, batch=sizes, width=sizes, seed=seeds, short=st.integers(0, 40))
def test_cosines_do_not_depend_on_length(layers, batch, width, seed, short):
    one, two = (x.float() for x in drawn(seed, *[(layers, batch, width)] * 2))
    found = cosine(one, two)
    assert_close(found, torch.nn.functional.cosine_similarity(one, two, dim=-1))
    assert_close(cosine(one * 10.0 ** (-short / 2), two), found, atol=1e-4, rtol=0)
    assert (cosine(torch.zeros_like(one), two) == 0).all()


@few
@given(layers=sizes, batch=sizes, more=sizes, seed=seeds, normalised=st.booleans())
def test_similarity_of_an_update_with_itself_its_opposite_and_an_independent_one(
    layers, batch, more, seed, normalised
):
    frame, lengths = drawn(seed, (layers, batch, 3 + more, 3), (3, layers, batch, 1))
    z, one, two = torch.linalg.qr(frame).Q.movedim(-1, 0) * lengths.exp()
    ones = torch.ones(layers, batch, dtype=z.dtype)
    same = update_similarity(z, z + one, z + one, normalised=normalised)
    assert_close(same, ones, atol=1e-10, rtol=0)
    found = update_similarity(z, z + one, z + two, normalised=normalised)
    c = relative_sizes(z, z + one), relative_sizes(z, z + two)
    assert_close(c[0], (lengths[1] - lengths[0]).exp()[..., 0] ** 2, atol=0, rtol=1e-9)
    null = independent_similarity(*c) if normalised else torch.zeros_like(ones)
    assert_close(found, null, atol=1e-10, rtol=0)
    if not normalised:
        against = update_similarity(z, z + one, z - 3 * one, normalised=False)
        assert_close(against, -ones, atol=1e-10, rtol=0)


def test_the_null_of_the_papers_counter_example_and_of_noise():
    c = torch.tensor([1.0, 3.0, 10.0, 1e12], dtype=torch.float64)
    wanted = torch.tensor([0.1464, 0.25, 0.3492, 0.5], dtype=c.dtype)
    assert_close(independent_similarity(c, c), wanted, atol=1e-4, rtol=0)
    z, one, two = drawn(0, *[(1, 50, 4000)] * 3)
    far, farther = z + 3**0.5 * one, z + 3**0.5 * two
    noise = update_similarity(z, far, farther, normalised=True)
    assert abs(noise.mean() - 0.25) < 0.01
    assert update_similarity(z, far, farther, normalised=False).mean().abs() < 0.01


@few
@given(layers=sizes, batch=sizes, width=sizes, seed=seeds)
def test_a_random_update_is_as_large_and_points_elsewhere(layers, batch, width, seed):
    z, tuned = drawn(seed, *[(layers, batch, width + 20)] * 2)
    found = random_update(z, tuned, generator=seeded(seed + 1))
    assert_close(relative_sizes(z, found), relative_sizes(z, tuned), atol=0, rtol=1e-10)
    assert (cosine(found - z, tuned - z) < 0.999).all()


@few
@given(layers=sizes, heads=sizes, batch=sizes, seed=seeds)
def test_maps_that_share_a_base_are_alike_whatever_is_added(layers, heads, batch, seed):
    base, one, two = drawn(seed, *[(layers, heads, batch, 3)] * 3)
    far = score_similarity(1e4 * base + one, 1e4 * base + two)
    assert (far > 0.99).float().mean() > 0.9 or base.abs().min() < 1e-2
    changes = score_change_similarity(base, base + one, base + two)
    assert_close(changes, cosine(one, two).mean(1), atol=1e-9, rtol=0)


def test_no_demonstration_changes_a_score_in_the_first_block():
    model = course_models()[0]
    prompts = course_prompts("topic", 4, 5, 0)
    shown, alone = (
        attention_scores(model, tokens, 3) for tokens in (prompts.tokens, prompts.query_tokens)
    )
    assert_close(shown[0], alone[0], atol=1e-4, rtol=1e-4)
    assert (shown[1:] - alone[1:]).abs().amax((1, 2, 3)).min() > 0.1


# --- answers, weights, controls -------------------------------------------------------------------


def test_recalled_counts():
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    zero, context, tuned = (
        torch.tensor(rows)
        for rows in (
            [wrong, wrong, wrong, right, wrong],
            [right, wrong, right, right, right],
            [right, right, wrong, right, right],
        )
    )
    answer = torch.zeros(5, dtype=torch.long)
    assert recalled(zero, context, tuned, answer) == (2, 3)
    assert recalled(zero, context, zero, answer) == (0, 0)


@few
@given(heads=st.integers(1, 2), layers=st.integers(1, 3), seed=seeds)
def test_weight_updates_are_those_of_keys_and_values(heads, layers, seed):
    model = random_model(heads, 4, layers, seed)
    g = seeded(seed)
    inputs, labels = torch.randint(9, (1, 4), generator=g), torch.randint(9, (1,), generator=g)
    how = FineTuning(learning_rate=0.1, epochs=1, batch_size=1, parts=KEYS_AND_VALUES)
    plain, causal = (f(model, inputs, labels, how) for f in (fine_tune, layer_causal_fine_tune))
    moved = weight_updates(model, plain, layers)
    width = model.config.width
    assert moved.shape == (layers, 2 * width * width) and moved.norm() > 0
    everything = sum(
        (b - a).square().sum() for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )
    assert_close(moved.square().sum(), everything, atol=1e-12, rtol=1e-9)
    # in the last block the first step is the same
    assert_close(weight_updates(model, causal, layers)[-1], moved[-1], atol=1e-12, rtol=0)


def test_the_controls():
    who = subject("course", 1)
    models = the_models(who, 1)
    assert tuple(models) == MODELS
    states = {name: model.state_dict() for name, model in models.items()}
    for name, trained in states[MODELS[0]].items():
        inside = name.startswith("blocks.") and "norm" not in name
        source = UNTRAINED if inside else MODELS[0]
        assert torch.equal(states[EMBEDDINGS][name], states[source][name])
        if name.endswith("query_key_value.weight"):
            assert not torch.equal(trained, states[UNTRAINED][name])
    with pytest.raises(ValueError, match="model: got the shape"):
        untrained(random_model(1, 4, 1, 0), 0)


def test_other_labels_are_the_next_choices():
    for task in ("stance", "stance contrary", "mood"):
        prompts = course_prompts(task, 8, 2, 0)
        choices = prompts.choices.tolist()
        wanted = [
            choices[(choices.index(x) + 1) % len(choices)] for x in prompts.labels[0].tolist()
        ]
        assert other_labels(prompts).tolist() == wanted
    contrary = course_prompts("mood contrary", 8, 2, 0)  # of the same sentences
    assert other_labels(prompts).tolist() == contrary.labels[0].tolist()


# --- the study ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    return result_of("update_similarity", Scale.LESSON)


def test_the_record_and_the_figure(lesson):
    config = UpdateSimilarityConfig()
    shape = (3, len(config.tasks), 3, len(config.rates), 3, 3)
    assert set(lesson.by_block) == set(BY_BLOCK) and set(lesson.by_answer) == set(BY_ANSWER)
    assert all(values.shape == shape for values in lesson.by_block.values())
    assert lesson.weights.shape == (3, len(config.tasks), len(config.rates), 3, 3)
    rate = lesson.chosen(ONE_PASS)
    assert rate.shape == (len(config.tasks), 3)
    for (task, seed), place in np.ndenumerate(rate):
        raw = lesson.by_block["raw"][0, task, WAYS.index(ONE_PASS), place, :, seed]
        assert np.array_equal(lesson.of("raw")[task, :, seed], raw)
    assert np.allclose(lesson.mean("scores"), lesson.of("scores")[:, 1:].mean((0, 1)))
    assert np.isnan(lesson.of("score_changes")[:, 0]).all()
    both, gained = lesson.recalled()
    assert (both <= gained).all() and (gained > 0).all()
    assert all(way in lesson.summary() for way in (ONE_PASS, CAUSAL, FULL_BATCH))
    assert len(figures.similarity_of_updates(lesson).axes) == 4
    with pytest.raises(ValueError, match="measure"):
        lesson.of("likeness")


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_claims(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence = CLAIMS[name].check(Scale.LESSON)
    assert evidence.verdict == VERDICTS[name] and type(evidence.measured) is float


def test_the_same_study_on_a_pretrained_model(tiny_model_and_reviews):
    result = similarity_of_updates(
        UpdateSimilarityConfig(
            **tiny_model_and_reviews, n=2, n_queries=3, validation=2, rates=(0.1,), epochs=2,
            seeds=(0,),
        )
    )  # fmt: skip
    assert result.by_block["raw"].shape == (3, 1, 3, 1, 2, 1)
    assert np.isfinite(result.by_block["raw"]).all() and result.by_block["moved"].min() > 0
    assert np.isnan(result.by_block["scores"]).all()
    assert len(figures.similarity_of_updates(result).axes) == 2
    who = subject(tiny_model_and_reviews["model"], 0, tiny_model_and_reviews["data"])
    start = untrained(who.model, 0)
    made = dict(embeddings_only(who.model, start).named_parameters())
    for name, parameter in who.model.named_parameters():
        learned = ".h." not in name or "ln_" in name
        wanted = parameter if learned else dict(start.named_parameters())[name]
        assert torch.equal(made[name], wanted)
    with pytest.raises(TypeError, match="got PretrainedLM; use CourseLM"):
        attention_scores(who.model, torch.zeros(1, 2, dtype=torch.long), 1)


def test_what_cannot_be_is_refused(as_readers_run_it):
    with pytest.raises(ValueError, match="own: got 3; the prompts have 2 tokens"):
        attention_scores(random_model(1, 4, 1, 0), torch.zeros(1, 2, dtype=torch.long), 3)
    with pytest.raises(TypeError, match="model: got Linear"):
        untrained(torch.nn.Linear(1, 1), 0)
    for changes, said in (
        ({"rates": ()}, "rates"),
        ({"rates": (0.1, -1.0)}, "rates"),
        ({"tasks": ("weather",)}, "tasks"),
        ({"validation": 0}, "validation"),
    ):
        with pytest.raises(ValueError, match=said):
            UpdateSimilarityConfig(**changes)
    with pytest.raises(ValueError, match="way"):
        UpdateSimilarityConfig().descend("uphill")
