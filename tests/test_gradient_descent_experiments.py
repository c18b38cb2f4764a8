"""The experiment on one layer and one step, and the claims that rest on it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.declare import Verdict
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.gradient_descent.claims import one_step as claims
from icl_lessons.gradient_descent.experiments.one_step import (
    OneLayerOneStepConfig,
    one_layer_one_step,
)
from icl_lessons.gradient_descent.one_step import gradient_descent_attention
from icl_lessons.gradient_descent.population_loss import single_step_loss
from icl_lessons.gradient_descent.trained_layer import (
    interpolated,
    learner_from_products,
    line_search_step,
    loss_at_scales,
    rescaled_products,
    untrained_layer,
)
from icl_lessons.ledger import collect_claims, run_experiment, stored_result
from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.models.attention import SelfAttention
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import von_oswald_task

D, N = 4, 6


def flipped(learner, factor: float):
    """The same function with its two products rescaled by ``factor`` and ``1 / factor``."""
    layer = learner.layers[0]
    other = SelfAttention.from_matrices(
        layer.w_query * factor, layer.w_key, layer.w_value / factor, layer.projection
    )
    return type(learner)([other], learner.d)


@pytest.fixture(scope="module")
def lesson():
    return one_layer_one_step(OneLayerOneStepConfig())


def test_the_trained_layer_is_within_one_percent_of_one_step_for_every_seed(lesson):
    assert len(lesson.loss_ratio) >= 3
    assert (abs(lesson.loss_ratio - 1) < 0.01).all()
    assert (lesson.sensitivity_cosine[:, -1] > 0.99).all()
    assert (lesson.loss[:, 0] > 1.5 * lesson.best_loss).all()  # it did not start there


def test_the_closed_form_run_reaches_the_best_step_and_never_passes_it(lesson):
    excess = lesson.population_loss / lesson.best_loss - 1
    assert (excess[:, -1] < 1e-4).all()
    assert (excess > -1e-6).all()  # nothing of this kind beats the best step


def test_halfway_works_rescaled_and_fails_where_the_sign_is_opposite(lesson):
    halfway = len(lesson.mixtures) // 2
    assert (lesson.interpolated[:, halfway] < 1.01 * lesson.descent_loss).all()
    mirrored = flipped(lesson.models[0], -1.0)
    construction = gradient_descent_attention(10, 1, 10, lesson.step_size, dtype=torch.float32)
    batch = von_oswald_task().sample(2000, 10, generator=seeded(3))
    one_sign = [
        mean_squared_error(interpolated(model, construction, 0.5, rescale=False), batch)
        for model in (lesson.models[0], mirrored)
    ]
    assert max(one_sign) > 1.3 * min(one_sign)


def test_the_steps_own_loss_under_a_shift_is_the_closed_form(lesson):
    ratio = lesson.descent_input_shift / lesson.expected_input_shift
    assert (abs(ratio - 1) < 0.1).all()
    exact = single_step_loss(von_oswald_task(), 10, lesson.step_size)
    assert abs(lesson.descent_loss / exact - 1) < 0.05


@pytest.mark.parametrize("factor", [-1.0, 0.2, -7.0])
def test_rescaling_changes_the_weights_and_not_the_predictions(factor):
    learner = untrained_layer(seeded(1), d=D, init_std=0.5)
    batch = von_oswald_task(D).sample(5, N, generator=seeded(2))
    key_query, projection_value, beta = rescaled_products(flipped(learner, factor))
    assert abs(key_query.diagonal()[:D].mean().item() - 1) < 1e-5
    again = learner_from_products(key_query, projection_value, D)
    assert_close(again(*batch.context), learner(*batch.context))
    assert np.sign(beta) == np.sign(factor * rescaled_products(learner)[2])


def test_line_search_finds_the_bottom_of_the_parabola():
    batch = von_oswald_task(D).sample(300, N, generator=seeded(4), dtype=torch.float64)
    step = line_search_step(batch)
    lowest = mean_squared_error(GradientDescent(step), batch)
    for other in (0.97 * step, 1.03 * step):
        assert mean_squared_error(GradientDescent(other), batch) > lowest


def test_tasks_twice_as_large_cost_a_linear_learner_four_times_as_much():
    losses = loss_at_scales(
        GradientDescent(1.0),
        von_oswald_task(D),
        N,
        task_scales=(1.0, 2.0),
        batch_size=50,
        seed=0,
    )
    assert losses[0, 1] == pytest.approx(4 * losses[0, 0], rel=1e-5)


def test_every_claim_of_this_chapter_has_the_verdict_that_it_discusses(stored_verdicts):
    """A verdict that changes is a page that has to be rewritten."""
    own = [c.id for c in collect_claims().values() if c.chapter == claims.ONE_STEP_PAGE]
    verdicts = {name: stored_verdicts[name] for name in own}
    assert len(verdicts) >= 8
    in_part = {"vonoswald2023-query-as-key"}
    fails = {"vonoswald2023-input-law", "vonoswald2023-cosine-identifies"}
    for name, verdict in verdicts.items():
        if name in in_part:
            assert verdict == Verdict.IN_PART, name
        elif name in fails:
            assert verdict == Verdict.FAILS, name
        else:
            assert verdict == Verdict.HOLDS, name


def test_every_claim_points_to_a_chapter_that_exists(request):
    book = request.config.rootpath / "book"
    for claim in collect_claims().values():
        assert any((book / f"{claim.chapter}{suffix}").exists() for suffix in (".ipynb", ".md"))


def test_a_small_run_is_written_and_read_back(tmp_path, monkeypatch):
    small = OneLayerOneStepConfig(
        d=D, n_context=N, batch_size=16, steps=4, n_validation=40, validate_every=2,
        population_steps=3, seeds=(5,),
    )  # fmt: skip
    from icl_lessons import declare
    from icl_lessons.runtime import Scale

    declared = declare.EXPERIMENTS["one_layer_one_step"]
    monkeypatch.setitem(
        declare.EXPERIMENTS,
        "one_layer_one_step",
        dataclasses.replace(declared, configs={scale: small for scale in Scale}),
    )
    run_experiment("one_layer_one_step", device="cpu", out=tmp_path / "new" / "folder")
    written = json.loads((tmp_path / "new/folder/one_layer_one_step.lesson.json").read_text())
    assert written["config"]["seeds"] == [5] and "models" not in written["result"]
    assert np.array(written["result"]["loss"]).shape == (1, 3)
    assert (tmp_path / "new/folder/one_layer_one_step.lesson.svg").stat().st_size > 1000


def test_the_stored_paper_scale_run_is_the_declared_one():
    record = stored_result("one_layer_one_step")
    from icl_lessons.ledger import collect_experiments
    from icl_lessons.runtime import Scale

    declared = collect_experiments()["one_layer_one_step"].configs[Scale.PAPER]
    for name, value in dataclasses.asdict(declared).items():
        if name != "device":
            stored = record["config"][name]
            assert stored == (list(value) if isinstance(value, tuple) else value), name
    assert set(record["provenance"]) >= {"torch", "device", "date", "icl_lessons"}


@pytest.mark.parametrize("bad", [{"d": 0}, {"learning_rate": -1.0}, {"seeds": ()}])
def test_a_wrong_setting_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        OneLayerOneStepConfig(**bad)
