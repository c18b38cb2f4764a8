"""An account on new answers: what is fresh about them, which descent it meets, what is counted."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.declare import result_of
from icl_lessons.language_models.accounts import DESCENTS, FILTER, LEARNED, WHOLE
from icl_lessons.language_models.claims import fresh_accounts as claims
from icl_lessons.language_models.course_models import course_models
from icl_lessons.language_models.experiments.fresh_accounts import (
    BEST_DESCENT,
    RIVALS,
    TESTED,
    FreshAccountsConfig,
    _cell,
    best_descent,
)
from icl_lessons.language_models.figures import fresh_accounts as figures
from icl_lessons.language_models.subjects import course_prompts
from icl_lessons.runtime import Scale, one_thread

CONFIG = FreshAccountsConfig()


@pytest.fixture(scope="module")
def before():
    return result_of("which_account", Scale.LESSON)


@pytest.fixture(scope="module")
def lesson():
    return result_of("fresh_accounts", Scale.LESSON)


def test_demonstrations_and_queries_are_new():
    old = [course_prompts("stance", 8, 100, seed) for seed in CONFIG.before.seeds]
    for seed in CONFIG.seeds:
        new = CONFIG.prompts("stance", 8, 100, seed)
        assert new.n == 8 and len(new.tokens) == 100
        shared = new.demonstrations(0)[0]
        assert torch.equal(shared, new.demonstrations(99)[0])
        for prompts in old:
            assert not torch.equal(prompts.query_tokens, new.query_tokens)
            assert not torch.equal(prompts.demonstrations(0)[0], shared)


def test_the_descent_is_the_one_that_was_nearest_before(before):
    for task in before.tasks:
        for model in (None, 0, 2):
            rival, epochs, descend = best_descent(CONFIG.before, before, task, model)
            row = before.tasks.index(task)
            far = {
                name: before.measures[name][row, :, :, 0].mean(0)
                if model is None
                else before.measures[name][row, model, :, 0]
                for name in DESCENTS
            }
            least = min(values.min() for values in far.values())
            causal = descend.__name__ == "layer_causal_fine_tune"
            name = "layer-causal descent" if causal else WHOLE
            name = "descent of one block" if rival.part != "all" else name
            ways = CONFIG.before.part if rival.part != "all" else CONFIG.before.whole
            place = ways.index(rival) * len(CONFIG.before.epochs) + CONFIG.before.epochs.index(
                epochs
            )
            assert far[name][place] == least
    with pytest.raises(ValueError, match="task"):
        best_descent(CONFIG.before, before, "weather", None)


def test_a_stored_cell_is_what_it_says(lesson, before):
    model, task, told = course_models()[1], "mood", (False, True, True, False)
    few = FreshAccountsConfig(n_queries=10, dummies=20)
    descent = best_descent(few.before, before, task, 1)
    with one_thread():
        *near, right = _cell(few, model, task, 4, told, (descent[0], 2, descent[2]))
    assert len(near) == len(TESTED) and 0 <= right <= 1
    assert all(value >= -1e-3 for value in near)
    filters = near[TESTED.index(FILTER)], near[TESTED.index(LEARNED)]
    assert max(filters) < near[TESTED.index(RIVALS[0])]  # no demonstrations are farther on mood


def test_passes_and_counts(lesson):
    groups, models, tasks = lesson.context.shape
    assert (groups, models, tasks) == (3, 3, 10)
    rival = np.stack([lesson.of(name) for name in RIVALS]).min(0)
    assert_close(lesson.nearest_rival, rival)
    found = lesson.passes(LEARNED)
    assert (found == (lesson.of(LEARNED) < rival)).all()
    evidence = claims.as_far_as_learned_afresh(Scale.LESSON)
    assert evidence.samples == (int(found.sum()), 90)
    assert evidence.measured == pytest.approx((lesson.of(LEARNED) / rival).max())
    assert f"{found[0].sum()} of 30" in evidence.note and lesson.groups[0] in lesson.summary()
    with pytest.raises(ValueError, match="account"):
        lesson.of("the weather")
    assert BEST_DESCENT in lesson.accounts


def test_the_figure(lesson):
    fig = figures.fresh_accounts(lesson)
    (ax,) = fig.axes
    marks = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in marks] == [30, 30, 30]
    assert LEARNED in ax.get_xlabel()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": (0, 4, 5)}, "not fresh"),
        ({"seeds": (3, 4)}, "give one for each"),
        ({"n_queries": 0}, "n_queries"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        FreshAccountsConfig(**changes)
