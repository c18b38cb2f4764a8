"""Accounts of in-context learning: what each is made from, how settings are chosen, the result."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, Verdict, result_of
from icl_lessons.language_models.accounts import (
    ACCOUNTS,
    ADDED,
    CAUSAL,
    DESCENTS,
    FILTER,
    LEARNED,
    PART,
    REORDERED,
    REPLACED,
    WHOLE,
    ZERO_SHOT,
    account_prompts,
    accounts,
    learned_filter_answers,
    mappings_told,
)
from icl_lessons.language_models.claims import layer_causal as causal_claims
from icl_lessons.language_models.claims import which_account as claims
from icl_lessons.language_models.experiments.which_account import (
    MEASURES,
    WhichAccountConfig,
    WhichAccountResult,
    measured,
    which_account,
)
from icl_lessons.language_models.figures import which_account as figures
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.layer_causal import layer_causal_fine_tune
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.subjects import COURSE_TASKS, course_prompts, subject
from icl_lessons.language_models.task_vectors import last_states, patched_answers
from icl_lessons.measures.distributions import divergence
from icl_lessons.runtime import Scale, one_thread, seeded

MODULES = (claims.__name__, causal_claims.__name__)
SLOW = FineTuning(epochs=3, learning_rate=0.01)
DEEP = FineTuning(epochs=3, learning_rate=0.1, parts="block:2")


@pytest.fixture(scope="module")
def who():
    return subject("course", 0)


@pytest.fixture(scope="module")
def some(who):
    """Twelve prompts that share two demonstrations, and the accounts of the answers to five."""
    prompts = account_prompts(who, "stance", 2, 12, 0)
    with one_thread():
        found = accounts(
            who.model,
            prompts,
            5,
            whole={"slow": SLOW},
            part={"deep": DEEP},
            epochs=(1, 3),
            told=(False, True, True, False),
        )
    return prompts, *found


@pytest.fixture(scope="module")
def lesson():
    return result_of("which_account", Scale.LESSON)


def test_every_account_answers_the_same_queries(some):
    _, context, found = some
    assert tuple(found) == ACCOUNTS
    assert {name: len(account) for name, account in found.items()} == {
        REORDERED: 1, ZERO_SHOT: 1, WHOLE: 2, PART: 2, CAUSAL: 2, ADDED: 3, REPLACED: 3, FILTER: 1,
        LEARNED: 1,
    }  # fmt: skip
    for law in (context, *(law for account in found.values() for law in account.values())):
        assert law.shape == (5, 66)
        assert_close(law.sum(-1), torch.ones(5), atol=1e-4, rtol=0)


def test_each_account_is_what_its_name_says(who, some):
    prompts, context, found = some
    asked = prompts.query_tokens[:5]
    shown = prompts.demonstrations(0)
    expected = {
        (REORDERED, "reversed"): answer_law(who.model, prompts.in_order([1, 0]).tokens[:5]),
        (ZERO_SHOT, ""): answer_law(who.model, asked),
        (WHOLE, "slow, 3 epochs"): answer_law(fine_tune(who.model, *shown, SLOW), asked),
        (PART, "deep, 3 epochs"): answer_law(fine_tune(who.model, *shown, DEEP), asked),
        (CAUSAL, "slow, 3 epochs"): answer_law(
            layer_causal_fine_tune(who.model, *shown, SLOW), asked
        ),
        (FILTER, ""): filter_answers(prompts)[:5].float(),
        (LEARNED, ""): learned_filter_answers(prompts, (False, True, True, False))[:5].float(),
    }
    for (name, setting), law in expected.items():
        assert_close(found[name][setting], law, atol=1e-5, rtol=0)
    assert_close(context, answer_law(who.model, prompts.tokens[:5]), atol=1e-6, rtol=0)


def test_task_vectors_come_from_other_queries(who, some):
    prompts, _, found = some
    asked = {tuple(row) for row in prompts.query_tokens[:5].tolist()}
    others = [i for i, row in enumerate(prompts.query_tokens.tolist()) if tuple(row) not in asked]
    assert 0 < len(others) <= 7
    states = last_states(who.model, prompts.tokens[others])
    gain = (states - last_states(who.model, prompts.query_tokens[others])).mean(1)
    for name, vectors, how in ((ADDED, gain, "add"), (REPLACED, states.mean(1), "replace")):
        law = patched_answers(who.model, prompts.query_tokens[:5], 1, vectors[1], how)
        assert_close(found[name]["after block 1"], law, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="leave no query"):
        accounts(who.model, prompts, 12, whole={}, part={}, epochs=(1,))


def test_which_mappings_a_model_tells_is_measured(who):
    assert mappings_told(who, 8) == (True, True, True, True)
    assert mappings_told(subject("course", 1), 8) == (False, True, True, False)
    with pytest.raises(ValueError, match="told: got 2 entries"):
        learned_filter_answers(who.prompts("mood", 1, 1, 0), (True, False))


@given(
    task=st.sampled_from(COURSE_TASKS), n=st.integers(0, 6), seed=st.integers(0, 10**6),
    told=st.tuples(*[st.booleans()] * 4),
)  # fmt: skip
@settings(deadline=None, max_examples=15)
def test_the_filter_as_far_as_learned(task, n, seed, told):
    """Sums to 1; is the exact filter if all is told, and where nothing has been seen."""
    prompts = course_prompts(task, n, 4, seed)
    answers = learned_filter_answers(prompts, told)
    assert_close(answers.sum(-1), torch.ones(4, dtype=torch.float64), atol=1e-12, rtol=0)
    exact = filter_answers(prompts)
    if all(told) or n == 0:
        assert_close(answers, exact, atol=1e-12, rtol=0)


def test_a_mapping_that_is_not_told_is_not_followed_and_the_attribute_still_is():
    shown = course_prompts("topic contrary", 8, 20, 0)
    blind = learned_filter_answers(shown, (False, True, True, True))
    exact = filter_answers(shown)
    gold = course_prompts("topic", 8, 20, 0).answer
    assert (exact.argmax(-1) == shown.answer).all() and (blind.argmax(-1) == gold).all()
    assert (blind[:, shown.choices].sum(-1) > 0.9).all()


def test_a_quarter_of_the_labels_are_wrong_and_all_queries_see_them(who):
    right, wrong = (account_prompts(who, t, 8, 6, 1) for t in ("stance", "stance, some wrong"))
    assert ((right.labels != wrong.labels).sum(1) == 2).all()
    assert (wrong.labels == wrong.labels[:1]).all()
    assert torch.equal(right.answer, wrong.answer)
    assert torch.equal(right.query_tokens, wrong.query_tokens)
    with pytest.raises(ValueError, match="share"):
        account_prompts(who, "stance, some wrong", 5, 6, 1)


@given(
    size=st.integers(2, 60), floor=st.floats(1e-4, 0.5), seed=st.integers(0, 10**6),
    sharpness=st.floats(0, 20),
)  # fmt: skip
@settings(deadline=None, max_examples=15)
def test_a_law_is_as_far_from_itself_as_the_floor_costs(size, floor, seed, sharpness):
    p = (sharpness * torch.randn(3, size, generator=seeded(seed), dtype=torch.float64)).softmax(-1)
    p = p.clamp_min(1e-300)
    exact = -(p * (1 - floor + floor / (size * p)).log()).sum(-1)
    assert_close(divergence(p, p, floor), exact, atol=1e-10, rtol=0)
    assert (exact <= -np.log1p(-floor) + 1e-12).all() and (exact >= -1e-12).all()


def test_measures_of_the_same_law_and_of_another():
    context = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    other = torch.tensor([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    answer = torch.tensor([0, 1])
    same = dict(zip(MEASURES, measured(context, context, answer, 2), strict=True))
    assert same["divergence"] < 1e-3 and same["overlap_cosine"] == pytest.approx(1)
    assert same["accuracy"] == same["same_answer"] == 1
    far = dict(zip(MEASURES, measured(context, other, answer, 2), strict=True))
    assert far["accuracy"] == far["same_answer"] == 0.5
    by_hand = 0.5 * (0.7 * np.log(0.7 / 0.2) + 0.2 * np.log(0.2 / 0.7))
    assert far["divergence"] == pytest.approx(by_hand, abs=2e-3)
    turned = dict(zip(MEASURES, measured(other, context, answer, 2), strict=True))
    assert far["reverse"] == pytest.approx(turned["divergence"])


def made_up(far, rising=None):
    """A result with one account whose divergence is given, ``[tasks, seeds, settings]``."""
    far = np.asarray(far, dtype=float)
    values = np.stack([far, far, -far if rising is None else rising, 0 * far, 0 * far], -1)
    tasks = tuple(f"task {i}" for i in range(len(far)))
    return WhichAccountResult(tasks=tasks, measures={WHOLE: values}, context=far[..., 0])


def test_an_oracle_chooses_on_the_spot_and_a_fair_choice_on_the_other_seeds():
    result = made_up([[[1.0, 2.0, 9.0], [5.0, 4.0, 0.0], [3.0, 2.5, 8.0]]])
    assert result.chosen(WHOLE).tolist() == [[0, 2, 1]]
    assert result.of("divergence", WHOLE).tolist() == [[1.0, 0.0, 2.5]]
    # means of the others: [4, 3.25, 4], [2, 2.25, 8.5], [3, 3, 4.5] (a tie: the first)
    assert result.chosen(WHOLE, "fair").tolist() == [[1, 0, 0]]
    assert result.of("divergence", WHOLE, "fair").tolist() == [[2.0, 5.0, 3.0]]


def test_likeness_is_chosen_by_its_largest():
    result = made_up([[[1.0, 2.0], [1.0, 2.0]]], rising=np.array([[[0.3, 0.9], [0.8, 0.1]]]))
    assert result.of("overlap_cosine", WHOLE).tolist() == [[0.3, 0.8]]
    assert result.of("overlap_cosine", WHOLE, by="overlap_cosine").tolist() == [[0.9, 0.8]]
    with pytest.raises(ValueError, match="account"):
        result.of("divergence", FILTER)


def test_the_record(lesson):
    assert lesson.tasks == WhichAccountConfig().tasks and lesson.accounts == ACCOUNTS
    assert {values.shape[2] for values in lesson.measures.values()} == {28, 21, 3, 1}
    assert all(np.isfinite(values).all() for values in lesson.measures.values())
    for name in lesson.accounts:
        fair = lesson.of("divergence", name, "fair")
        assert (lesson.of("divergence", name) <= fair).all()
    assert "task vector, added" in lesson.summary()


def test_in_context_learning_is_far_from_the_model_without_demonstrations(lesson):
    gold = lesson.rows("topic", "stance", "mood", "kind")
    near = lesson.of("divergence", REORDERED)[gold].mean(1)
    assert (near * 5 < lesson.of("divergence", ZERO_SHOT)[gold].mean(1)).all()
    assert (lesson.context[gold] > 0.9).all()


def test_the_figure_tells_all_accounts_apart(lesson):
    fig = figures.which_account(lesson)
    (ax,) = fig.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(lesson.tasks)
    assert len(set(figures.LOOKS.values())) == len(ACCOUNTS) == len(figures.LOOKS)
    assert [t.get_text() for t in fig.legends[0].get_texts()] == list(ACCOUNTS)
    assert ax.get_xscale() == "log"


def test_claims_are_settled_and_identities_hold(lesson):
    mine = [c for c in CLAIMS.values() if c.check.__module__ in MODULES]
    assert len(mine) >= 18
    for claim in mine:
        verdict = claim.check(Scale.LESSON).verdict
        assert verdict != Verdict.OPEN, claim.id
        assert claim.kind != "identity" or verdict == Verdict.HOLDS, claim.id


def test_on_real_text_there_is_no_filter(tiny_model_and_reviews):
    small = {"n": 2, "epochs": (1, 2), "n_queries": 3, "dummies": 12, "seeds": (0, 1)}
    changes = tiny_model_and_reviews | small
    result = which_account(WhichAccountConfig(**changes))
    assert result.accounts == tuple(name for name in ACCOUNTS if name not in (FILTER, LEARNED))
    assert result.context.shape == (1, 2) and np.isfinite(result.descent()).all()
    assert set(DESCENTS) < set(result.rivals)
    fig = figures.which_account(result)
    assert len(fig.legends[0].get_texts()) == len(ACCOUNTS) - 2


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tasks": ("weather",)}, "tasks: got 'weather'"),
        ({"tasks": ("weather, some wrong",)}, "tasks: got 'weather'"),
        ({"epochs": (5, 1)}, "ascending"),
        ({"epochs": (0, 1)}, "ascending"),
        ({"seeds": (0,)}, "fair choice"),
        ({"n_queries": 0}, "n_queries"),
    ],
)
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        WhichAccountConfig(**changes)
