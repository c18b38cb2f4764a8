"""In-context learning against gradient descent: the study's parts, and what it found."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from icl_lessons.cli import app
from icl_lessons.declare import result_of
from icl_lessons.language_models.experiments.icl_against_gd import (
    IN_CONTEXT,
    REORDERED,
    RIVALS,
    ZERO_SHOT,
    ICLAgainstGDConfig,
    Rival,
)
from icl_lessons.language_models.figures import icl_against_gd as figures
from icl_lessons.language_models.subjects import COURSE_TASKS, course_prompts, subject
from icl_lessons.ledger import run_experiment
from icl_lessons.runtime import Scale


@pytest.fixture(scope="module")
def lesson():
    return result_of("icl_against_gd", Scale.LESSON)


def test_every_seed_gets_other_demonstrations_and_the_same_queries():
    first, second = (course_prompts("stance contrary", 3, 20, seed) for seed in (0, 1))
    assert torch.equal(first.query_tokens[:, 1:3], second.query_tokens[:, 1:3])
    assert torch.equal(first.answer, second.answer)
    assert not torch.equal(first.sentences[0, :-1], second.sentences[0, :-1])
    assert (first.labels == first.labels[:1]).all()
    gold = course_prompts("stance", 3, 20, 0)
    assert torch.equal(gold.sentences, first.sentences) and not torch.equal(
        gold.labels, first.labels
    )


def test_a_seed_is_a_model_of_its_own():
    one, two, again = (subject("course", seed) for seed in (0, 1, 3))
    assert not torch.equal(one.model.read_out.weight, two.model.read_out.weight)
    assert torch.equal(one.model.read_out.weight, again.model.read_out.weight)


def test_the_parts_of_a_rival_fit_the_depth_of_the_model():
    parts = {r.part: r.settings(3, 10).parts for r in RIVALS}
    assert parts == {
        "all": "all",
        "deep block": "block:2",
        "middle block": "block:1",
        "deep values": "value:2",
    }
    assert Rival("x", "adam", 0.1, "middle block").settings(32, 5).parts == "block:16"


def test_in_context_learning_is_the_reference(lesson):
    for measure in ("token_overlap", "overlap_cosine"):
        assert (lesson.last(measure, IN_CONTEXT) == 1).all()
        assert np.allclose(lesson.last(measure, REORDERED)[:, 0], 1, atol=1e-6)  # one, no order
    for rival in lesson.rivals:  # before the first epoch, every rival is the model alone
        place = lesson.methods.index(rival)
        alone = lesson.methods.index(ZERO_SHOT)
        assert np.allclose(lesson.overlap_cosine[:, place, :, :, 0],
                           lesson.overlap_cosine[:, alone, :, :, 0], atol=1e-6)  # fmt: skip


def test_one_demonstration_tells_context_the_task_and_descent_a_label(lesson):
    """On the four-label task: 200 epochs on one demonstration answer its label always."""
    topic = lesson.tasks.index("topic")
    assert (lesson.last("accuracy", IN_CONTEXT)[topic] > 0.95).all()
    for rival in lesson.rivals[:2]:  # Adam stops half-way
        assert lesson.last("accuracy", rival)[topic, 0].mean() < 0.5


def test_no_rival_is_as_like_as_another_order_with_few_demonstrations(lesson):
    again = lesson.last("overlap_cosine", REORDERED)[:, :2].mean((1, 2))
    for rival in lesson.rivals:
        assert (lesson.last("overlap_cosine", rival)[:, :2].mean((1, 2)) < again).all(), rival


def test_the_record_and_the_figure(lesson):
    assert lesson.accuracy.shape == (4, 9, 4, 3, 6)
    assert "overlap_cosine, for 1, 2, 4, 8" in lesson.summary()
    fig = figures.icl_against_gd(lesson)
    assert len(fig.axes) == 8 and fig.axes[0].get_title("left") == "topic"


def test_the_same_study_on_a_pretrained_model(tiny_model_and_reviews):
    small = {"n_demonstrations": (2,), "epochs": 4, "every": 2, "n_queries": 6}
    result = run_experiment(
        "icl_against_gd", changes=tiny_model_and_reviews | small, device="cpu"
    ).result
    assert result.labels == (2,) and result.accuracy.shape == (1, 9, 1, 3, 3)
    assert (result.last("overlap_cosine", IN_CONTEXT) == 1).all()
    assert result.last("overlap_cosine", "descent, rate .03").max() < 1


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tasks": ("weather",)}, "tasks: got 'weather'"),
        ({"model": "gpt2", "tasks": ("topic",)}, "tasks: got 'topic'; use one of 'agnews'"),
        ({"every": 30}, "does not divide epochs"),
        ({"n_queries": 0}, "n_queries"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ICLAgainstGDConfig(**changes)


def test_a_pretrained_model_is_asked_about_the_four_data_sets():
    assert ICLAgainstGDConfig(model="gpt2").tasks == ("agnews", "sst2", "cb", "rte")


def test_the_command_takes_a_model_and_names_what_is_missing(tmp_path):
    asked = ["run", "icl_against_gd", "--model", str(tmp_path / "none"), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, asked)
    assert isinstance(done.exception, OSError) and "could not be loaded" in str(done.exception)
    done = CliRunner().invoke(app, ["run", "one_layer_one_step", "--model", "gpt2"])
    assert "'one_layer_one_step' has no such setting" in str(done.exception)


def test_tasks_are_the_attributes_and_their_contrary_mappings():
    assert "stance" in COURSE_TASKS and "kind contrary" in COURSE_TASKS and len(COURSE_TASKS) == 8
