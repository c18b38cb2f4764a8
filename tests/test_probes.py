"""Probes read what is there, do not read what is not, and are measured on held-out rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.measures.probes import (
    normalized_error,
    probe_error,
    probe_errors,
    ridge_readout,
)
from icl_lessons.runtime import seeded


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@given(
    seed=st.integers(0, 2**31), n=st.integers(3, 20), width=st.integers(1, 5), m=st.integers(1, 3)
)
@settings(max_examples=15, deadline=None)
def test_the_readout_minimises_what_it_says(seed, n, width, m):
    rng = np.random.default_rng(seed)
    features, targets = rng.standard_normal((n, width)) + 3, rng.standard_normal((n, m))
    penalty = 0.3
    weights, intercept = ridge_readout(
        torch.from_numpy(features), torch.from_numpy(targets), penalty
    )
    # Ridge as ordinary least squares: rows for the penalty, a column of ones for the intercept.
    scale = penalty * features.var(0).mean()
    rows = np.concatenate([features, (n * scale) ** 0.5 * np.eye(width)])
    rows = np.concatenate([rows, np.r_[np.ones(n), np.zeros(width)][:, None]], 1)
    expected = np.linalg.lstsq(rows, np.r_[targets, np.zeros((width, m))], rcond=None)[0]
    assert np.abs(weights.numpy() - expected[:-1].T).max() < 1e-9
    assert np.abs(intercept.numpy() - expected[-1]).max() < 1e-8


def test_what_is_there_is_read_and_what_is_not_is_not():
    features, other = normal(400, 5), normal(400, 2, seed=1)
    shown = features @ normal(5, 2, seed=2) + 7
    assert probe_error(features, shown, 300) < 1e-6
    assert probe_error(features, shown, 300, penalty=0) < 1e-20
    assert 0.95 < probe_error(features, other, 300) < 1.15
    assert probe_error(features, shown + other, 300) == pytest.approx(
        (other.var() / (shown + other).var(0).mean()).item(), rel=0.2
    )


def test_more_features_than_rows_fit_the_rows_and_nothing_else():
    features, targets = normal(60, 50), normal(60, 1, seed=3)
    weights, intercept = ridge_readout(features[:40], targets[:40], 0)
    assert normalized_error(features[:40] @ weights.mT + intercept, targets[:40]) < 1e-10
    assert probe_error(features, targets, 40, 0) > 0.5


def test_each_layer_and_position_has_a_probe_of_its_own():
    targets = normal(200, 4, 2)
    hidden = [normal(200, 4, 3, seed=1), torch.cat([targets, normal(200, 4, 1, seed=1)], -1)]
    hidden[0][:, 2, :2] = targets[:, 2]
    table = probe_errors(hidden, targets, 150, positions=(0, 2))
    assert table.shape == (2, 2)
    assert table[0, 0] > 0.9 and table[0, 1] < 1e-6 and table[1].max() < 1e-6


def test_arguments_that_cannot_be_used_are_named(as_readers_run_it):
    features, targets = normal(9, 2), normal(9, 1)
    with pytest.raises(ValueError, match="n_train: got 8 of 9 rows"):
        probe_error(features, targets, 8)
    with pytest.raises(ValueError, match="n_train: got 1"):
        probe_error(features, targets, 1)
    with pytest.raises(ValueError, match="targets: 8 rows for 9"):
        ridge_readout(features, targets[:8])
    with pytest.raises(ValueError, match="targets: all rows are the same"):
        normalized_error(targets, 0 * targets)
    with pytest.raises(ValueError, match="penalty: got -1"):
        ridge_readout(features, targets, -1)
    with pytest.raises(ValueError, match="predicted: got shape"):
        normalized_error(targets, features)
    stream, target = normal(9, 4, 2), normal(9, 4, 1)
    with pytest.raises(ValueError, match="positions: got 4; the sequences have 0 to 3"):
        probe_errors([stream], target, 5, positions=[4])
    with pytest.raises(ValueError, match="streams: one of shape"):
        probe_errors([stream[1:]], target, 5, positions=[0])
    with pytest.raises(TypeError, match="features: got ndarray"):
        ridge_readout(features.numpy(), targets)
