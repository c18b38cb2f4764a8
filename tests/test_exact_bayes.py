"""Experiments on the exact Bayes predictor, and the claims that rest on them."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.bayesian.claims import distinguishability as condition_claims
from icl_lessons.bayesian.claims import exact_bayes as claims
from icl_lessons.bayesian.claims import exact_orders as order_claims
from icl_lessons.bayesian.experiments import exact_bayes as prompts_experiment
from icl_lessons.bayesian.experiments.distinguishability import (
    DistinguishabilityConfig,
    distinguishability,
)
from icl_lessons.bayesian.experiments.exact_bayes import (
    LOOSE,
    MANY_TOKENS,
    RELEASED,
    SMALL,
    WRITTEN,
    ExactBayesConfig,
    exact_bayes,
)
from icl_lessons.bayesian.experiments.exact_orders import (
    ExactOrdersConfig,
    exact_orders,
    orders_of,
)
from icl_lessons.bayesian.experiments.zero_shot_dip import (
    ZeroShotDipConfig,
    separate_evidence,
    zero_shot_dip,
)
from icl_lessons.bayesian.figures import exact_bayes as prompt_figures
from icl_lessons.declare import CLAIMS, EXPERIMENTS, Verdict, result_of
from icl_lessons.estimators.bayes import BayesPredictor, forward_log_likelihoods
from icl_lessons.ledger import run_experiment
from icl_lessons.measures.prompting import (
    accuracy_by_examples,
    accuracy_by_order,
    share_right,
    shared_examples,
)
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.markov import GINC, ginc_small

NAMES = ("exact_bayes", "exact_orders", "zero_shot_dip", "distinguishability")


@pytest.fixture(scope="module")
def lesson():
    return result_of("exact_bayes", Scale.LESSON)


@pytest.fixture(scope="module")
def few():
    config = ExactBayesConfig(
        worlds=(SMALL,),
        unseen_worlds=(SMALL,),
        example_lengths=(3,),
        unseen_lengths=(3,),
        examples=(0, 2),
        n_prompts=40,
        seeds=(4,),
        n_documents=30,
    )
    return config, exact_bayes(config)


def test_accuracy_is_that_of_the_predictor_on_the_same_prompts(few):
    config, result = few
    task = ginc_small(4)
    prompts = task.prompts(40, 2, 3, generator=seeded(3))
    expected = accuracy_by_examples(BayesPredictor(task.world()), prompts, (0, 2))
    assert result.accuracy[0, 0, 0].tolist() == expected
    first = torch.eye(5).double()[0]
    one = accuracy_by_examples(BayesPredictor(task.world(), first), prompts, (0, 2))
    assert result.one_concept[0, 0, 0].tolist() == one
    other = task.prompts(40, 2, 3, generator=seeded(3), concepts="unseen")
    oracle = BayesPredictor(task.world().with_unseen())
    assert result.unseen_oracle[0, 0, 0].tolist() == accuracy_by_examples(oracle, other, (0, 2))
    lacking = accuracy_by_examples(BayesPredictor(task.world()), other, (0, 2))
    assert result.unseen[0, 0, 0].tolist() == lacking


def test_the_loss_on_documents_is_per_token(few):
    config, result = few
    tokens = ginc_small(4).sample(30, 72, generator=seeded(1)).tokens
    total = forward_log_likelihoods(ginc_small(4).world(), tokens)[..., -1].logsumexp(1)
    expected = -(total - np.log(5)).mean().item() / 72
    assert result.document_loss[0, 0] == pytest.approx(expected, rel=1e-12)
    assert 1.3 < expected < np.log(16)


def test_the_predictor_told_the_concept_is_perfect_where_tokens_name_states(lesson):
    assert (lesson.curve("knowing", SMALL, 3) == 1).all()
    assert (lesson.curve("knowing", RELEASED, 3) < 1).all()


def test_the_exact_predictor_rises_where_matrices_are_dense_and_not_as_released(lesson):
    for k in (5, 10):
        rise = lesson.curve("accuracy", WRITTEN, k)
        assert (rise[:, -1] - rise[:, 0] > 0.1).all()
    released = lesson.curve("accuracy", RELEASED, 10)
    assert released.min() > 0.97
    assert lesson.curve("accuracy", SMALL, 10)[:, -1].min() > 0.97
    for world in (MANY_TOKENS, LOOSE):
        assert lesson.curve("accuracy", world, 10)[:, -1].min() > 0.9


def test_a_prior_that_lacks_the_concept_learns_nothing_and_an_oracle_all(lesson):
    for world in (SMALL, RELEASED):
        assert lesson.curve("unseen", world, 10).max() < 0.5
        assert lesson.curve("unseen_oracle", world, 10)[:, -1].min() > 0.9
        assert lesson.curve("released_oracle", world, 10)[:, -1].max() < 0.5
    one = lesson.curve("one_concept", WRITTEN, 10)
    assert abs(one[:, -1] - one[:, 0]).max() < 0.1 and one.max() < 0.6


def test_unsmoothed_prompts_become_impossible_one_after_another(lesson):
    assert (np.diff(lesson.impossible, axis=-1) >= 0).all()
    assert (lesson.impossible[..., 0] == 0).all() and lesson.impossible[..., -1].mean() > 0.8


def test_orders_are_all_there_and_read_from_the_start():
    task = GINC()
    prompts = task.prompts(30, 3, 3, generator=seeded(1), concept=2, start_property=4)
    one = prompts[:1]
    ordered = orders_of(one)
    assert len(ordered) == 6 and torch.equal(ordered.tokens[0], one.tokens[0])
    assert len({tuple(row) for row in ordered.tokens.tolist()}) == 6
    sets = ordered.examples.sort(1).values
    assert torch.equal(sets, sets[:1].expand_as(sets))


def test_accuracy_by_order_is_that_of_the_predictor():
    config = ExactOrdersConfig(
        worlds=("100 permutations, shared tokens",), sets=1, tests=20, seeds=(3,), n_examples=3
    )
    result = exact_orders(config)
    assert result.accuracy.shape == (1, 1, 1, 6)
    task, generator = GINC(seed=3), seeded(2)
    concept = int(torch.randint(0, 5, (), generator=generator))
    start = int(torch.randint(1, 10, (), generator=generator))
    drawn = task.prompts(20, 3, 3, generator=generator, concept=concept, start_property=start)
    expected = accuracy_by_order(BayesPredictor(task.world()), shared_examples(drawn))
    assert_close(torch.tensor(result.accuracy[0, 0, 0]), expected, rtol=0, atol=1e-12)


def test_own_tokens_leave_order_almost_nothing():
    result = result_of("exact_orders", Scale.LESSON)
    own, shared = (result.ranges(world).mean() for world in result.worlds[1:3])
    assert own < 0.02 < 0.1 < shared
    assert result.log_odds_range[:2].max() <= 0.2 < result.log_odds_range[2:].mean()


def test_examples_as_documents_say_what_is_inside_them():
    task = ginc_small()
    world, prompts = task.world(), task.prompts(4, 2, 3, generator=seeded(2))
    given = separate_evidence(world, prompts, (0, 2))
    pieces = [*prompts.examples.unbind(1), prompts.test_input]
    each = [forward_log_likelihoods(world, piece)[..., -1] for piece in pieces]
    assert_close(given[1].log_likelihood, sum(each), rtol=1e-12, atol=1e-12)
    assert_close(given[0].log_likelihood, each[-1], rtol=1e-12, atol=1e-12)
    alone = BayesPredictor(world).next_token(prompts.test_input).exp()
    assert_close(given[0].next_token(), alone, rtol=1e-11, atol=1e-14)


def test_the_three_lengths_stand_in_order():
    """What suffices by Condition 1 comes after what the exact rate says, for every concept."""
    result = result_of("distinguishability", Scale.LESSON)
    assert (result.condition_length > result.rate_length).all()
    assert (result.rate_length > 0).all()
    assert abs(result.visible_length - result.rate_length).mean() < 1
    assert result.foretold[:, -1].min() > 0.98


def test_every_claim_has_the_verdict_that_the_page_discusses(stored_verdicts):
    modules = {module.__name__ for module in (claims, order_claims, condition_claims)}
    mine = [
        c
        for c in CLAIMS.values()
        if c.check.__wrapped__.__module__ in modules and c.kind != "identity"
    ]
    verdicts = {claim.id: stored_verdicts[claim.id] for claim in mine}
    fails = {
        "xie2022-exact-rise-as-released",
        "xie2022-published-is-exact",
        "xie2022-told-the-concept",
        "xie2022-equal-weights",
        "xie2022-unseen-released",
        "xie2022-vocabulary-exactly",
        "xie2022-stickiness-exactly",
        "xie2022-possible-prompts",
        "xie2022-exact-order",
        "xie2022-dip-setting",
        "xie2022-condition-needed",
        "xie2022-more-is-better",
        "xie2022-assumption-3",
    }
    in_part = {"xie2022-dip-exactly", "xie2022-condition-suffices"}
    assert verdicts == {
        id: Verdict.FAILS if id in fails else Verdict.IN_PART if id in in_part else Verdict.HOLDS
        for id in verdicts
    }
    assert fails | in_part < set(verdicts)


TINY = {
    "exact_bayes": {"n_prompts": 6, "n_documents": 3, "examples": (0, 1), "seeds": (0,)},
    "exact_orders": {"sets": 2, "tests": 4, "n_examples": 2, "seeds": (0,)},
    "zero_shot_dip": {"n_prompts": 6, "examples": (0, 1), "seeds": (0,)},
    "distinguishability": {"n_prompts": 30, "n_examples": 2, "seeds": (0,)},
}


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_draws_and_is_written(name, tmp_path, monkeypatch):
    declared = EXPERIMENTS[name]
    small = replace(declared.configs[Scale.LESSON], **TINY[name])
    monkeypatch.setitem(declared.configs, Scale.LESSON, small)
    record = run_experiment(name, out=tmp_path)
    written = json.loads((tmp_path / f"{name}.lesson.json").read_text(encoding="utf-8"))
    assert written["config"]["seeds"] == [0] and written["result"]
    assert (tmp_path / f"{name}.lesson.svg").stat().st_size > 3000
    assert len(record.result.summary().splitlines()) >= 4
    assert "nan" not in record.result.summary()
    assert len(declared.configs[Scale.PAPER].seeds) >= 3


def test_panels_are_drawn_one_by_one(few):
    _, result = few
    fig, ax = plt.subplots()
    prompt_figures.draw_accuracy(ax, result, SMALL)
    assert ax.get_lines()[0].get_ydata().tolist() == result.accuracy[0, 0, 0].tolist()
    plt.close(fig)


@pytest.mark.parametrize(
    "kind, change, sentence",
    [
        (ExactBayesConfig, {"worlds": ("large",)}, "worlds: .*large.* not known"),
        (ExactBayesConfig, {"unseen_worlds": ("large",)}, "unseen_worlds: got"),
        (ExactBayesConfig, {"seeds": ()}, "seeds, worlds: give at least one"),
        (ExactBayesConfig, {"n_prompts": 0}, "n_prompts: got 0"),
        (ExactOrdersConfig, {"n_examples": 7}, "n_examples: got 7; use at most 6"),
        (ExactOrdersConfig, {"worlds": ("large",)}, "worlds: .* not known"),
        (ZeroShotDipConfig, {"examples": (0, 2)}, "examples: got .*; begin with 0 and 1"),
        (ZeroShotDipConfig, {"worlds": ("large",)}, "worlds: .* not known"),
        (DistinguishabilityConfig, {"longest": 5}, "longest: got 5"),
        (DistinguishabilityConfig, {"share": 0.0}, "share: got 0.0"),
    ],
)
def test_bad_settings_are_named(kind, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        kind(**change)


def test_accuracy_counts_the_most_probable_token():
    prediction = torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    assert share_right(prediction, torch.tensor([1, 1, 1])) == pytest.approx(2 / 3)
    assert prompts_experiment.WORLDS[SMALL] == ginc_small()
    assert callable(distinguishability) and callable(zero_shot_dip)
