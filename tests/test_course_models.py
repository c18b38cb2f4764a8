"""CourseLM: what its stored weights are, and that in-context learning emerged in them."""

import pytest
import torch

from icl_lessons.estimators.mode_filter import filtered_modes
from icl_lessons.language_models.course_models import (
    CourseLMTraining,
    checkpoints,
    course_models,
    course_weights,
)
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.measures.distributions import accuracy_over_vocabulary, divergence
from icl_lessons.runtime import one_thread, seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.tasks.attribute_text import AttributeText


@pytest.fixture(scope="module")
def models():
    with one_thread():
        return course_models()


def accuracy(model, attribute, n, **options):
    prompts = attribute_prompts(attribute, n, 200, generator=seeded(7), **options)
    return accuracy_over_vocabulary(answer_law(model, prompts.tokens), prompts.answer)


def test_it_learns_in_context_without_ever_having_seen_a_prompt(models):
    for model in models:
        for attribute in ("topic", "mood"):
            assert accuracy(model, attribute, 0) < 0.3 and accuracy(model, attribute, 1) > 0.95
        for attribute in ("stance", "kind"):
            assert accuracy(model, attribute, 8) > 0.9 > accuracy(model, attribute, 0) + 0.1


def test_it_follows_a_rare_mapping_and_not_one_that_no_document_has(models):
    for model in models:
        assert accuracy(model, "stance", 8, mapping="contrary") > 0.85
        assert accuracy(model, "mood", 8, mapping="contrary") > 0.95
        assert accuracy(model, "stance", 8, mapping="novel") < 0.2
        assert accuracy(model, "topic", 8, mapping="code") < 0.1
    # Contrary labels of the other two attributes are a matter of the seed.
    for attribute in ("topic", "kind"):
        reached = [accuracy(model, attribute, 8, mapping="contrary") for model in models]
        assert min(reached) < 0.1 and max(reached) > 0.95


def test_it_comes_with_training_and_recognition_comes_before_learning():
    config = CourseLMTraining()
    kept = checkpoints(course_weights(config), config)
    assert tuple(kept) == config.checkpoints
    for seed in range(3):
        gold, contrary = (
            [accuracy(kept[steps][seed], "stance", 8, mapping=m) for steps in (0, 1000, 6000)]
            for m in ("canonical", "contrary")
        )
        assert gold[0] < 0.1 and gold[1] > 0.85 and gold[2] > 0.9
        assert contrary[1] < 0.1 and contrary[2] > 0.85


def test_near_the_exact_filter_of_its_language_where_it_has_learned_the_mapping(models):
    text = AttributeText()
    prompts = attribute_prompts("stance", 8, 200, generator=seeded(8))
    law = text.label_law(prompts.values)
    seen = law[:, :-1].gather(-1, prompts.labels[:, :, None, None].expand(-1, -1, 9, 1))[..., 0]
    modes = filtered_modes(text.mode_prior, seen, text.remark_hazard)[:, -1]
    exact = torch.einsum("bm,bmv->bv", modes, law[:, -1])
    for model in models:
        answers = answer_law(model, prompts.tokens).double()
        assert divergence(exact, answers).mean() < 0.15
        alone = answer_law(model, prompts.query_tokens).double()
        assert divergence(exact, alone).mean() > 5 * divergence(exact, answers).mean()


def test_a_short_training_keeps_its_checkpoints():
    config = CourseLMTraining(
        width=8, layers=1, heads=2, steps=4, checkpoints=(2, 4), seeds=(5,), batch_size=2
    )
    kept = checkpoints(course_weights(config), config)
    assert list(kept) == [2, 4]
    (early,), (late,) = kept.values()
    assert not torch.equal(early.read_out.weight, late.read_out.weight)
    assert late.config.vocabulary == 66


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"checkpoints": (0, 100)}, "end with steps = 6000"),
        ({"checkpoints": (6000, 0)}, "ascending"),
        ({"layers": 0}, "layers"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        CourseLMTraining(**changes)
