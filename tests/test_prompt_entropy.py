"""Entropy of answers as a score of orders: its limits, the probes, the study, the same on text."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import result_of
from icl_lessons.language_models.experiments.prompt_entropy import (
    PromptEntropyConfig,
    prompt_entropy,
)
from icl_lessons.language_models.figures import prompt_entropy as figures
from icl_lessons.language_models.order import some_orders
from icl_lessons.language_models.prompt_entropy import (
    best_orders,
    continued,
    global_entropy,
    local_entropy,
    self_generated_probes,
)
from icl_lessons.language_models.subjects import course_prompts, course_subject
from icl_lessons.ledger import run_experiment
from icl_lessons.runtime import Scale, one_thread, seeded
from icl_lessons.tasks.attribute_text import FIRST_LABEL, FIRST_NOUN, FIRST_PREDICATE


@pytest.fixture(scope="module")
def lesson():
    return result_of("prompt_entropy", Scale.LESSON)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 9), st.integers(1, 30), st.integers(0, 10**6))
def test_entropies_lie_between_none_and_log_m(m, probes, seed):
    laws = torch.rand(3, probes, m, generator=seeded(seed), dtype=torch.float64).softmax(-1)
    for score in (global_entropy, local_entropy):
        assert ((score(laws) >= 0) & (score(laws) <= math.log(m) + 1e-4 * m)).all()
        named_else = laws[..., torch.randperm(m, generator=seeded(seed + 1))]
        assert_close(score(named_else), score(laws), atol=1e-12, rtol=0)


def test_the_global_entropy_is_of_answers_and_the_local_one_of_laws():
    one_label = torch.tensor([[0.6, 0.4], [0.55, 0.45], [0.7, 0.3]], dtype=torch.float64)
    assert global_entropy(one_label).item() < 1.2e-4
    assert local_entropy(one_label).item() > 0.6
    sure = torch.eye(2, dtype=torch.float64)
    assert_close(global_entropy(sure).item(), math.log(2))
    assert local_entropy(sure).item() == 0
    assert best_orders(torch.tensor([0.1, 0.9, 0.5]), 2).tolist() == [1, 2]


def test_probes_are_sentences_that_the_model_wrote_after_the_same_demonstrations():
    with one_thread():
        model = course_subject(0).model
        prompts = course_prompts("stance", 3, 5, 0)
        probes = self_generated_probes(
            model, prompts, some_orders(3, 6, generator=seeded(0)), 3, generator=seeded(1)
        )
    nouns, predicates = probes.sentences[:, -1].unbind(-1)
    assert len(probes) > 9
    assert ((nouns >= FIRST_NOUN) & (nouns < FIRST_PREDICATE)).all()
    assert ((predicates >= FIRST_PREDICATE) & (predicates < FIRST_LABEL)).all()
    assert len(probes.sentences[:, -1].unique(dim=0)) > 4
    assert torch.equal(probes.tokens[0, :-3], prompts.tokens[0, :-3])


def test_a_model_writes_by_its_own_law():
    class Certain(torch.nn.Module):
        def forward(self, tokens):
            following = (tokens + 1) % 5
            return torch.nn.functional.one_hot(following, 5).double().clamp_min(1e-30).log()

    written = continued(Certain(), torch.tensor([[0, 3]]), 4, generator=seeded(0))
    assert written.tolist() == [[4, 0, 1, 2]]


def test_selection_is_the_mean_of_the_kept_orders(lesson):
    task, seed, place = 2, 0, 1
    scores = lesson.global_entropy[task, seed, place]
    kept = sorted(range(len(scores)), key=lambda i: -scores[i])[: lesson.keep]
    expected = lesson.accuracy[task, seed, place][kept].mean()
    assert np.isclose(lesson.selected("global_entropy")[task, seed, place], expected)
    assert lesson.accuracy.shape == (7, 3, 4, 24)
    assert figures.prompt_entropy(lesson).axes and "stance contrary" in lesson.summary()


def test_conflict_makes_order_matter(lesson):
    plain, wrong = (lesson.tasks.index(name) for name in ("stance", "stance, one wrong"))
    assert lesson.spread[wrong].mean() > lesson.spread[plain].mean()


def test_the_study_runs_on_text_of_a_model_that_cannot_write(tiny_model_and_reviews):
    """A random model writes nothing that reads as a review, and the error says so."""
    small = {"n_demonstrations": 2, "n_orders": 2, "n_queries": 4, "sets": 1, "seeds": (0,)}
    with pytest.raises(ValueError, match="per_order: none of 6 attempts"):
        run_experiment("prompt_entropy", changes=tiny_model_and_reviews | small, device="cpu")


def test_a_small_study_runs_anew():
    config = PromptEntropyConfig(
        tasks=("kind, one wrong",), n_demonstrations=3, n_orders=3, n_queries=8, sets=1, seeds=(0,)
    )
    assert prompt_entropy(config).accuracy.shape == (1, 1, 1, 3)
    with pytest.raises(ValueError, match="tasks"):
        dataclasses.replace(config, tasks=("rain",))
