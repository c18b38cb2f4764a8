"""The sine curves: their law, their closed forms, and what is refused."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.runtime import seeded
from icl_lessons.tasks.sinusoids import Sinusoids

TASK = Sinusoids()


def solve_for_sine(batch):
    """``(a cos rho, a sin rho)`` of each curve from two of its points, and the rest to check."""
    x = batch.xs[..., 0].numpy()
    design = np.stack([np.sin(x), np.cos(x)], -1)
    pairs = zip(design, batch.ys.numpy(), strict=True)
    return np.stack([np.linalg.lstsq(m, y, rcond=None)[0] for m, y in pairs])[..., 0]


def test_every_context_is_one_sine_curve_with_amplitude_and_phase_in_range():
    batch = TASK.sample(400, 6, generator=seeded(0), dtype=torch.float64)
    weights = solve_for_sine(batch)
    for x, y in ((batch.xs, batch.ys), (batch.x_query, batch.y_query)):
        x, y = x[..., 0].numpy(), y[..., 0].numpy()
        assert np.abs(weights[:, :1] * np.sin(x) + weights[:, 1:] * np.cos(x) - y).max() < 1e-9
    amplitude, phase = np.hypot(*weights.T), np.arctan2(weights[:, 1], weights[:, 0])
    assert 0.1 <= amplitude.min() < 0.15 and 0.45 < amplitude.max() <= 0.5
    assert 0 <= phase.min() < 0.1 and math.pi - 0.1 < phase.max() <= math.pi
    assert -5 <= batch.xs.min() < -4.9 and 4.9 < batch.xs.max() <= 5
    assert batch.weights is None


@pytest.mark.parametrize("amplitudes", [(0.1, 0.5), (0.1, 5.0), (1.0, 1.0)])
def test_the_loss_of_predicting_zero_is_its_closed_form(amplitudes):
    task = Sinusoids(amplitudes=amplitudes, noise_std=0.1)
    batch = task.sample(100_000, 1, generator=seeded(1))
    assert 0.5 * batch.y_query.square().mean().item() == pytest.approx(task.zero_loss, rel=0.02)


def test_shapes_dtypes_and_seeds():
    task = Sinusoids(n_query=3)
    batch = task.sample(4, 5, generator=seeded(2), dtype=torch.float64)
    assert batch.xs.shape == batch.ys.shape == (4, 5, 1)
    assert batch.x_query.shape == batch.y_query.shape == (4, 3, 1)
    assert batch.xs.dtype == torch.float64
    again = task.sample(4, 5, generator=seeded(2), dtype=torch.float64)
    assert_close(batch.y_query, again.y_query, rtol=0, atol=0)
    other = task.sample(4, 5, generator=seeded(3), dtype=torch.float64)
    assert not torch.equal(batch.y_query, other.y_query)


@pytest.mark.parametrize(
    "change",
    [
        {"amplitudes": (0.5, 0.1)},
        {"amplitudes": (-0.1, 0.5)},
        {"amplitudes": 0.5},
        {"amplitudes": (0.1, math.inf)},
        {"half_range": 0.0},
        {"noise_std": -1.0},
        {"n_query": 0},
    ],
)
def test_a_wrong_law_is_named(as_readers_run_it, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Sinusoids(**change)


def test_wrong_sizes_and_generators_are_named():
    with pytest.raises(ValueError, match="batch_size"):
        TASK.sample(0, 3, generator=seeded(0))
    with pytest.raises(ValueError, match="n_context"):
        TASK.sample(3, 0, generator=seeded(0))
    with pytest.raises(ValueError, match="generator: on cpu, but fast=True draws on meta"):
        TASK.sample(3, 3, generator=seeded(0), device="meta", fast=True)
