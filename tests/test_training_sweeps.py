"""Sweeps: every point once, in the order of the grid, by whichever backend is named."""

import functools
import time

import pytest
import torch

from icl_lessons.training import sweep

quiet = functools.partial(sweep, progress=False, n_jobs=2)


def described(letter, number):
    return f"{letter}{number}", torch.get_num_threads()


def late_first(place):
    time.sleep(0.05 * (3 - place))
    return place


@pytest.mark.parametrize("backend", ["loky", "threading", "sequential"])
def test_every_combination_in_order_on_one_thread(backend):
    points = quiet(described, {"letter": "ab", "number": (1, 2, 3)}, backend=backend)
    assert [p.value[0] for p in points] == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert points[4].settings == {"letter": "b", "number": 2}
    assert {p.value[1] for p in points} == {1}


def test_the_order_is_the_grids_whoever_finishes_first():
    grid = [{"place": place} for place in (0, 1, 2, 3)]
    assert [p.value for p in quiet(late_first, grid, backend="threading")] == [0, 1, 2, 3]


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(ValueError, match="^backend: 'carrier-pigeon' cannot be used"):
        quiet(late_first, {"place": [0]}, backend="carrier-pigeon")
    with pytest.raises(ValueError, match="^grid: it has no point"):
        quiet(late_first, {"place": []})


def test_an_error_in_a_point_is_not_swallowed():
    with pytest.raises(TypeError):
        quiet(late_first, {"place": ["x"]}, backend="sequential")
