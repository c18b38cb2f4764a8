"""A model trained on prompts: its corpus, its loss, and what it can and cannot do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import result_of
from icl_lessons.language_models.experiments.in_context_objective import (
    InContextObjectiveConfig,
)
from icl_lessons.language_models.figures.in_context_objective import in_context_objective
from icl_lessons.language_models.in_context_objective import (
    InContextTraining,
    PromptsOnly,
    in_context_loss,
    in_context_models,
    with_separators,
)
from icl_lessons.language_models.weights_and_ability import ability
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.tasks.attribute_text import (
    ATTRIBUTES,
    BEGIN,
    FIRST_A,
    FIRST_B,
    FIRST_LABEL,
    FIRST_NOUN,
    FIRST_PREDICATE,
)

few = settings(max_examples=10, deadline=None)


def labels_of(noun: int, predicate: int, shift: int) -> list[int]:
    """What each attribute of a sentence is called, or the next value of it."""
    noun, predicate = (noun - FIRST_NOUN) // 2, (predicate - FIRST_PREDICATE) // 3
    values = noun // 2, predicate // 2, predicate % 2, noun % 2
    return [a.labels[(v + shift) % a.values] for a, v in zip(ATTRIBUTES, values, strict=True)]


@few
@given(
    batch=st.integers(1, 6), n=st.integers(1, 9), letter=st.integers(0, 4),
    contrary=st.sampled_from([0, 1]), seed=st.integers(0, 2**30),
)  # fmt: skip
def test_every_text_is_a_prompt_about_one_attribute(batch, n, letter, contrary, seed):
    texts = PromptsOnly(contrary=contrary, letter=letter).sample(batch, n, generator=seeded(seed))
    assert texts.shape == (batch, 5 * n + 1) and (texts[:, 0] == BEGIN).all()
    parts = texts[:, 1:].unflatten(1, (n, 5))
    assert (parts[..., 2] == FIRST_A + letter).all() and (parts[..., 4] == FIRST_B + letter).all()
    for text in parts.tolist():
        told = [[labels_of(noun, predicate, contrary)[a] for noun, predicate, *_ in text]
                for a in range(4)]  # fmt: skip
        assert [pair[3] for pair in text] in told


def test_a_quarter_of_the_texts_is_contrary_and_the_attributes_take_their_share():
    texts = PromptsOnly().sample(2000, 12, generator=seeded(0))[:, 1:].unflatten(1, (12, 5))
    kinds = []
    for text in texts.tolist():
        fits = [
            (a, shift)
            for shift in (0, 1)
            for a in range(4)
            if all(labels_of(p[0], p[1], shift)[a] == p[3] for p in text)
        ]
        kinds.append(fits[0])
        assert len(fits) == 1  # twelve pairs leave no doubt
    shifts = np.array([shift for _, shift in kinds])
    counts = np.bincount([a for a, _ in kinds], minlength=4) / len(kinds)
    assert abs(shifts.mean() - 0.25) < 0.03 and (abs(counts - 0.25) < 0.03).all()


@few
@given(batch=st.integers(1, 4), n=st.integers(1, 6), seed=st.integers(0, 2**30))
def test_the_loss_is_that_of_the_labels_each_after_its_own_prefix(batch, n, seed):
    """Equation 2, prefix by prefix, as prompts that end where the label comes."""
    shape = SequenceTransformerConfig(vocabulary=66, width=8, layers=2, heads=2, init_std=0.5)
    model = SequenceTransformer(shape, generator=seeded(seed)).double()
    texts = PromptsOnly().sample(batch, n, generator=seeded(seed))
    total = 0.0
    for i in range(n):
        prompt, label = texts[:, : 5 * i + 4], texts[:, 5 * i + 4]
        assert (label >= FIRST_LABEL).all()
        total = total - model(prompt)[:, -1].gather(-1, label[:, None]).mean() / n
    assert_close(in_context_loss(model, texts), total, atol=1e-12, rtol=0)


def test_no_other_token_has_a_part_in_the_loss():
    shape = SequenceTransformerConfig(vocabulary=66, width=8, layers=1, heads=2)
    model = SequenceTransformer(shape, generator=seeded(1)).double()
    texts = PromptsOnly().sample(2, 3, generator=seeded(2))
    changed = texts.clone()
    changed[:, -1] = BEGIN  # the last separator comes after every label
    assert in_context_loss(model, changed) == in_context_loss(model, texts)
    changed[:, 1] = BEGIN
    assert in_context_loss(model, changed) != in_context_loss(model, texts)


@few
@given(letters=st.lists(st.integers(0, 4), min_size=1, max_size=4), batch=st.integers(1, 9))
def test_other_separators_and_nothing_else(letters, batch):
    prompts = attribute_prompts("mood", 2, batch, generator=seeded(0))
    other = with_separators(prompts, letters)
    expected = torch.tensor([letters[i % len(letters)] for i in range(batch)])
    assert torch.equal(other.separators[:, 0], FIRST_A + expected)
    assert torch.equal(other.separators[:, 1], FIRST_B + expected)
    assert torch.equal(other.labels, prompts.labels) and torch.equal(other.answer, prompts.answer)
    assert (other.tokens[:, 3] == other.separators[:, 0]).all()


def test_a_short_training_is_trained_anew():
    small = InContextTraining(
        width=8, layers=1, heads=2, steps=3, batch_size=2, pairs=2, seeds=(4, 5)
    )
    one, two = in_context_models(small)
    assert one.config.vocabulary == 66 and len(one.blocks) == 1
    assert not torch.equal(one.read_out.weight, two.read_out.weight)


def test_the_stored_models_answer_both_mappings_of_every_attribute():
    for model in in_context_models():
        for task in ("topic", "topic contrary", "mood contrary"):
            found = ability(model, task, 4, 60, generator=seeded(3), letters=(0,))
            assert found.accuracy[1:].min() > 0.95, task


@pytest.fixture(scope="module")
def lesson():
    return result_of("in_context_objective", Scale.LESSON)


def test_what_each_model_is_good_for(lesson):
    rival, course = lesson.of("prompts alone"), lesson.of("CourseLM")
    assert (rival[..., -1] > 0.75).all() and (course[:4, :, -1] > 0.85).all()
    lost = rival - lesson.of("prompts alone", "others")
    assert (lost[..., -1].mean(0) > 0.2).all()
    assert np.abs(course - lesson.of("CourseLM", "others"))[..., -1].mean() < 0.05
    assert (lesson.loss[0] > lesson.uniform).all() and (lesson.loss[1] < 2).all()
    assert lesson.code[..., -1].max() < 0.2


def test_the_record_and_the_figure(lesson):
    assert lesson.accuracy.shape == (2, 2, 8, 3, 9) and lesson.sensitivity.shape == (2, 4, 3)
    assert lesson.loss.shape == (2, 3) and lesson.code.shape == (2, 4, 3, 9)
    assert "prompts alone: nats" in lesson.summary()
    assert len(in_context_objective(lesson).axes) == 4


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: PromptsOnly(contrary=1.5), "contrary"),
        (lambda: PromptsOnly(letter=5), "letter: got 5; use 0 to 4"),
        (lambda: InContextTraining(pairs=0), "pairs"),
        (lambda: InContextObjectiveConfig(n_orders=1), "n_orders"),
        (lambda: InContextObjectiveConfig(seeds=(9,)), "trained are"),
        (lambda: with_separators(attribute_prompts("mood", 1, 1, generator=seeded(0)), []),
         "letters"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
