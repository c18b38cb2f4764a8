"""A reward from comparisons: the judge, the likelihood, the policy gradient, what was measured."""

import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.mesa_optimization.claims.preference_reward import expected_gradient
from icl_lessons.mesa_optimization.experiments import preference_reward as experiments
from icl_lessons.mesa_optimization.output_fine_tuning import InnerThenReadout
from icl_lessons.mesa_optimization.preference_reward import (
    Comparisons,
    Judge,
    RewardModel,
    compared,
    fitted_reward,
    policy_loss,
    preference_loss,
    preference_tuned,
)
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.zoo import stored_recipe

measured = functools.cache(
    lambda: experiments.preference_reward(
        experiments.PreferenceRewardConfig(n_test=800, n_labels=150)
    )
)


def test_the_judge_by_hand():
    judge = Judge(floor=-0.5, gap=4.0, temperature=0)
    pairs = torch.tensor([[-0.4, -0.6], [1.0, 0.0], [-3.0, -0.6], [0.2, -0.1]])
    before = torch.tensor([-0.6, 0.3, -3.0, -2.0])
    # Allowed before forbidden; closer to the output before; less forbidden; closer, from below.
    assert judge.probability(pairs, before).tolist() == [1.0, 0.0, 0.0, 0.0]
    noisy = Judge(temperature=0.5).probability(pairs, before)
    assert noisy[1].item() == pytest.approx(1 / (1 + np.exp((0.7 - 0.3) / 0.5)), abs=1e-6)


@given(st.integers(1, 30), st.floats(0, 3), st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_verdicts_do_not_depend_on_order(n, temperature, seed):
    judge = Judge(temperature=temperature)
    before, *pair = torch.randn(3, n, generator=seeded(seed), dtype=torch.float64)
    pairs = torch.stack(pair, -1)
    both = judge.probability(pairs, before) + judge.probability(pairs.flip(-1), before)
    assert torch.allclose(both, torch.ones_like(both), atol=1e-12)


@given(st.integers(1, 30), st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_the_likelihood_pulls_by_probability_less_verdict(n, seed):
    generator = seeded(seed)
    first, second = torch.randn(2, n, generator=generator, dtype=torch.float64)
    verdict = torch.rand(n, generator=generator) < 0.5
    first.requires_grad_(True)
    (pull,) = torch.autograd.grad(preference_loss(first, second, verdict), first)
    chance = 1 / (1 + torch.exp(second - first.detach()))
    assert torch.allclose(pull, (chance - verdict.double()) / n, atol=1e-12)
    # What all rewards of a prompt share is not identified.
    shifted = preference_loss(first + 7.0, second + 7.0, verdict)
    assert torch.allclose(shifted, preference_loss(first, second, verdict), atol=1e-12)


@given(st.integers(2, 6), st.floats(0.1, 2), st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_the_policy_gradient_has_no_bias(size, std, seed):
    coefficients, output = torch.randn(size + 1, generator=seeded(seed), dtype=torch.float64).split(
        [size, 1]
    )
    estimate, exact = expected_gradient(coefficients, output, std)
    scale = 1 + coefficients.abs().sum() * (3 + output.abs()) ** size
    assert (abs(estimate - exact) < 1e-11 * scale).all()


def test_a_baseline_from_the_sample_itself_would_be_caught():
    # The estimate with its own reward in the baseline is too small by 1/samples.
    noise = torch.tensor([[1.0], [-1.0]])
    output = torch.zeros(1, requires_grad=True)
    policy_loss(output, 3 * noise, noise, 1.0).backward()
    assert output.grad.item() == pytest.approx(-6.0)


def test_a_reward_is_learned_and_followed():
    generator, before = seeded(0), torch.zeros(400)
    pairs = compared(before, Judge(temperature=0), 0.75, generator=generator)
    reward = fitted_reward(pairs, steps=60, learning_rate=3e-2, hidden=8, generator=generator)
    untrained = RewardModel(8, generator=seeded(0))
    assert reward.agreement(pairs) > max(0.9, untrained.agreement(pairs))
    assert not any(parameter.requires_grad for parameter in reward.parameters())


def test_fine_tuning_follows_a_reward_and_moves_what_it_may():
    class Upwards(RewardModel):
        def forward(self, output, before):
            return output

    model = InnerThenReadout(2, 4, generator=seeded(1))
    then = copy.deepcopy(model.state_dict())
    task, how = LinearRegression(d=2), {"learning_rate": 1e-2, "batch_size": 16, "samples": 3}
    tuned = preference_tuned(
        model,
        Upwards(generator=seeded(2)),
        task,
        5,
        trains="readout",
        steps=40,
        std=0.5,
        divergence=0.01,
        generator=seeded(3),
        **how,
    )
    batch = task.sample(200, 5, generator=seeded(4))
    assert tuned(*batch.context).mean() > model(*batch.context).mean() + 0.2
    assert torch.equal(tuned.matrix, model.matrix)
    assert all(torch.equal(model.state_dict()[name], then[name]) for name in then)


def test_the_experiment_measures_each_treatment():
    result = measured()
    assert (result.agreement_rule > 0.8).all()
    assert (result.agreement <= result.best_agreement + 0.05).all()
    assert (result.forbidden < result.forbidden_before / 2).all()
    frozen = result.of("inside", "readout frozen")[:, 1]
    assert (frozen > 2 * result.of("inside", "divergence 0.05")[:, 1]).all()
    assert "readout frozen" in result.summary() and result.inside.shape == (3, 3, 3)


def test_stored_weights_measure_what_they_measured():
    stored_recipe("preference_reward").verify()


def test_tiny_recipes_train():
    small = experiments.FineTuning(d=2, n_context=4, hidden=3, steps=2, tuning_steps=1, seeds=(0,))
    training = experiments.PreferenceTuning(
        training=small, pairs=20, hidden=3, fit_steps=2, steps=2, batch_size=4, samples=2
    )
    config = experiments.PreferenceRewardConfig(
        training=training, n_test=200, n_labels=60, seeds=(0, 1)
    )
    assert experiments.preference_reward(config).forbidden.shape == (3, 2)


@pytest.mark.usefixtures("as_readers_run_it")
def test_bad_input_is_named():
    with pytest.raises(ValueError, match="rewards"):
        policy_loss(torch.zeros(2), torch.zeros(1, 2), torch.zeros(1, 2), 1.0)
    with pytest.raises(ValueError, match="std"):
        compared(torch.zeros(2), Judge(), 0.0, generator=seeded(0))
    with pytest.raises(ValueError, match="before"):
        compared(torch.zeros(0), Judge(), 1.0, generator=seeded(0))
    with pytest.raises(ValueError, match="temperature"):
        Judge(temperature=-1.0)
    pairs = Comparisons(torch.zeros(2, 2), torch.zeros(2), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="steps"):
        fitted_reward(pairs, steps=0, learning_rate=0.1, hidden=2, generator=seeded(0))
    with pytest.raises(ValueError, match="samples"):
        experiments.PreferenceTuning(samples=1)
    with pytest.raises(ValueError, match="seeds"):
        experiments.PreferenceRewardConfig(seeds=())
