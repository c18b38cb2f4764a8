"""Descent on many demonstrations: what is counted, and what came out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.declare import result_of
from icl_lessons.language_models.claims import many_demonstrations as claims
from icl_lessons.language_models.experiments.many_demonstrations import (
    COUNTED,
    ManyDemonstrationsConfig,
    cell_accuracies,
)
from icl_lessons.language_models.figures import many_demonstrations as figures
from icl_lessons.language_models.subjects import Subject, course_prompts, drawn_course_prompts
from icl_lessons.ledger import run_experiment
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded

LESSON = Scale.LESSON


@pytest.fixture(scope="module")
def lesson():
    return result_of("many_demonstrations", LESSON)


@pytest.fixture(scope="module")
def small():
    shape = SequenceTransformerConfig(vocabulary=66, width=8, layers=1, heads=2)
    return Subject(
        SequenceTransformer(shape, generator=seeded(0)), 1, course_prompts, drawn_course_prompts
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_told_and_ceiling_are_counted_from_the_demonstrations(small, n, seed):
    config = ManyDemonstrationsConfig(epochs=1, every=1, n_queries=20)
    looks, told, ceiling = cell_accuracies(config, small, "topic", n, seed)
    prompts = course_prompts("topic", n, 20, seed)
    shown = {tuple(pair) for pair in prompts.sentences[0, :-1].tolist()}
    expected = np.mean([tuple(pair) in shown for pair in prompts.sentences[:, -1].tolist()])
    assert told == pytest.approx(expected)
    assert ceiling == pytest.approx(np.isin(prompts.answer, prompts.labels[0]).mean())
    assert looks.shape == (2, 3) and (told < 1 or looks[:, 1].isnan().all())


def test_enough_descent_is_right_on_its_demonstrations(small):
    config = ManyDemonstrationsConfig(learning_rate=0.3, epochs=200, every=200, n_queries=10)
    looks, _, ceiling = cell_accuracies(config, small, "mood", 4, 0)
    assert looks[0, 2] < 1 and looks[-1, 2] == 1 and looks[-1, 0] <= ceiling


def test_before_the_first_epoch_descent_is_the_model_alone(lesson):
    assert lesson.descent.shape == (5, 3, 3, 6, 3)
    assert np.allclose(lesson.descent[:, 0, :, 0, 0], lesson.alone, atol=0.021)  # other separators
    assert (lesson.told[:, 0] < 0.2).all() and (lesson.told[:, -1] > 0.6).all()


def test_many_demonstrations_leave_little_to_learn(lesson):
    assert (lesson.last()[:, 1:] >= 0.9).all()
    assert (lesson.last()[:, -1] >= lesson.last()[:, 0] - 0.021).all()
    gain = (lesson.last()[:, -1] - lesson.last()[:, 0]).mean()
    said = claims.many_demonstrations_help(LESSON)
    assert said.measured == pytest.approx(gain) and said.reported == pytest.approx(0.2875)
    assert claims.eight_demonstrations_fail(LESSON).reported == pytest.approx(0.415)
    assert claims.SENTENCES == 288


def test_the_record_and_the_figure(lesson):
    assert "accuracy of descent with 8, 64, 512" in lesson.summary()
    assert np.array_equal(lesson.last(COUNTED[2]), lesson.descent[:, :, :, -1, 2])
    fig = figures.many_demonstrations(lesson)
    assert len(fig.axes) == 5 and fig.axes[2].get_title("left") == "mood"
    with pytest.raises(ValueError, match="counted: got"):
        lesson.last("some")


def test_the_same_on_a_pretrained_model(tiny_model_and_reviews):
    few = {"n_demonstrations": (2, 5), "n_in_context": 2, "epochs": 4, "every": 2, "n_queries": 6}
    changes = tiny_model_and_reviews | few
    result = run_experiment("many_demonstrations", changes=changes, device="cpu").result
    assert result.descent.shape == (1, 2, 3, 3, 3) and result.in_context.shape == (1, 3)
    assert torch.isfinite(torch.tensor(result.told)).all()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tasks": ("weather",)}, "tasks: got 'weather'"),
        ({"every": 30}, "does not divide epochs"),
        ({"n_demonstrations": (0,)}, "n_demonstrations"),
        ({"learning_rate": 0}, "learning_rate"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ManyDemonstrationsConfig(**changes)
