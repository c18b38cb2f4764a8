"""Answers in every order of four demonstrations: what is stored is what the learners answer."""

import base64
import itertools
import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.language_models.course_models import course_models
from icl_lessons.language_models.experiments.order_table import (
    LEARNERS,
    UNIT,
    Answers,
    DemonstrationSet,
    OrderTableConfig,
    order_table,
)
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.subjects import course_prompts
from icl_lessons.measures.distributions import order_sensitivity

WRONG = "stance, one label wrong"


@pytest.fixture(scope="module")
def tables():
    return {chosen.name: order_table(chosen.name) for chosen in OrderTableConfig().sets}


@pytest.fixture(scope="module")
def models():
    return course_models()


def test_each_set_is_the_first_that_shows_every_label():
    for chosen in OrderTableConfig().sets:
        shows_all = [
            len(set(prompts.labels[0].tolist())) == prompts.choices.shape[-1]
            for seed in range(chosen.seed + 1)
            for prompts in [course_prompts(chosen.attribute, 4, 1, seed)]
        ]
        assert shows_all == [False] * chosen.seed + [True]


def test_one_label_is_wrong_and_there_is_a_query_for_each_of_the_first_labels(tables):
    right, wrong = tables["stance"].prompts, tables[WRONG].prompts
    assert (right.labels != wrong.labels)[0].tolist() == [True, False, False, False]
    labels = right.choices.tolist()
    before, after = (labels.index(int(one.labels[0, 0])) for one in (right, wrong))
    assert after == (before + 1) % len(labels)
    for table in tables.values():
        assert table.prompts.answer.tolist() == table.prompts.choices[:3].tolist()


def test_prompts_and_the_filter_are_read_in_every_order(tables, models):
    for table in tables.values():
        assert table.orders == list(itertools.permutations(range(4)))
        for at in (0, 7, 23):
            prompts = table.prompts.in_order(table.orders[at])
            for seed, model in enumerate(models):
                law = answer_law(model, prompts.tokens)[:, prompts.choices]
                assert_close(table.answers["in_context"].laws[seed, 0, at], law)
            law = filter_answers(prompts)[:, prompts.choices]
            assert_close(table.answers["filter"].laws[0, 0, at], law)


@pytest.mark.parametrize(("seed", "rate", "at"), [(0, 2, 23), (2, 1, 9)])
def test_the_stored_descents_are_those_of_fine_tuning(tables, models, seed, rate, at):
    table = tables[WRONG]
    config, model = table.config, models[seed]
    inputs, labels = table.prompts.in_order(table.orders[at]).demonstrations(0)
    for name, batch, place in (("one_by_one", 1, at), ("full_batch", None, 0)):
        settings = FineTuning(
            learning_rate=config.rates[rate], epochs=config.passes, batch_size=batch
        )
        tuned = fine_tune(model, inputs, labels, settings)
        law = answer_law(tuned, table.prompts.query_tokens)[:, table.prompts.choices]
        assert_close(table.answers[name].laws[seed, rate, place], law, atol=2e-4, rtol=0)


def test_sensitivity_over_the_vocabulary_is_at_least_that_of_the_label_words(tables):
    for table in tables.values():
        for name, one in table.answers.items():
            by_orders = one.laws.movedim(2, 0)
            if name == "full_batch":
                assert len(by_orders) == 1 and one.sensitivity.max() < 1e-4
            else:
                assert (one.sensitivity > order_sensitivity(by_orders) - 1e-6).all()


def test_what_the_reader_can_find_in_it(tables):
    def mean(name, learner, rate=0):
        return tables[name].answers[learner].sensitivity.mean(-1)[:, rate]

    small, large = 1, 3
    assert (mean(WRONG, "in_context") > 3 * mean("stance", "in_context")).all()
    assert (mean(WRONG, "in_context") > 2 * mean(WRONG, "one_by_one", small)).all()
    assert (mean(WRONG, "in_context") < mean(WRONG, "one_by_one", large)).all()
    assert mean("topic", "filter") < 1e-6 < 0.1 < mean(WRONG, "filter")


def test_a_payload_is_small_json_with_four_decimals(tables):
    payloads = [table.payload() for table in tables.values()]
    assert len(json.dumps(payloads)) < 60_000
    for table, payload in zip(tables.values(), payloads, strict=True):
        assert json.loads(json.dumps(payload)) == payload and set(payload["learners"]) == {
            *LEARNERS
        }
        for name, found in payload["learners"].items():
            laws = np.frombuffer(base64.b64decode(found["laws"]), "<u2").reshape(found["shape"])
            expected = table.answers[name].laws.numpy()
            assert np.abs(laws / UNIT - expected).max() < 0.51 / UNIT
    demonstration = payloads[2]["demonstrations"][0]
    assert demonstration["label"] != demonstration["right"]
    assert payloads[2]["labels"] == ["yes", "no", "maybe"]


def test_probabilities_survive_the_two_bytes():
    laws = torch.rand(2, 1, 6, 3, 4, generator=torch.Generator().manual_seed(0)) / 4
    found = Answers(laws, torch.zeros(2, 1, 3)).payload()
    whole = np.frombuffer(base64.b64decode(found["laws"]), "<u2").reshape(2, 1, 6, 3, 4)
    assert np.abs(whole / UNIT - laws.numpy()).max() <= 0.5001 / UNIT


def test_other_sets_and_unknown_names():
    with pytest.raises(ValueError, match="name: got 'mood'; use one of 'topic'"):
        order_table("mood")
    mood = DemonstrationSet("mood", "mood", 0)
    short = OrderTableConfig(sets=(mood,), rates=(0.01,), passes=1, n_queries=2, seeds=(1,))
    table = order_table("mood", short)
    assert table.answers["one_by_one"].laws.shape == (1, 1, 24, 2, 2)
    assert table.answers["full_batch"].laws.shape == (1, 1, 1, 2, 2)
