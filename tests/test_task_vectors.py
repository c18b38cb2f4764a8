"""Task vectors and calibration: identities of patching, and what a vector carries in CourseLM."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.language_models.calibration import calibrated, content_free_law, label_law
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.subjects import course_prompts, course_subject
from icl_lessons.language_models.task_vectors import (
    blocks_of,
    last_states,
    patched_answers,
    task_vectors,
)
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import one_thread, seeded


@pytest.fixture(scope="module")
def course():
    with one_thread():
        return course_subject(0).model


@pytest.fixture(scope="module")
def prompts():
    return course_prompts("topic", 4, 60, 3)


def test_a_models_own_state_put_back_changes_nothing(course, prompts):
    states = last_states(course, prompts.tokens)
    plain = answer_law(course, prompts.tokens)
    assert states.shape == (3, 60, 64)
    for block in range(3):
        again = patched_answers(course, prompts.tokens, block, states[block])
        assert_close(again, plain, atol=1e-6, rtol=0)
        added = patched_answers(course, prompts.tokens, block, torch.zeros(64), "add")
        assert_close(added, plain, atol=1e-6, rtol=0)
    assert_close(answer_law(course, prompts.tokens), plain, atol=0, rtol=0)  # nothing stays


def test_after_the_last_block_the_query_no_longer_matters(course, prompts):
    vector = task_vectors(course, prompts)[2]
    answers = patched_answers(course, prompts.query_tokens, 2, vector)
    assert_close(answers, answers[:1].expand_as(answers), atol=1e-6, rtol=0)
    early = patched_answers(course, prompts.query_tokens, 0, vector, "add")
    assert (early - early[:1]).abs().max() > 1e-2


def test_states_are_counted_from_the_first_block(course, prompts):
    """After block 0, not the embeddings, which know nothing of the demonstrations."""
    with_context = last_states(course, prompts.tokens)[0]
    alone = last_states(course, prompts.query_tokens)[0]
    assert (with_context - alone).abs().max() > 1e-2


def test_a_difference_does_the_task_and_a_state_in_its_place_forgets_the_query(course):
    """The mood of a predicate: the token before the last one, read in the first block."""
    dummies, asked = course_prompts("mood", 8, 20, 11), course_prompts("mood", 8, 100, 3)
    accuracies = {}
    for how in ("replace", "add"):
        vectors = task_vectors(course, dummies, how)
        accuracies[how] = [
            accuracy_over_vocabulary(
                patched_answers(course, asked.query_tokens, block, vectors[block], how),
                asked.answer,
            )
            for block in range(3)
        ]
    assert accuracy_over_vocabulary(answer_law(course, asked.query_tokens), asked.answer) < 0.2
    assert max(accuracies["add"]) > 0.95 and max(accuracies["replace"]) < 0.6


def test_blocks_and_ways_that_are_not_there(as_readers_run_it, course, prompts):
    with pytest.raises(ValueError, match="blocks are 0 to 2"):
        patched_answers(course, prompts.tokens, 3, torch.zeros(64))
    with pytest.raises(ValueError, match="how"):
        task_vectors(course, prompts, "mean")
    with pytest.raises(TypeError, match="model: got Linear"):
        blocks_of(torch.nn.Linear(1, 1))


def test_a_hook_does_not_outlive_an_error():
    config = SequenceTransformerConfig(vocabulary=9, width=8, layers=1, heads=1)
    model = SequenceTransformer(config, generator=seeded(0))
    tokens = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(RuntimeError):
        patched_answers(model, tokens, 0, torch.zeros(5))
    assert not model.blocks[0]._forward_hooks and answer_law(model, tokens).shape == (2, 9)


# --- calibration ----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 99))
def test_a_lean_that_multiplies_is_divided_out_exactly(m, seed):
    generator = seeded(seed)
    truth = torch.rand(5, m, generator=generator, dtype=torch.float64).softmax(-1)
    lean = torch.rand(m, generator=generator, dtype=torch.float64) + 0.05
    biased = truth * lean / (truth * lean).sum(-1, keepdim=True)
    content_free = lean / lean.sum()  # an even answer, leaned on
    assert_close(calibrated(biased, content_free), truth, atol=1e-12, rtol=0)
    assert_close(calibrated(biased, 3 * content_free), truth, atol=1e-12, rtol=0)
    even = calibrated(content_free, content_free)
    assert_close(even, torch.full_like(even, 1 / m), atol=1e-12, rtol=0)


def test_label_laws_are_renormalised_and_content_free_ones_averaged_first():
    answers = torch.tensor([[0.2, 0.4, 0.3, 0.1], [0.0, 0.1, 0.3, 0.6]], dtype=torch.float64)
    choices = torch.tensor([1, 2])
    second = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert_close(label_law(answers, choices)[1], second)
    lean = content_free_law(answers, choices)
    assert_close(lean, torch.tensor([5, 6], dtype=torch.float64) / 11)
    assert not torch.allclose(lean, label_law(answers, choices).mean(0))


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="a label has probability 0"):
        calibrated(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="no label word any probability"):
        label_law(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
