"""The exact filter as a reader of prompts: against every path of modes, written out."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.language_models.mode_reader import filter_answers, known_modes
from icl_lessons.runtime import seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.tasks.attribute_text import ATTRIBUTES, FIRST_LABEL, NAMES, AttributeText

TASKS = st.sampled_from(NAMES)
SEEDS = st.integers(0, 2**31)
FEW = settings(deadline=None, max_examples=12)


def mixed_prompts(attribute: str, n: int, batch: int, seed: int):
    """Prompts whose labels are drawn from the task's words, so that the modes quarrel."""
    prompts = attribute_prompts(attribute, n, batch, generator=seeded(seed))
    drawn = torch.randint(len(prompts.choices), (batch, n), generator=seeded(seed + 1))
    return prompts.with_labels(prompts.choices[drawn])


def told(attribute: int, shift: int, values, noise: float, label: int) -> float:
    """P(label | canonical or contrary remark about an attribute), from the words of the notes."""
    names = ATTRIBUTES[attribute].labels
    right = names[(int(values[attribute]) + shift) % len(names)]
    return (1 - noise) * (label == right) + noise / len(names) * (label in names)


def likelihood(mode: int, values, noise: float, label: int) -> float:
    if mode == 8:
        return sum(told(a, 0, values, noise, label) for a in range(4)) / 4
    return told(mode % 4, mode // 4, values, noise, label)


@given(task=TASKS, seed=SEEDS, hazard=st.floats(0, 1), noise=st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=10)
def test_answers_are_those_of_all_paths_of_three_sentences(task, seed, hazard, noise):
    text = AttributeText(hazard=hazard, noise=noise)
    h = 0.93 * hazard / (1 - 0.07 * hazard)
    prior = [0.65 / 4 / 0.93] * 4 + [0.2 / 4 / 0.93] * 4 + [0.08 / 0.93]
    prompts = mixed_prompts(task, 2, 1, seed)
    values, labels = prompts.values[0], prompts.labels[0].tolist()
    joint = torch.zeros(text.vocabulary, dtype=torch.float64)
    for path in itertools.product(range(9), repeat=3):
        weight = prior[path[0]]
        for before, after in itertools.pairwise(path):
            weight *= (1 - h) * (before == after) + h * prior[after]
        for mode, v, label in zip(path, values, labels, strict=False):
            weight *= likelihood(mode, v, noise, label)
        for word in range(FIRST_LABEL, FIRST_LABEL + 9):
            joint[word] += weight * likelihood(path[2], values[2], noise, word)
    assert_close(filter_answers(prompts, text)[0], joint / joint.sum(), atol=1e-12, rtol=0)


@given(task=TASKS, seed=SEEDS, n=st.integers(2, 9))
@FEW
def test_without_drift_the_order_does_not_matter_at_all(task, seed, n):
    prompts = mixed_prompts(task, n, 3, seed)
    turned = prompts.in_order(torch.randperm(n, generator=seeded(seed + 2)).tolist())
    assert_close(
        filter_answers(turned, hazard=0), filter_answers(prompts, hazard=0), atol=1e-12, rtol=0
    )


def test_with_drift_the_last_demonstrations_tell_most():
    right = attribute_prompts("kind", 8, 50, generator=seeded(0))
    wrong = right.labels.clone()
    wrong[:, :4] = right.choices.sum() - wrong[:, :4]  # the other of two words
    prompts = right.with_labels(wrong)
    rows = torch.arange(50)
    late = filter_answers(prompts)[rows, prompts.answer]
    early = filter_answers(prompts.in_order((4, 5, 6, 7, 0, 1, 2, 3)))[rows, prompts.answer]
    assert late.mean() > early.mean() + 0.2


@given(task=TASKS, seed=SEEDS, n=st.integers(0, 6), hazard=st.floats(0, 1))
@FEW
def test_answers_are_laws_and_modes_begin_with_the_prior(task, seed, n, hazard):
    text = AttributeText(hazard=hazard)
    prompts = mixed_prompts(task, n, 4, seed)
    known = known_modes(prompts, text)
    assert known.shape == (4, n + 1, 9)
    assert_close(known[:, 0], text.mode_prior.expand(4, -1))
    assert_close(known.sum(-1), torch.ones(4, n + 1, dtype=torch.float64), atol=1e-12, rtol=0)
    answers = filter_answers(prompts, text)
    assert_close(answers.sum(-1), torch.ones(4, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (answers[:, :FIRST_LABEL] == 0).all()
    if n == 0:
        law = text.label_law(prompts.values[:, 0])
        assert_close(answers, torch.einsum("z,bzv->bv", text.mode_prior, law))


def test_a_hazard_of_its_own_takes_the_place_of_the_texts():
    prompts = mixed_prompts("stance", 5, 6, 3)
    text = AttributeText(hazard=0.25)
    assert_close(filter_answers(prompts, text), filter_answers(prompts, hazard=text.remark_hazard))
    assert (filter_answers(prompts, text) - filter_answers(prompts)).abs().max() > 0.01


def test_many_right_labels_are_followed():
    for task in NAMES:
        prompts = attribute_prompts(task, 8, 60, generator=seeded(4))
        assert (filter_answers(prompts).argmax(-1) == prompts.answer).double().mean() > 0.9


def test_what_cannot_be_is_refused():
    prompts = attribute_prompts("kind", 2, 3, generator=seeded(0))
    code = attribute_prompts("kind", 2, 3, generator=seeded(0), mapping="code")
    with pytest.raises(ValueError, match="no mode allows observation 0"):
        filter_answers(code)
    with pytest.raises(ValueError, match="hazard"):
        filter_answers(prompts, hazard=1.5)
    with pytest.raises(ValueError, match="no mode allows"):
        filter_answers(
            replace(prompts, labels=torch.zeros_like(prompts.labels)), AttributeText(noise=0)
        )
