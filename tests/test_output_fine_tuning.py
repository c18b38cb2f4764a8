"""Fine-tuning on outputs: the parts, the reward, the closed form, and what was measured."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.mesa_optimization.experiments import output_fine_tuning as experiments
from icl_lessons.mesa_optimization.output_fine_tuning import (
    FineTuned,
    InnerThenReadout,
    PoisonedLabels,
    Reward,
    best_scale,
    inner_change,
    inner_learner,
    lost_reward,
    outside_change,
    spared,
)
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression

SMALL = experiments.OutputFineTuningConfig(n_test=800, n_labels=150)


def model_and_batch(d=3, n=6, size=50):
    model = InnerThenReadout(d, 5, generator=seeded(1)).double()
    batch = LinearRegression(d=d).sample(size, n, generator=seeded(2), dtype=torch.float64)
    return model, batch


def test_the_output_is_the_inner_answer_and_a_readout():
    model, batch = model_and_batch()
    inner = model.inner(*batch.context)
    assert torch.allclose(inner, inner_learner(model)(*batch.context), atol=1e-14)
    by_hand = inner.clone()
    for k in range(5):
        hidden = torch.tanh(model.read.weight[k, 0] * inner + model.read.bias[k])
        by_hand = by_hand + model.write.weight[0, k] * hidden
    assert torch.allclose(model(*batch.context), by_hand + model.write.bias, atol=1e-13)


def test_the_reward_by_hand():
    reward = Reward(floor=-0.5, punish=3.0)
    output = torch.tensor([-1.5, -0.2, 0.4, -0.7])
    before = torch.tensor([-2.0, -0.1, 0.0, -0.4])
    # Below the floor by 1 and 0.2; kept close where the output was allowed before.
    expected = -(3 * (1.0 + 0.04) + 0.5 * (0.01 + 0.16 + 0.09)) / 4
    assert reward(output, before).item() == pytest.approx(expected, abs=1e-6)
    assert reward.forbidden(output) == 0.5
    assert reward.forbidden(torch.tensor([-0.54, -0.56])) == 0.5


@pytest.mark.parametrize(
    ("trains", "moving"),
    [("all", {"matrix", "read", "write"}), ("inner", {"matrix"}), ("readout", {"read", "write"})],
)
def test_only_the_weights_named_move(trains, moving):
    model, batch = model_and_batch()
    tuned = FineTuned(model, copy.deepcopy(model), trains)
    lost_reward(tuned, batch, Reward()).backward()
    got = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert got == moving
    assert all(not p.requires_grad for p in tuned.before.parameters())


def test_nothing_is_lost_where_nothing_is_forbidden():
    model, batch = model_and_batch()
    tuned = FineTuned(model, copy.deepcopy(model))
    assert lost_reward(tuned, batch, Reward(floor=-1e6)).item() == 0


@given(st.integers(1, 4), st.integers(1, 8), st.floats(0, 5))
@settings(max_examples=10, deadline=None)
def test_no_other_scale_does_better_on_poisoned_prompts(d, n, std):
    # The expected loss of M = c I by second moments, on prompts that were drawn.
    task = PoisonedLabels(LinearRegression(d=d, task_scale=d**-0.5), std)
    batch = task.sample(30_000, n, generator=seeded(3), dtype=torch.float64)
    answer = ((batch.ys.mT @ batch.xs / n) @ batch.x_query.mT).flatten()
    y = batch.y_query.flatten()
    slope = answer * y - best_scale(d, n, std) * answer.square()  # of mean 0 at the best scale
    assert abs(slope.mean()) < 5 * slope.std() / len(y) ** 0.5


def test_poison_hits_one_label_and_nothing_else():
    task = LinearRegression(d=2)
    clean = task.sample(2000, 4, generator=seeded(4))
    hit = PoisonedLabels(task, 20.0).sample(2000, 4, generator=seeded(4))
    difference = (hit.ys - clean.ys)[..., 0]
    assert torch.equal(hit.xs, clean.xs) and torch.equal(hit.y_query, clean.y_query)
    assert (difference[:, 1:] == 0).all()
    assert difference[:, 0].std().item() == pytest.approx(20, rel=0.06)


@given(st.integers(1, 6), st.floats(0.05, 3), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_a_change_of_length_is_no_change_of_direction(d, factor, seed):
    matrix = torch.randn(d, d, generator=seeded(seed), dtype=torch.float64)
    change = inner_change(matrix, factor * matrix)
    assert change == pytest.approx((1.0, abs(factor - 1), factor), abs=1e-12)


def test_spared_prompts_are_those_above():
    model, batch = model_and_batch()
    with torch.no_grad():
        output = model(*batch.context).flatten()
    kept = spared(model, batch, above=0.0)
    assert len(kept) == int((output > 0).sum())
    assert (model(*kept.context) > 0).all()
    same = outside_change(model, model, batch)
    assert same == pytest.approx((1.0, 0.0, 1.0), abs=1e-12)


@pytest.mark.usefixtures("as_readers_run_it")
def test_bad_input_is_named():
    model, batch = model_and_batch()
    with pytest.raises(ValueError, match="above"):
        spared(model, batch, above=1e9)
    with pytest.raises(ValueError, match="zeros"):
        inner_change(torch.zeros(2, 2), torch.eye(2))
    with pytest.raises(ValueError, match="trains"):
        FineTuned(model, copy.deepcopy(model), "some")
    with pytest.raises(ValueError, match="punish"):
        Reward(punish=-1.0)
    with pytest.raises(ValueError, match="std"):
        PoisonedLabels(LinearRegression(d=2), -1.0)


def test_the_experiment_measures_each_treatment():
    result = experiments.output_fine_tuning(SMALL)
    assert (result.of("inside", "inner frozen")[:, 1] == 0).all()
    assert (result.of("forbidden", "punish 1") < result.forbidden_before / 5).all()
    left = result.of("inside", "poisoned, readout frozen")[:, 2]
    assert np.allclose(left, result.exact_poisoned, rtol=0.1)
    before, said = result.of("model_output_error", "punish 1").T
    assert (result.of("model_probe", "punish 1") < said / 2).all() and (before < said).all()
    # Further steps without a reward forbid nothing, and the control is no idle one.
    drift = result.of("model_influence", "no reward")[:, 1]
    assert np.allclose(
        result.of("model_forbidden", "no reward"), result.model_forbidden_before, atol=0.05
    )
    assert (drift > 0.05).all()
    assert "Transformer, punish 30" in result.summary()


def test_the_last_stream_is_what_the_readout_reads():
    result = experiments.output_fine_tuning(SMALL)
    model = result.models["before"][0]
    batch = LinearRegression(d=3).sample(7, 12, generator=seeded(5))
    with torch.no_grad():
        said = model.read_out(experiments.last_stream(model, batch))
        assert torch.allclose(said, model(*batch.context)[:, 0], atol=1e-6)
