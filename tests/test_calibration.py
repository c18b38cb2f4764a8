"""Leans and calibration: inputs without content, the study, and the same study on text."""

import dataclasses

import numpy as np
import pytest
import torch

from icl_lessons.declare import result_of
from icl_lessons.language_models.calibration import NO_CONTENT, content_free_prompts
from icl_lessons.language_models.experiments.calibration import (
    METHODS,
    CalibrationConfig,
    calibration,
)
from icl_lessons.language_models.figures import calibration as figures
from icl_lessons.language_models.subjects import course_prompts, subject
from icl_lessons.ledger import run_experiment
from icl_lessons.runtime import Scale
from icl_lessons.tasks.attribute_text import FIRST_FILLER


@pytest.fixture(scope="module")
def lesson():
    return result_of("calibration", Scale.LESSON)


def test_inputs_without_content_keep_the_demonstrations():
    prompts = course_prompts("stance", 3, 20, 0)
    empty = content_free_prompts(prompts)
    assert len(empty) == 12
    assert torch.equal(empty.tokens[:, :-3], prompts.tokens[:1, :-3].expand(12, -1))
    assert (empty.query_tokens[:, 1:3] >= FIRST_FILLER).all()
    assert torch.equal(empty.tokens[:, -1], prompts.tokens[:1, -1].expand(12))


def test_text_without_content_is_what_the_paper_uses(tiny_model_and_reviews):
    """The study on text, and its inputs: N/A, nothing, and a mask."""
    small = {"n_demonstrations": (2,), "n_queries": 4, "sets": 1, "seeds": (0,)}
    done = run_experiment("calibration", changes=tiny_model_and_reviews | small, device="cpu")
    assert done.result.accuracy.shape == (2, 3, 1, 1, 1, 1)
    model, data, _ = tiny_model_and_reviews.values()
    prompts = subject(model, 0, data).prompts("sst2", 2, 4, 0)
    empty = content_free_prompts(prompts)
    shown = prompts.texts[0][: -len(prompts.written[0][-1])]
    assert empty.texts == [f"{shown}Review: {word}\nSentiment:" for word in ("N/A", "", "[MASK]")]
    assert len(NO_CONTENT) == 3


def test_a_lean_put_in_is_seen_and_a_batch_takes_it_out(lesson):
    plain, free, batch = range(len(METHODS))
    assert lesson.accuracy[1, plain].mean() < 0.6 < lesson.accuracy[0, plain].mean()
    assert np.allclose(lesson.accuracy[0, 1:], lesson.accuracy[1, 1:], atol=0.02)
    assert (lesson.accuracy[1, batch] >= lesson.accuracy[1, free] - 0.05).mean() > 0.9


def test_a_small_study_runs_anew():
    config = CalibrationConfig(
        tasks=("mood",), n_demonstrations=(2,), n_queries=10, sets=1, seeds=(0,)
    )
    result = calibration(config)
    assert result.accuracy.shape == (2, 3, 1, 1, 1, 1)
    assert "mood" in result.summary() and figures.calibration(result).axes


@pytest.mark.parametrize(
    "field, value", [("tasks", ("sst2",)), ("n_demonstrations", (0, 1)), ("sets", 0)]
)
def test_what_cannot_be_run_is_said(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(CalibrationConfig(), **{field: value})
