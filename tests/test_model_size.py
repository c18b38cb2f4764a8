"""Models of several sizes, pretrained alike, and the gap between context and descent in each."""

import numpy as np
import pytest

from icl_lessons.declare import result_of
from icl_lessons.language_models.claims import model_size as claims
from icl_lessons.language_models.experiments.model_size import (
    RATES,
    ModelSizeConfig,
    SmallerModels,
    size_name,
    smaller_weights,
)
from icl_lessons.language_models.figures import model_size as figures
from icl_lessons.ledger import run_experiment
from icl_lessons.runtime import Scale

LESSON = Scale.LESSON


@pytest.fixture(scope="module")
def lesson():
    return result_of("model_size", LESSON)


def test_weights_of_any_size_come_from_the_recipe():
    config = SmallerModels(sizes=((1, 8), (2, 4)), steps=2, seeds=(0, 1))
    models = config.models(smaller_weights(config))
    assert [len(m) for m in models.values()] == [2, 2]
    for (layers, width), made in models.items():
        assert made[0].config.layers == layers and made[0].config.width == width
        assert not made[0].read_out.weight.equal(made[1].read_out.weight)


def test_the_largest_model_is_courselm_as_the_main_study_has_it(lesson):
    study = result_of("icl_against_gd", LESSON)
    for task in ("topic", "stance", "kind"):
        for name in (*study.methods[:3], *(rival.name for rival in RATES)):
            for i, n in enumerate(lesson.n_demonstrations):
                ours = lesson.of("overlap_cosine", name)[-1, lesson.tasks.index(task), i]
                theirs = study.last("overlap_cosine", name)[
                    study.tasks.index(task), study.n_demonstrations.index(n)
                ]
                assert np.allclose(ours, theirs, atol=0.02), (task, name, n)


def test_the_best_rate_is_chosen_over_seeds_and_the_gap_is_to_it(lesson):
    rates = np.stack([lesson.of("accuracy", rival.name) for rival in RATES])
    assert np.allclose(lesson.best("accuracy").mean(-1), rates.mean(-1).max(0))
    assert (lesson.best("accuracy").mean(-1) <= rates.max(0).mean(-1) + 1e-9).all()
    gap = lesson.of("accuracy", "in context") - lesson.best("accuracy")
    assert np.allclose(lesson.gap, gap)
    change = (gap[-1] - gap[0]).mean()
    assert claims.size_keeps_gap(LESSON).measured == pytest.approx(change)


def test_larger_models_read_better(lesson):
    assert list(lesson.parameters) == sorted(lesson.parameters)
    assert (np.diff(lesson.loss.mean(-1)) < 0).all()
    assert (lesson.loss[0] > lesson.loss[1:].max(0)).all()


def test_the_record_and_the_figure(lesson):
    assert lesson.accuracy.shape == (3, 4, 6, 2, 3)
    assert lesson.sizes[-1] == size_name((3, 64)) == "3 layers, width 64"
    assert "parameters" in lesson.summary()
    fig = figures.model_size(lesson)
    assert len(fig.axes) == 4 and fig.axes[0].get_title("left") == "1 demonstration"


def test_the_same_on_pretrained_models(tiny_model_and_reviews):
    model, data = tiny_model_and_reviews["model"], tiny_model_and_reviews["data"]
    small = {"n_demonstrations": (2,), "epochs": 2, "n_queries": 6, "rivals": RATES[:1]}
    settings = {"model": f"{model},{model}", "data": data, "tasks": ("sst2",)}
    result = run_experiment("model_size", changes=settings | small, device="cpu").result
    assert result.sizes == ("model", "model") and result.accuracy.shape == (2, 1, 4, 1, 3)
    assert np.isnan(result.loss).all() and np.array_equal(result.accuracy[0], result.accuracy[1])


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tasks": ("weather",)}, "tasks: got 'weather'"),
        ({"model": "gpt2,gpt2-xl", "tasks": ("topic",)}, "tasks: got 'topic'"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ModelSizeConfig(**changes)


def test_pretrained_models_are_asked_as_in_the_paper():
    assert ModelSizeConfig(model="gpt2,gpt2-xl").tasks == ("agnews",)
    with pytest.raises(ValueError, match="sizes"):
        SmallerModels(sizes=((0, 8),))
