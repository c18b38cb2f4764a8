"""Order of demonstrations: what an algorithm on the weights could share with a context."""

import itertools

import pytest
from torch.testing import assert_close

from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.order import (
    fine_tuned_answers,
    in_context_answers,
    order_averaged,
    some_orders,
    theorem_gap,
)
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts


@pytest.fixture(scope="module")
def model():
    config = SequenceTransformerConfig(vocabulary=66, width=16, layers=2, heads=2, init_std=0.3)
    return SequenceTransformer(config, generator=seeded(0)).double()


@pytest.fixture(scope="module")
def prompts():
    shown = attribute_prompts("stance", 3, 1, generator=seeded(1))
    return shown.with_queries_of(attribute_prompts("stance", 0, 6, generator=seeded(2)))


def test_orders_are_different_and_all_of_them_where_they_are_few():
    assert some_orders(3, 10, generator=seeded(0)) == list(itertools.permutations(range(3)))
    some = some_orders(8, 10, generator=seeded(0))
    assert len(set(some)) == 10 and some[0] == tuple(range(8))
    assert all(sorted(order) == list(range(8)) for order in some)


def test_full_batch_descent_contradicts_theorem_1_and_sgd_need_not(model, prompts):
    full = FineTuning(epochs=20, learning_rate=0.003)
    left, right = theorem_gap(model, prompts, full, (0, 1, 2), (2, 1, 0))
    assert left > 1e-3 and right < 1e-12
    one_by_one = FineTuning(epochs=20, learning_rate=0.003, batch_size=1)
    _, right = theorem_gap(model, prompts, one_by_one, (0, 1, 2), (2, 1, 0))
    assert right > 1e-4


def test_a_learner_without_an_order_would_pass(model, prompts):
    first, second = (order_averaged(model, prompts.in_order(o)) for o in ((0, 1, 2), (2, 0, 1)))
    assert_close(first, second, atol=1e-13, rtol=0)
    assert (first - answer_law(model, prompts.tokens)).abs().max() > 1e-4


def test_answers_in_an_order_are_those_of_the_prompt_written_so(model, prompts):
    answers = in_context_answers(model, prompts, [(0, 1, 2), (1, 2, 0)])
    assert_close(answers[0], answer_law(model, prompts.tokens))
    tokens = prompts.tokens.clone()
    tokens[:, 1:16] = tokens[:, 1:16].unflatten(1, (3, 5))[:, [1, 2, 0]].flatten(1)
    assert_close(answers[1], answer_law(model, tokens))


def test_fine_tuned_answers_never_see_the_demonstrations_in_the_prompt(model, prompts):
    settings = FineTuning(epochs=4, learning_rate=0.003, batch_size=1)
    answers = fine_tuned_answers(model, prompts, [(2, 0, 1)], settings, every=2)
    assert list(answers) == [0, 2, 4]
    assert_close(answers[0][0], answer_law(model, prompts.query_tokens))
    inputs, labels = prompts.demonstrations(0)
    tuned = fine_tune(model, inputs[[2, 0, 1]], labels[[2, 0, 1]], settings)
    assert_close(answers[4][0], answer_law(tuned, prompts.query_tokens))


def test_too_many_orders_are_refused(model):
    prompts = attribute_prompts("mood", 7, 1, generator=seeded(0))
    with pytest.raises(ValueError, match="7 demonstrations; use six or fewer"):
        order_averaged(model, prompts)
