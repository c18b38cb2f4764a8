"""Nearest neighbours against a loop that shares no code with it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.neighbours import NearestNeighbours


def mean_of_nearest(xs, ys, query, k):
    """One context, one query, plain Python: sort the examples by distance and average."""
    order = sorted(range(len(xs)), key=lambda i: math.dist(xs[i], query))
    chosen = [ys[i] for i in order[:k]]
    return [sum(column) / len(chosen) for column in zip(*chosen, strict=True)]


def context(seed, batch, n, d, m, n_query):
    gen = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    return draw(batch, n, d), draw(batch, n, m), draw(batch, n_query, d)


@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(1, 3),
    n=st.integers(1, 9),
    d=st.integers(1, 4),
    m=st.integers(1, 3),
    n_query=st.integers(1, 4),
    k=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_equals_a_plain_loop(seed, batch, n, d, m, n_query, k):
    xs, ys, x_query = context(seed, batch, n, d, m, n_query)
    predicted = NearestNeighbours(k)(xs, ys, x_query)
    expected = [
        [
            mean_of_nearest(xs[b].tolist(), ys[b].tolist(), x_query[b, q].tolist(), k)
            for q in range(n_query)
        ]
        for b in range(batch)
    ]
    assert predicted.shape == (batch, n_query, m)
    assert_close(predicted, torch.tensor(expected, dtype=torch.float64))


def test_one_neighbour_at_an_example_returns_its_label():
    xs, ys, _ = context(0, batch=2, n=7, d=3, m=2, n_query=1)
    assert_close(NearestNeighbours(1)(xs, ys, xs), ys, rtol=0, atol=0)


def test_with_fewer_examples_than_k_it_is_the_mean_of_all():
    xs, ys, x_query = context(1, batch=2, n=2, d=3, m=1, n_query=5)
    expected = ys.mean(dim=1, keepdim=True).expand(-1, 5, -1)
    assert_close(NearestNeighbours(3)(xs, ys, x_query), expected)


def test_order_of_distinct_examples_does_not_matter():
    xs, ys, x_query = context(2, batch=3, n=8, d=2, m=1, n_query=4)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    learner = NearestNeighbours(3)
    assert_close(learner(xs[:, order], ys[:, order], x_query), learner(xs, ys, x_query))


def test_a_tie_goes_to_the_earlier_example():
    xs = torch.tensor([[[1.0], [-1.0], [1.0]]])
    ys = torch.tensor([[[10.0], [20.0], [30.0]]])
    query = torch.zeros(1, 1, 1)
    assert NearestNeighbours(1)(xs, ys, query).item() == 10.0
    assert NearestNeighbours(2)(xs, ys, query).item() == 15.0


def test_distances_survive_a_large_offset():
    """Two neighbours a thousandth apart, far from the origin, in single precision."""
    xs = torch.tensor([[[1000.0, 1000.0], [1000.001, 1000.0]]])
    ys = torch.tensor([[[0.0], [1.0]]])
    query = torch.tensor([[[1000.001, 1000.0]]])
    assert NearestNeighbours(1)(xs, ys, query).item() == 1.0


@pytest.mark.parametrize("k", [0, -2, 2.0, True, None])
def test_a_bad_k_is_refused(k, as_readers_run_it):
    with pytest.raises(ValueError, match="k: got .* use an integer of 1 or more"):
        NearestNeighbours(k)


def test_an_empty_context_and_mismatched_shapes_are_refused(as_readers_run_it):
    xs, ys, x_query = context(4, batch=2, n=5, d=3, m=1, n_query=2)
    with pytest.raises(ValueError):
        NearestNeighbours(3)(xs[:, :0], ys[:, :0], x_query)
    with pytest.raises(ValueError):
        NearestNeighbours(3)(xs, ys[:, :4], x_query)
    with pytest.raises(ValueError):
        NearestNeighbours(3)(xs, ys, x_query[..., :2])
