"""Training on poisoned contexts: the laws, the clipped step, the experiments and their claims."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import Ridge
from icl_lessons.mesa_optimization.adversarial_training import (
    ClippedStep,
    PoisonedRegression,
    attacked_labels,
    best_poisoned_step,
    clipped_step_bound,
    inner_step,
    poisoned_step_error,
    squared_error,
    tuned_clipped_step,
    unit_task,
)
from icl_lessons.mesa_optimization.claims import adversarial_training as claims
from icl_lessons.mesa_optimization.claims import poisoned_models as model_claims
from icl_lessons.mesa_optimization.experiments.adversarial_training import (
    LEARNERS,
    AdversarialTrainingConfig,
    adversarial_training,
)
from icl_lessons.mesa_optimization.experiments.poisoned_contexts import (
    PoisonedContextsConfig,
    poisoned_contexts,
)
from icl_lessons.mesa_optimization.experiments.poisoned_models import (
    PoisonedModelsTraining,
    clean_weights,
    poisoned_models,
    poisoned_weights,
)
from icl_lessons.mesa_optimization.figures import adversarial_training as adversarial_figures
from icl_lessons.mesa_optimization.figures import poisoned_contexts as poisoned_figures
from icl_lessons.mesa_optimization.gradient_attack import label_sweep
from icl_lessons.mesa_optimization.poisoned_contexts import ridge_influence
from icl_lessons.runtime import Scale, seeded
from icl_lessons.types import Learner
from icl_lessons.zoo import stored_recipe

F64 = {"dtype": torch.float64}


def context(seed, d=4, n=9, batch=5):
    return unit_task(d).sample(batch, n, generator=seeded(seed), **F64)


# --- the laws and the learners ------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 3), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_as_many_labels_are_hit_as_was_asked(d, n, poisoned, seed):
    law = PoisonedRegression(d=d, poisoned=poisoned)
    if n < poisoned:
        with pytest.raises(ValueError, match="n_context"):
            law.sample(4, n, generator=seeded(seed))
        return
    batch = law.sample(4, n, generator=seeded(seed), **F64)
    off = (batch.ys - batch.xs @ batch.weights.mT).abs()[..., 0] > 1e-9
    assert (off.sum(1) == poisoned).all()
    assert_close(batch.y_query, batch.x_query @ batch.weights.mT)


@pytest.mark.parametrize(("d", "n", "noise"), [(5, 20, 0.0), (5, 20, 3.0), (2, 6, 1.0)])
def test_the_error_of_a_step_is_the_parabola(d, n, noise):
    batch = PoisonedRegression(d=d, noise_std=noise).sample(50_000, n, generator=seeded(1), **F64)
    for size in (0.2, best_poisoned_step(d, n, noise)):
        drawn = squared_error(ClippedStep(size), batch)
        assert drawn == pytest.approx(poisoned_step_error(size, d, n, noise), rel=0.03)
    best = best_poisoned_step(d, n, noise)
    assert poisoned_step_error(best, d, n, noise) == pytest.approx(1 - best)
    for other in (0.9 * best, 1.1 * best):
        assert poisoned_step_error(other, d, n, noise) > 1 - best


@given(st.integers(1, 6), st.integers(1, 12), st.floats(0.1, 2), st.floats(0.1, 3))
@settings(max_examples=10, deadline=None)
def test_a_clipped_step_descends_a_sum_of_huber_losses(d, n, size, clip):
    batch = context(d + n, d, n)
    weights = torch.zeros(5, 1, d, requires_grad=True, **F64)
    fit = batch.xs @ weights.mT
    loss = torch.nn.functional.huber_loss(fit, batch.ys, reduction="sum", delta=clip) / n
    (slope,) = torch.autograd.grad(loss, weights)
    expected = batch.x_query @ (-size * slope).mT
    assert_close(ClippedStep(size, clip)(*batch.context), expected, atol=1e-12, rtol=1e-12)
    assert isinstance(ClippedStep(size, clip), Learner)
    high, low = batch.ys.clone(), batch.ys.clone()
    high[:, 0], low[:, 0] = 1e5, -1e5
    said = [ClippedStep(size, clip)(batch.xs, ys, batch.x_query) for ys in (high, low)]
    bound = clipped_step_bound(batch.xs[:, 0], batch.x_query, n, size, clip)
    assert_close((said[0] - said[1])[:, 0, 0].abs(), bound, atol=1e-12, rtol=1e-12)


def test_without_a_clip_it_is_a_step_of_descent_and_tuning_finds_the_best_size():
    batch = context(3)
    assert_close(ClippedStep(0.4)(*batch.context), GradientDescent(0.4)(*batch.context))
    many = PoisonedRegression().sample(2000, 20, generator=seeded(2), **F64)
    tuned = tuned_clipped_step(many, 1.0)
    for factor in (0.95, 1.05):
        other = ClippedStep(factor * tuned.step_size, 1.0)
        assert squared_error(other, many) > squared_error(tuned, many)


def test_an_attacked_label_is_the_most_influential_one_moved_the_wrong_way():
    batch, sizes = context(4), torch.linspace(0, 2, 5, **F64)
    learner = Ridge(0.1)
    influence = ridge_influence(batch.xs, batch.x_query, 0.1)[:, 0]
    moved = (attacked_labels(learner, batch, sizes) - batch.ys)[..., 0]
    assert ((moved != 0).sum(1) <= 1).all()
    assert_close(moved.abs().amax(1), sizes)
    assert (moved.abs().argmax(1)[1:] == influence.abs().argmax(1)[1:]).all()
    error = (learner(*batch.context) - batch.y_query)[:, 0, 0]
    assert ((moved * influence).sum(1) * error >= 0).all()


def test_a_sweep_moves_every_label_up_and_down():
    batch = context(5, n=4)
    swept = label_sweep(Ridge(0.3), *batch.context, (0.5, 2.0))
    for k, budget in enumerate((0.5, 2.0)):
        for j in range(8):
            ys = batch.ys.clone()
            ys[:, j % 4] += budget * (1 if j < 4 else -1)
            expected = Ridge(0.3)(batch.xs, ys, batch.x_query)[:, 0, 0]
            assert_close(swept[k, j], expected)


def test_the_inner_step_of_a_step_is_its_size():
    batch = context(6)
    for size in (0.2, 0.9):
        assert inner_step(GradientDescent(size), batch) == pytest.approx((size, 1.0))
    assert inner_step(Ridge(0.1), batch)[1] < 0.999
    assert inner_step(lambda xs, ys, x_query: x_query[..., :1], batch) == (0.0, 0.0)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="clip"):
        ClippedStep(1.0, 0.0)
    with pytest.raises(ValueError, match="step_size"):
        ClippedStep(-1.0)
    with pytest.raises(ValueError, match="n_context: got 0"):
        poisoned_step_error(0.1, 3, 0)
    with pytest.raises(ValueError, match="noise_std"):
        PoisonedRegression(noise_std=-1.0)
    with pytest.raises(ValueError, match="budgets"):
        AdversarialTrainingConfig(budgets=(3, 1))
    with pytest.raises(ValueError, match="scales and budgets"):
        PoisonedContextsConfig(scales=(0.0,))
    with pytest.raises(ValueError, match="seeds"):
        PoisonedModelsTraining(seeds=())


# --- the experiments ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def poisoned():
    few = {"n_test": 16, "attack_steps": 3, "budgets": (0.3, 10)}
    return poisoned_contexts(PoisonedContextsConfig(**few))


@pytest.fixture(scope="module")
def adversarial():
    few = {"n_tuning": 500, "n_test": 100, "n_attacked": 4, "attack_steps": 3}
    few |= {"budgets": (3, 100), "scales": (3, 10)}
    return adversarial_training(AdversarialTrainingConfig(**few))


def test_attacks_on_learners_that_are_linear_in_labels_do_as_computed(poisoned):
    of = poisoned.learners.index
    assert_close(poisoned.hijacked[:, of("one step")], np.ones(3), atol=1e-4, rtol=0)
    assert_close(poisoned.hijacked_by_ridge[:, of("ridge")], np.ones(3), atol=1e-4, rtol=0)
    for name in ("one step", "ten steps", "ridge"):
        i = of(name)
        assert_close(poisoned.worst[:, i], poisoned.predicted[:, i], atol=1e-3, rtol=1e-3)
        assert (poisoned.flips_agree[:, i] == 1).all()
        assert_close(poisoned.own_hijack[:, i], np.ones(3), atol=1e-3, rtol=0)
    assert (poisoned.output_largest < poisoned.output_bound).all()
    assert len(poisoned.summary().splitlines()) == len(poisoned.learners)


def test_no_attack_made_elsewhere_does_better_than_a_linear_learners_worst_label(poisoned):
    linear = [poisoned.learners.index(name) for name in ("one step", "ten steps", "ridge")]
    assert (poisoned.transfer_labels[:, :, linear] <= 1 + 1e-4).all()


def test_errors_rise_with_the_poison(adversarial):
    assert (np.diff(adversarial.worst, axis=-1) >= -1e-6).all()
    clean = adversarial.of(adversarial.noise, "step, clean")
    assert (np.diff(clean, axis=-1) > 0).all()
    assert len(adversarial.summary().splitlines()) == len(LEARNERS)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("anwar2024-one-example-drives-linear", Verdict.HOLDS),
        ("anwar2024-softmax-resists-transfer", Verdict.HOLDS),
        ("anwar2024-softmax-falls-to-gradients", Verdict.HOLDS),
        ("survey-final-norm-bounds-the-output", Verdict.HOLDS),
        ("survey-scaling-attack-linear-layer", Verdict.HOLDS),
        ("survey-scaling-attack-transformer", Verdict.HOLDS),
        ("survey-influence-predicts-large-changes", Verdict.FAILS),
        ("survey-parity-flip-transformer", Verdict.FAILS),
        ("survey-poison-training-shrinks-step", Verdict.HOLDS),
        ("survey-poison-training-keeps-direction", Verdict.HOLDS),
        ("survey-poison-training-shrinks-transformer-step", Verdict.FAILS),
        ("survey-worst-case-training-ends-learning", Verdict.HOLDS),
    ],
)
def test_verdicts(name, verdict, poisoned, adversarial, monkeypatch):
    """On few contexts, and so of claims whose figures are far from their bounds."""
    results = {"poisoned_contexts": poisoned, "adversarial_training": adversarial}
    for module in (claims, model_claims):
        monkeypatch.setattr(module, "result_of", lambda name, scale: results[name])
    assert CLAIMS[name].check(Scale.LESSON).verdict == verdict


def test_verdicts_follow_the_measurements(poisoned, adversarial, monkeypatch):
    i = poisoned.learners.index("transformer")
    shares, agree = poisoned.hijacked.copy(), poisoned.flips_agree.copy()
    shares[:, i], agree[:, i] = 0.9, 0.95
    other = dataclasses.replace(poisoned, hijacked=shares, flips_agree=agree)
    monkeypatch.setattr(model_claims, "result_of", lambda name, scale: other)
    assert model_claims.softmax_resists_transfer(Scale.LESSON).verdict == Verdict.FAILS
    assert model_claims.flips_of_transformer(Scale.LESSON).verdict == Verdict.HOLDS
    step = adversarial.step.copy()
    step[:, LEARNERS.index("transformer, noise")] = 0.1
    changed = dataclasses.replace(adversarial, step=step)
    monkeypatch.setattr(claims, "result_of", lambda name, scale: changed)
    assert claims.poison_shrinks_transformer_step(Scale.LESSON).verdict == Verdict.HOLDS


def test_training_live_makes_every_model():
    short = PoisonedModelsTraining(
        steps=2,
        further_steps=2,
        linear_steps=2,
        batch_size=2,
        linear_batch=2,
        width=8,
        seeds=(0, 1),
    )
    clean, further = clean_weights.train(short), poisoned_weights.train(short)
    for kind in ("linear", "softmax"):
        first = poisoned_models(short, clean, kind, "clean")
        noise, attack = (poisoned_models(short, further, kind, r) for r in ("noise", "attack"))
        assert len(first) == len(noise) == len(attack) == 2
        batch = context(7, d=5).to(torch.float32)
        said = [model(*batch.context) for model in (*first, *noise, *attack)]
        assert all(value.shape == (5, 1, 1) for value in said)
        assert not torch.equal(said[0], said[1]) and not torch.equal(said[2], said[4])


@pytest.mark.parametrize("name", ["poisoned_contexts", "adversarial_training"])
def test_the_stored_weights_are_those_of_the_recipe(name):
    recipe = stored_recipe(name)
    assert recipe.is_stored(PoisonedModelsTraining())
    recipe.verify()


def test_every_panel_draws(poisoned, adversarial):
    for figures, result in ((poisoned_figures, poisoned), (adversarial_figures, adversarial)):
        for draw, _ in figures.PANELS:
            _, ax = plt.subplots()
            draw(ax, result)
            assert ax.get_xlabel() and ax.get_ylabel()
            plt.close()
