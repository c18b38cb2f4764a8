"""Layers with only preconditioners in them: the short way, the family, what was trained."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.estimators.preconditioned import (
    GradientDescentPlusPlus,
    PreconditionedGradientDescent,
)
from icl_lessons.gradient_descent.claims import sparse_layers as claims  # noqa: F401
from icl_lessons.gradient_descent.experiments.sparse_layers import (
    SparseLayersConfig,
    SparseLayersTraining,
    sparse_layers,
    sparse_layers_weights,
)
from icl_lessons.gradient_descent.figures import sparse_layers as figures
from icl_lessons.gradient_descent.preconditioning import optimal_step, preconditioned_attention
from icl_lessons.gradient_descent.sparse_layers import SparseLayers, family_optimum
from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5), st.integers(1, 10),
       st.integers(1, 3), st.booleans())  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_summaries_of_the_context_give_what_the_tokens_give(seed, d, layers, n, m, maps):
    generator = seeded(seed)
    model = SparseLayers(
        generator, d=d, layers=layers, maps=maps, init_std=0.5, dtype=torch.float64
    )
    batch = LinearRegression(d=d, m=m, noise_std=0.2, n_query=2).sample(
        3, n, generator=generator, dtype=torch.float64
    )
    b = model.input_maps.detach() if maps else None
    tokens = preconditioned_attention(model.preconditioners.detach(), n, b, m)
    with torch.no_grad():
        got, expected = model(*batch.context), tokens(*batch.context)
    assert_close(got, expected, rtol=0, atol=1e-11 * (1 + expected.abs().max().item()))


def test_the_last_input_map_has_no_gradient():
    model = SparseLayers(seeded(0), d=3, layers=3, maps=True, init_std=0.3)
    batch = LinearRegression(d=3).sample(5, 6, generator=seeded(1))
    model(*batch.context).square().sum().backward()
    norms = model.input_maps.grad.flatten(1).norm(dim=1)
    assert norms[-1] == 0 and (norms[:-1] > 0).all()


def test_the_family_has_the_closed_form_of_one_layer():
    found = family_optimum(4, 15, 1)
    assert found.steps[0] == pytest.approx(optimal_step(15, 4), rel=0.02)
    with_maps = family_optimum(4, 15, 1, maps=True)
    assert with_maps.maps == () and with_maps.loss == pytest.approx(found.loss, rel=1e-6)


@pytest.mark.parametrize("maps", [False, True])
def test_the_stated_loss_of_the_family_is_that_of_its_learner(maps):
    d, n = 3, 24
    best = family_optimum(d, n, 2, maps=maps)
    batch = LinearRegression(d=d).sample(100_000, n, generator=seeded(2), dtype=torch.float64)
    if maps:
        gammas = [best.steps[0] * best.maps[0] / n, 0.0]
        learner = GradientDescentPlusPlus(best.steps, gammas)
    else:
        eye = torch.eye(d, dtype=torch.float64)
        learner = PreconditionedGradientDescent(best.steps, eye.expand(2, d, d))
    assert mean_squared_error(learner, batch) == pytest.approx(best.loss, rel=0.1)
    assert list(best.steps) == sorted(best.steps) or maps


# --- what was trained ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson():
    return sparse_layers(SparseLayersConfig())


def test_the_weights_of_the_lesson_are_stored():
    assert sparse_layers_weights.is_stored(SparseLayersTraining())


def test_layers_become_multiples_of_the_inverse_covariance(lesson):
    assert len(lesson.loss) >= 3
    assert lesson.distance.max() < 0.1
    assert lesson.distance_raw.min() > 0.5
    assert (abs(lesson.sorted_diagonal / lesson.family_steps - 1) < 0.05).all()
    assert (abs(lesson.loss / lesson.family_test_loss - 1) < 0.05).all()
    assert (lesson.loss_maps < 0.1 * lesson.loss).all()
    assert figures.sparse_layers(lesson).axes
    assert "family" in lesson.summary()


def test_every_claim_has_the_verdict_that_the_book_discusses():
    names = [name for name in CLAIMS if CLAIMS[name].check.__module__ == claims.__name__]
    assert len(names) >= 3
    for name in names:
        expected = EXPECTED.get(name, Verdict.HOLDS)
        assert CLAIMS[name].check(Scale.LESSON).verdict == expected, name


EXPECTED = {
    "ahn2023-theorem-4-prompts-of-ten": Verdict.FAILS,
    "ahn2023-theorem-4-direction": Verdict.IN_PART,
}


def test_a_small_run_trains_now():
    small = SparseLayersTraining(
        standard_deviations=(1.0, 0.5),
        layers=2,
        batch_size=64,
        steps=300,
        steps_maps=20,
        seeds=(4,),
    )
    start = dataclasses.replace(small, steps=1, steps_maps=1)
    losses = [
        sparse_layers(SparseLayersConfig(training=training, seeds=(4,), n_test=2000)).loss[0]
        for training in (start, small)
    ]
    assert losses[1] < 0.7 * losses[0] and math.isfinite(losses[1])


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: SparseLayers(seeded(0), d=0, layers=1), "d: got 0"),
        (lambda: SparseLayers(seeded(0), d=1, layers=0), "layers: got 0"),
        (lambda: family_optimum(2, 0, 1), "n_context: got 0"),
        (lambda: SparseLayersConfig(n_test=0), "n_test: got 0"),
        (lambda: SparseLayersConfig(seeds=()), "seeds: got none"),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_the_paper_s_figures_are_in_order():
    assert list(np.sort(figures.PAPER)) == list(figures.PAPER)
