"""Sequences of states: what makes them is checked step by step, in NumPy where it can be."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.runtime import seeded
from icl_lessons.tasks.dynamics import Dynamics, FewShotPrompts, Sequences, random_orthogonal

DOUBLE = {"dtype": torch.float64}


@given(seed=st.integers(0, 2**31), d=st.integers(1, 5), length=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_without_noise_a_linear_sequence_is_powers_of_its_matrix(seed, d, length):
    drawn = Dynamics(d=d, noise_std=0.0).sample(3, length, generator=seeded(seed), **DOUBLE)
    for states, transition in zip(drawn.states.numpy(), drawn.transition.numpy(), strict=True):
        assert np.abs(transition @ transition.T - np.eye(d)).max() < 1e-12
        for t in range(length):
            expected = np.linalg.matrix_power(transition, t) @ states[0]
            assert np.abs(states[t] - expected).max() < 1e-12
    assert drawn.states.shape == (3, length, d)
    assert drawn.readout is None


@given(seed=st.integers(0, 2**31), d=st.integers(1, 3), more=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_seen_in_part_a_window_of_states_still_obeys_a_linear_law(seed, d, more):
    """Stacked windows follow one matrix once they are as long as the hidden state is wide."""
    hidden, k = d + more, math.ceil((d + more) / d)
    task = Dynamics(d=d, hidden=hidden, family="partially_observed", noise_std=0.0)
    drawn = task.sample(1, k + 4, generator=seeded(seed), **DOUBLE)
    transition, readout = drawn.transition[0].numpy(), drawn.readout[0].numpy()
    powers = [readout @ np.linalg.matrix_power(transition, j) for j in range(k)]
    observable = np.concatenate(powers)
    if np.linalg.cond(observable) > 1e4:
        return  # not observable enough to be followed from so few states
    follow = observable @ transition @ np.linalg.pinv(observable)
    windows = [drawn.states[0, t : t + k].reshape(-1).numpy() for t in range(5)]
    for before, after in zip(windows, windows[1:], strict=False):
        assert np.abs(follow @ before - after).max() < 1e-7


def test_the_nonlinear_family_is_not_linear_and_stays_bounded():
    task = Dynamics(d=4, family="nonlinear", noise_std=0.0)
    drawn = task.sample(200, 20, generator=seeded(3), **DOUBLE)
    xs, ys = drawn.states[:, :-1], drawn.states[:, 1:]
    weights = torch.linalg.lstsq(xs, ys).solution
    share = (ys - xs @ weights).square().sum((1, 2)) / ys.square().sum((1, 2))
    assert share.median() > 1e-5
    sizes = drawn.states.norm(dim=-1)
    assert (sizes[:, 1:] <= 1.1**2 * sizes[:, :-1] + 1e-12).all()
    linear = Dynamics(d=4, noise_std=0.0).sample(200, 20, generator=seeded(3), **DOUBLE).states
    weights = torch.linalg.lstsq(linear[:, :-1], linear[:, 1:]).solution
    assert (linear[:, 1:] - linear[:, :-1] @ weights).abs().max() < 1e-9


def test_noise_has_the_size_it_says():
    task = Dynamics(d=4, noise_std=0.3)
    drawn = task.sample(500, 12, generator=seeded(4), **DOUBLE)
    shocks = drawn.states[:, 1:] - drawn.states[:, :-1] @ drawn.transition.mT
    assert shocks.std().item() == pytest.approx(0.3, rel=0.02)
    assert 0.5 * shocks.square().sum(-1).mean() == pytest.approx(task.noise_floor, rel=0.03)
    seen = Dynamics(d=2, hidden=4, family="partially_observed", observation_noise_std=0.5)
    other = Dynamics(d=2, hidden=4, family="partially_observed")
    noisy, clean = (t.sample(500, 8, generator=seeded(5), **DOUBLE) for t in (seen, other))
    assert (noisy.states - clean.states).std().item() == pytest.approx(0.5, rel=0.03)
    assert noisy.readout.var().item() == pytest.approx(0.5, rel=0.05)


def test_orthogonal_matrices_are_uniform():
    """The trace of a uniform orthogonal matrix has mean 0 and variance 1; QR alone gives others."""
    q = random_orthogonal(20_000, 3, generator=seeded(6), **DOUBLE)
    trace = q.diagonal(dim1=1, dim2=2).sum(-1)
    assert abs(trace.mean().item()) < 0.03
    assert trace.var().item() == pytest.approx(1.0, abs=0.04)
    assert (torch.linalg.det(q) > 0).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_prompts_take_turns_and_hold_one_task():
    drawn = FewShotPrompts(d=3).sample(5, 4, generator=seeded(7), **DOUBLE)
    assert drawn.states.shape == (5, 8, 3)
    xs, ys = drawn.states[:, 0::2], drawn.states[:, 1::2]
    assert_close(ys, xs @ drawn.transition.mT, rtol=0, atol=1e-14)
    noisy = FewShotPrompts(d=3, noise_std=0.2).sample(400, 6, generator=seeded(7), **DOUBLE)
    left = noisy.states[:, 1::2] - noisy.states[:, 0::2] @ noisy.transition.mT
    assert left.std().item() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("task", [Dynamics(d=3), FewShotPrompts(d=3)])
def test_a_seed_means_the_same_data_and_to_moves_all_of_it(task):
    first, again = (task.sample(4, 5, generator=seeded(8)) for _ in range(2))
    assert torch.equal(first.states, again.states)
    assert not torch.equal(first.states, task.sample(4, 5, generator=seeded(9)).states)
    fast = task.sample(4, 5, generator=seeded(8), fast=True)
    assert torch.equal(first.states, fast.states)  # a CPU is its own device
    moved = first.to(torch.float64)
    assert isinstance(moved, Sequences) and len(moved) == 4
    assert moved.states.dtype == moved.transition.dtype == torch.float64 and moved.readout is None


@pytest.mark.needs_gpu
@pytest.mark.parametrize("task", [Dynamics(d=3), FewShotPrompts(d=3)])
def test_a_gpu_gets_the_same_numbers(task):
    there = task.sample(4, 5, generator=seeded(8), device="cuda")
    assert there.states.is_cuda
    assert torch.equal(there.states.cpu(), task.sample(4, 5, generator=seeded(8)).states)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"d": 0}, "d: got 0"),
        ({"d": 2, "family": "chaotic"}, "family: got 'chaotic'"),
        ({"d": 2, "noise_std": -1.0}, "noise_std: got -1.0"),
        ({"d": 2, "spread": 0.0}, "spread: got 0.0"),
        ({"d": 2, "hidden": 3}, "hidden: got 3; in the family 'linear' the whole state"),
        ({"d": 2, "family": "partially_observed"}, "hidden: got None; a state that is seen in"),
        ({"d": 2, "observation_noise_std": 0.1}, "observation_noise_std: for the family"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(as_readers_run_it, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Dynamics(**options)


def test_there_is_no_single_floor_where_readouts_differ():
    with pytest.raises(ValueError, match="family: no single floor"):
        _ = Dynamics(d=2, hidden=4, family="partially_observed").noise_floor


@pytest.mark.parametrize("task", [Dynamics(d=2), FewShotPrompts(d=2)])
@pytest.mark.parametrize("name", ["batch_size", "n_context"])
def test_a_size_below_one_is_named(task, name):
    sizes = {"batch_size": 2, "n_context": 3} | {name: 0}
    with pytest.raises(ValueError, match=f"{name}: got 0"):
        task.sample(**sizes, generator=seeded(0))
