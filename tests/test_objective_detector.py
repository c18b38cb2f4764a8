"""The detector: it names the loss of layers built here, and says no where there is none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.mesa_optimization.cosine_rules import cosine_scores
from icl_lessons.mesa_optimization.detector_cases import (
    CONTROLS,
    LOSSES,
    Noisy,
    constructed_case,
    control_case,
)
from icl_lessons.mesa_optimization.experiments.objective_detector import (
    NO,
    ObjectiveDetectorConfig,
    objective_detector,
)
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
    huber_loss,
)
from icl_lessons.mesa_optimization.objective_detector import (
    demixed_values,
    detect_objective,
    weight_change,
)
from icl_lessons.runtime import seeded
from icl_lessons.types import Batch


def contexts(n=8, d=3, m=2, count=24, seed=0):
    rng = np.random.default_rng(seed)
    xs, ys, start = (
        torch.from_numpy(rng.standard_normal(shape))
        for shape in ((count, n, d), (count, n, m), (count, m, d))
    )
    return Batch(xs, ys, xs[:, :1], ys[:, :1]), start


def learners(value, start, step_size=0.4, layers=1, **changes):
    stack = ObjectiveStack((ObjectiveLayer(value, step_size, **changes),) * layers, start)
    return stack.after(layers - 1), stack


@given(st.integers(0, 10_000), st.sampled_from(LOSSES))
@settings(max_examples=14, deadline=None)
def test_it_names_the_loss_and_its_step(seed, loss):
    case = constructed_case(loss, seeded(seed), 32)
    seen = detect_objective(case.before, case.after, case.batch)
    assert seen.is_gradient_step and seen.loss == loss
    assert seen.step_size == pytest.approx(case.step_size, rel=5e-3)
    for name, value in case.parameters.items():
        assert seen.parameters[name] == pytest.approx(value, rel=5e-3)
    if case.example_weights is not None and seen.example_weights is not None:
        assert_close(seen.example_weights, case.example_weights, rtol=1e-8, atol=1e-8)


@given(st.integers(0, 10_000), st.sampled_from(CONTROLS))
@settings(max_examples=16, deadline=None)
def test_it_says_no_to_controls(seed, kind):
    case = control_case(kind, seeded(seed), 32)
    seen = detect_objective(case.before, case.after, case.batch)
    assert not seen.is_gradient_step and seen.loss is None and seen.reason


def test_it_reads_a_layer_in_the_middle_of_a_stack_and_the_first_one():
    batch, start = contexts()
    before, after = learners(huber_loss(0.8).value, start, layers=3)
    seen = detect_objective(before, after, batch)
    assert seen.loss == "huber" and seen.parameters["delta"] == pytest.approx(0.8, rel=1e-2)
    seen = detect_objective(None, GradientDescent(0.3), batch)
    assert seen.loss == "squared" and seen.step_size == pytest.approx(0.3)
    assert_close(seen.example_weights, torch.ones(8, dtype=torch.float64))


def test_which_examples_a_layer_learns_from():
    batch, start = contexts()
    used = torch.tensor([1.0, 1, 0, 1, 0, 1, 1, 1], dtype=torch.float64)
    seen = detect_objective(
        *learners(INNER_LOSSES["squared"].value, start, example_weights=used), batch
    )
    assert seen.loss == "importance_weighted"
    assert_close(seen.example_weights, used / used.mean(), rtol=1e-9, atol=1e-9)


def test_ridge_from_zero_is_called_squared():
    batch, _ = contexts()
    after = learners(INNER_LOSSES["squared"].value, None, leak=0.5)[1]
    assert detect_objective(None, after, batch).loss == "squared"


@pytest.mark.parametrize(("delta", "expected"), [(100.0, "squared"), (0.001, "absolute")])
def test_ties_go_to_the_simpler_loss_and_are_reported(delta, expected):
    batch, start = contexts()
    seen = detect_objective(*learners(huber_loss(delta).value, start), batch)
    assert seen.loss == expected and "huber" in seen.ties


def test_a_known_metric_is_taken_into_account():
    batch, start = contexts()
    metric = torch.diag(torch.tensor([3.0, 1.0, 0.1], dtype=torch.float64))
    pair = learners(INNER_LOSSES["squared"].value, start, preconditioner=metric)
    assert not detect_objective(*pair, batch).is_gradient_step
    seen = detect_objective(*pair, batch, preconditioner=metric)
    assert seen.loss == "squared" and seen.step_size == pytest.approx(0.4)


def test_a_small_turn_is_seen_as_curl():
    batch, start = contexts()
    angle = np.deg2rad(15)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    seen = detect_objective(*learners(lambda p, y: (y - p) @ turn.mT, start), batch)
    assert not seen.is_gradient_step and "rotate" in seen.reason
    assert seen.curl == pytest.approx(np.sin(angle), abs=1e-6)


def test_noise_lowers_the_confidence_or_the_scores_but_not_the_right_answer():
    case = constructed_case("squared", seeded(3), 32)
    size = (case.after(*case.batch.context) - case.before(*case.batch.context)).std().item()
    seen = detect_objective(case.before, Noisy(case.after, 0.2 * size, 0), case.batch)
    assert seen.loss == "squared" and 0.9 < seen.scores["squared"] < 0.9999
    assert seen.step_size == pytest.approx(case.step_size, rel=0.1)


def test_the_change_of_the_weights_and_the_values_behind_it():
    batch, start = contexts(n=3, d=5)
    before, after = learners(INNER_LOSSES["absolute"].value, start, step_size=0.7)
    seen = weight_change(before, after, batch)
    assert_close(seen.before, start, rtol=1e-9, atol=1e-9)
    values = (batch.ys - batch.xs @ start.mT).sign()
    assert_close(seen.change, 0.7 * values.mT @ batch.xs / 3, rtol=1e-9, atol=1e-9)
    delta_p = after(batch.xs, batch.ys, batch.xs) - before(batch.xs, batch.ys, batch.xs)
    assert_close(demixed_values(batch.xs, delta_p), 0.7 * values, rtol=1e-8, atol=1e-8)
    assert detect_objective(before, after, batch).in_span == pytest.approx(1)
    with pytest.raises(ValueError, match="Gram matrix"):
        demixed_values(torch.ones(2, 4, 3), torch.ones(2, 4, 1))


def test_raw_changes_mislead_where_demixed_values_do_not():
    batch, start = contexts(n=5, d=5, m=3, count=60)
    pair = learners(INNER_LOSSES["absolute"].value, start)
    scores = cosine_scores(*pair, batch, delta=1.0)
    right = {name: (score.argmax(1) == 2).double().mean() for name, score in scores.items()}
    assert right["demixed"] > 0.95 > right["raw"] + 0.1


def test_no_change_and_bad_input():
    batch, start = contexts()
    same = ObjectiveStack((), start)
    seen = detect_objective(same, same, batch)
    assert not seen.is_gradient_step and "does not change" in seen.reason
    few = Batch(batch.xs[:3], batch.ys[:3], batch.x_query[:3], batch.y_query[:3])
    with pytest.raises(ValueError, match="contexts"):
        detect_objective(None, GradientDescent(0.1), few)
    with pytest.raises(ValueError, match="least_score"):
        detect_objective(None, GradientDescent(0.1), batch, least_score=-1.0)
    with pytest.raises(ValueError, match="loss"):
        constructed_case("hinge", seeded(0))


def test_the_experiment_on_a_few_cases():
    config = ObjectiveDetectorConfig(
        seeds=(5,), per_loss=1, per_control=1, noise_levels=(0.1,), context_counts=(8,)
    )
    result = objective_detector(config)
    table = result.exact.table
    assert table.sum() == len(LOSSES) + len(CONTROLS)
    assert (np.diag(table[:NO, :NO]) == 1).all() and (table[NO:, NO] == 1).all()
    assert result.exact.accuracy == 1 and result.exact.false_positives == 0
    assert "no noise" in result.summary()
