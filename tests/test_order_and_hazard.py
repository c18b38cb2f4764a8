"""Where order sensitivity comes from: models of texts with different hazards, and the filter."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from icl_lessons.declare import result_of
from icl_lessons.language_models.claims import order_and_hazard as claims
from icl_lessons.language_models.experiments.order_and_hazard import (
    HazardTraining,
    OrderAndHazardConfig,
    hazard_models,
    hazard_weights,
    order_and_hazard_measures,
)
from icl_lessons.language_models.figures import order_and_hazard as figures
from icl_lessons.measures.prompting import nats_per_token
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_text import AttributeText
from icl_lessons.zoo import stored_recipe


@pytest.fixture(scope="module")
def lesson():
    return result_of("order_and_hazard", Scale.LESSON)


@pytest.fixture(scope="module")
def models():
    config = HazardTraining()
    return hazard_models(hazard_weights(config), config)


def test_every_model_knows_its_own_text_best(models):
    """Each model of the first seed on each text: the diagonal is the least of its column."""
    texts = [AttributeText(hazard=h).sample(30, 64, generator=seeded(3)).tokens for h in models]
    losses = np.array([[nats_per_token(own[0], t) for t in texts] for own in models.values()])
    assert (losses.argmin(0) == np.arange(len(models))).all()
    assert all(len(own) == 3 for own in models.values())


def test_models_of_a_seed_start_alike_and_end_apart(models):
    first, other = models[0.0][0], models[0.25][0]
    assert not torch.equal(first.read_out.weight, other.read_out.weight)
    assert first.config.width == HazardTraining().width


def test_stored_weights_and_measures_are_what_their_recipes_say():
    assert stored_recipe("hazard_language_models").is_stored(HazardTraining())
    order_and_hazard_measures.verify()


def test_models_learn_in_context_and_filters_are_what_they_should_be(lesson):
    assert lesson.sensitivity.shape == (4, 3, 4, 3) and lesson.exact.shape == (3, 3, 4, 3)
    assert (lesson.accuracy[:-1].mean((1, 2)) > 0.9).all()
    assert lesson.accuracy[-1].mean() < 0.3
    assert (lesson.exact[0] < 1e-6).all() and (lesson.exact[1:].mean((2, 3)) > 1e-3).all()
    assert "hazard 0.05" in lesson.summary() and "untrained" in lesson.summary()


def test_untrained_models_are_the_most_sensitive(lesson):
    for labels in lesson.labels:
        untrained = lesson.by_seed(labels, None)
        assert all((lesson.by_seed(labels, h) < untrained).all() for h in lesson.hazards)


def test_the_figure(lesson):
    fig = figures.order_and_hazard(lesson)
    assert len(fig.axes) == 3 and fig.axes[0].get_title("left") == "labels gold"
    assert len(fig.axes[0].lines) == 7
    plt.close(fig)


def test_claims_rest_on_what_was_measured(lesson):
    assert claims.drift_free_reader(Scale.LESSON).verdict == "holds"
    more = claims.untrained_has_more_order(Scale.LESSON)
    assert more.samples[1] == 9 and more.measured > 1
    text = claims.text_sets_order(Scale.LESSON)
    ratio = lesson.sensitivity[2].mean(1) / lesson.sensitivity[0].mean(1)
    assert text.measured == pytest.approx(ratio.min())
    assert text.samples == (int((ratio >= 1).sum()), 9)


@pytest.mark.parametrize(
    "changes, said",
    [({"n": 6}, "n: got 6"), ({"n_orders": 1}, "n_orders"), ({"n_sets": 0}, "n_sets")],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        OrderAndHazardConfig(**changes)
