"""The block that learns regression, and the weights that stand for what it reads."""

import numpy as np
import pytest
import torch

from icl_lessons.declare import EXPERIMENTS
from icl_lessons.implicit_dynamics.block_regressor import BlockRegressor, without_context
from icl_lessons.implicit_dynamics.contextual_blocks import AttentionBlockConfig
from icl_lessons.implicit_dynamics.experiments.token_by_token import TokenByTokenConfig
from icl_lessons.implicit_dynamics.fine_tuning import stochastic_steps
from icl_lessons.implicit_dynamics.token_path import token_path
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Learner

SHAPE = AttentionBlockConfig(width=12, hidden=20, heads=3, reads="attention", skip=False)


def model_and_batch(n=6, n_query=1):
    model = BlockRegressor(2, SHAPE, generator=seeded(0), dtype=torch.float64)
    task = LinearRegression(d=2, n_query=n_query)
    return model.requires_grad_(False), task.sample(5, n, generator=seeded(1), dtype=torch.float64)


def test_it_is_a_learner_and_each_query_is_alone():
    model, batch = model_and_batch(n_query=3)
    assert isinstance(model, Learner)
    whole = model(*batch.context)
    each = [model(batch.xs, batch.ys, batch.x_query[:, j : j + 1]) for j in range(3)]
    assert relative_error(whole, torch.cat(each, 1)) < 1e-12


def test_updated_weights_without_context_predict_what_the_context_does():
    model, batch = model_and_batch()
    path = token_path(model.block, *model.tokens(*batch.context))
    for i, weights in enumerate(path.weights.unbind(1)):
        expected = model(batch.xs[:, :i], batch.ys[:, :i], batch.x_query)
        assert relative_error(without_context(model, batch.x_query, weights), expected) < 1e-12


def test_fine_tuning_is_gradient_descent_on_the_examples_in_order():
    model, batch = model_and_batch(n=3)
    path = list(stochastic_steps(model, batch.xs, batch.ys, 0.05))
    assert len(path) == 4 and torch.equal(path[0], model.block.dense_weight.expand(5, -1, -1))
    weights = model.block.dense_weight.clone()
    for i in range(3):  # the first context by hand
        weights.requires_grad_(True)
        seen = without_context(model, batch.xs[:1, i : i + 1], weights[None])
        loss = 0.5 * (seen - batch.ys[:1, i : i + 1]).square().sum()
        weights = (weights - 0.05 * torch.autograd.grad(loss, weights)[0]).detach()
    assert relative_error(path[3][0], weights) < 1e-10
    *_, still = stochastic_steps(model, batch.xs, batch.ys, 0.0)
    assert torch.equal(still, path[0])


def test_the_experiment_measures_what_its_fields_say():
    config = TokenByTokenConfig(
        n_context=12, steps=2, width=8, heads=2, hidden=16, n_tasks=6, n_fine_tuned=4, seeds=(3,)
    )
    declared = EXPERIMENTS["token_by_token"]
    result = declared.run(config)
    assert result.loss.shape == (1, 13) and result.increments.shape == (1, 12)
    assert result.residual.max() < 1e-10 and result.order_end.max() < 1e-10
    assert (result.order_middle > 1e-3).all() and (result.swapped > 0).all()
    line = np.array([[1.0 / (i + 1) for i in range(12)]])
    assert result.slope(line) == pytest.approx([-1.0])
    assert "slope of increments, untrained" in result.summary()
    assert len(declared.figure(result).axes) == 2


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="heads: 3 do not divide width 32"):
        TokenByTokenConfig(heads=3)
