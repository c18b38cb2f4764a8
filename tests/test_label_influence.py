"""Label influence: against finite changes of a label, and for learners whose metric is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import Ridge
from icl_lessons.measures.label_influence import implied_preconditioner, label_influence
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
)
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression


def batch_of(d=3, m=2, n=8, n_query=3, seed=0, count=12):
    task = LinearRegression(d=d, m=m, noise_std=0.3, n_query=n_query)
    return task.sample(count, n, generator=seeded(seed), dtype=torch.float64)


@given(
    st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3), st.integers(2, 9), st.booleans()
)
@settings(max_examples=12, deadline=None)
def test_a_changed_label_moves_a_linear_learner_by_its_influence(seed, d, m, n, ridge):
    batch = batch_of(d, m, n, seed=seed)
    learner = Ridge(0.7) if ridge else GradientDescent(0.2, 4)
    influence = label_influence(learner, batch)
    example, output = seed % n, seed % m
    ys = batch.ys.clone()
    ys[:, example, output] += 2.5
    moved = learner(batch.xs, ys, batch.x_query) - learner(*batch.context)
    assert_close(moved, 2.5 * influence[..., example, output], rtol=1e-9, atol=1e-10)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_the_metric_of_a_step_is_recovered(seed, d, m):
    batch = batch_of(d, m, seed=seed)
    generator = seeded(seed)
    metric = torch.randn(d, d, generator=generator, dtype=torch.float64)
    start = torch.randn(m, d, generator=generator, dtype=torch.float64)
    layer = ObjectiveLayer(INNER_LOSSES["squared"].value, 0.6, metric)
    read = implied_preconditioner(ObjectiveStack((layer,), start), batch)
    assert_close(read.preconditioner, 0.6 * metric, rtol=1e-8, atol=1e-9)
    assert read.r_squared == pytest.approx(1, abs=1e-10)


def test_more_steps_are_less_like_one_and_a_learner_without_labels_not_at_all():
    batch = batch_of(n=12, count=40)
    once, often = (implied_preconditioner(GradientDescent(0.3, k), batch) for k in (1, 15))
    assert often.r_squared < 0.95 < once.r_squared

    def shortcut(xs, ys, x_query):
        return x_query[..., :2]

    assert label_influence(shortcut, batch).abs().max() == 0
    assert implied_preconditioner(shortcut, batch).r_squared == 0


def test_influence_across_outputs_is_not_explained():
    batch = batch_of()
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    step = GradientDescent(0.5)

    def crossed(xs, ys, x_query):
        return step(xs, ys @ swap, x_query)

    assert implied_preconditioner(crossed, batch).r_squared < 1e-10


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="batch: 4 pairs"):
        implied_preconditioner(GradientDescent(0.1), batch_of(d=3, n=2, n_query=2, count=1))
    with pytest.raises(ValueError, match="learner: predicted shape"):
        label_influence(lambda xs, ys, x_query: x_query[:, :1], batch_of())
