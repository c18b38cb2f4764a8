"""Learned inner losses: the model, its tasks, and what is read from the stored weights."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.mesa_optimization.experiments.learned_inner_loss import (
    VERDICTS,
    LearnedInnerLossConfig,
    learned_inner_loss,
)
from icl_lessons.mesa_optimization.experiments.learned_inner_loss_models import (
    LearnedInnerLossTraining,
    learned_inner_loss_weights,
)
from icl_lessons.mesa_optimization.figures.learned_inner_loss import learned_inner_loss as draw
from icl_lessons.mesa_optimization.inner_losses import huber_units
from icl_lessons.mesa_optimization.learned_inner_loss import (
    LearnedObjective,
    NoisyLabels,
    clip_fit,
    likelihood_score,
)
from icl_lessons.runtime import seeded
from icl_lessons.training import query_loss


def test_the_tasks_have_the_noise_they_say():
    task = NoisyLabels(d=4, outlier_share=0.25, outlier_std=4.0)
    batch = task.sample(4000, 10, generator=seeded(0))
    noise = batch.ys - batch.xs @ batch.weights.mT
    assert noise.square().mean().item() == pytest.approx(0.3**2 + 0.25 * 16, rel=0.05)
    assert_close(batch.y_query, batch.x_query @ batch.weights.mT)
    assert batch.y_query.square().mean().item() == pytest.approx(1, rel=0.05)
    with pytest.raises(ValueError, match="outlier_share"):
        NoisyLabels(d=2, outlier_share=1.5)


def test_a_network_with_hubers_units_descends_hubers_loss():
    batch = NoisyLabels(d=3).sample(5, 8, generator=seeded(1)).to(torch.float64)
    model = LearnedObjective(1, 2, 2, seeded(0)).double()
    model.network.load_state_dict(huber_units(1, 0.4).state_dict())
    weights = torch.zeros(5, 1, 3, dtype=torch.float64)
    for _ in range(2):
        residual = (batch.ys - batch.xs @ weights.mT).clamp(-0.4, 0.4)
        weights = weights + residual.mT @ batch.xs / 8
    assert_close(model(*batch.context), batch.x_query @ weights.mT)


def test_the_value_map_can_be_trained():
    batch = NoisyLabels(d=3).sample(20, 8, generator=seeded(2))
    model = LearnedObjective(1, 3, 8, seeded(0))
    query_loss(model, batch).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_score_is_the_slope_of_the_log_density():
    task = NoisyLabels(d=2, outlier_share=0.2)
    r = torch.linspace(-12, 12, 41, dtype=torch.float64).requires_grad_()
    near, far = task.noise_std, (task.noise_std**2 + task.outlier_std**2) ** 0.5
    density = sum(
        share
        * torch.distributions.Normal(torch.zeros((), dtype=torch.float64), std).log_prob(r).exp()
        for share, std in ((0.8, near), (0.2, far))
    )
    (slope,) = torch.autograd.grad(-density.log().sum(), r)
    assert_close(likelihood_score(r.detach(), task), slope)
    assert_close(likelihood_score(r.detach(), NoisyLabels(d=2)), r.detach() / 0.09)


def test_a_clip_is_told_from_a_line():
    r = torch.linspace(-5, 5, 201)
    slope, delta, clip, line = clip_fit(r, 2 * r.clamp(-1, 1))
    assert clip > 0.999 and line < 0.9
    assert (slope, delta) == (pytest.approx(2, rel=0.05), pytest.approx(1, abs=0.06))
    assert clip_fit(r, -3 * r)[3] == pytest.approx(1)


def test_what_is_read_from_the_stored_weights():
    assert learned_inner_loss_weights.is_stored(LearnedInnerLossTraining())
    result = learned_inner_loss(LearnedInnerLossConfig(contexts=24, n_test=400))
    squared, huber, no = (VERDICTS.index(name) for name in ("squared", "huber", "no"))
    assert (result.readings["linear_attention"].verdict == squared).all()
    assert (result.readings["untrained_softmax"].verdict == no).all()
    assert (result.readings["outliers"].verdict[:, 0] == huber).all()
    gaussian, outliers = result.maps["gaussian"], result.maps["outliers"]
    assert gaussian.linear.min() > 0.9 > 0.5 > outliers.linear.max()
    assert (outliers.loss < outliers.huber_loss).all()
    assert outliers.huber_loss < outliers.squared_loss
    # The recovered loss is a loss: smallest at the target, larger on either side.
    middle = len(result.residual_grid) // 2
    assert (np.abs(outliers.recovered[:, middle]) < 1e-6).all()
    assert (outliers.recovered[:, [0, -1]] > 1).all()
    assert "outliers" in result.summary()
    figure = draw(result)
    assert len(figure.axes) == 4
    plt.close(figure)
