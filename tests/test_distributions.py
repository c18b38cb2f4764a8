"""Measures of Shen et al.: hand-made cases, bounds and invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.measures.distributions import (
    VARIANTS,
    accuracy_over_vocabulary,
    divergence,
    order_sensitivity,
    overlap_cosine_similarity,
    token_overlap,
    top_tokens,
)
from icl_lessons.measures.weights import (
    effective_rank,
    parameter_change,
    sparsity_of_construction,
    sparsity_ratio,
)
from icl_lessons.runtime import seeded

P = torch.tensor([0.5, 0.3, 0.1, 0.06, 0.04], dtype=torch.float64)
NEAR = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.05], dtype=torch.float64)
FAR = torch.tensor([0.05, 0.1, 0.2, 0.35, 0.3], dtype=torch.float64)


def distributions(seed, *shape):
    return torch.rand(*shape, generator=seeded(seed), dtype=torch.float64).softmax(-1)


@pytest.mark.parametrize(
    "q, overlap, values",
    [
        # worked by hand: the shared tokens are {0, 1} and {2}
        (NEAR, 2 / 3, {"paper": 0.6727, "sqrt": 0.6727, "plain": 0.6727, "full": 0.5714}),
        (FAR, 1 / 3, {"paper": 0.5, "sqrt": 0.7071, "plain": 1.0, "full": 0.0673}),
    ],
)
def test_hand_cases(q, overlap, values):
    assert token_overlap(P, q, 3).item() == pytest.approx(overlap)
    for variant, value in values.items():
        assert overlap_cosine_similarity(P, q, 3, variant).item() == pytest.approx(value, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 999))
def test_bounds_symmetry_and_identity(k, seed):
    p, q = distributions(seed, 4, 12), distributions(seed + 1, 4, 12)
    overlap = token_overlap(p, q, k)
    assert_close(overlap * k, (overlap * k).round())
    assert_close(token_overlap(q, p, k), overlap)
    assert_close(token_overlap(p, p, k), torch.ones(4, dtype=torch.float64))
    for variant in VARIANTS:
        value = overlap_cosine_similarity(p, q, k, variant)
        assert ((value >= 0) & (value <= 1 + 1e-12)).all()
        assert_close(overlap_cosine_similarity(q, p, k, variant), value)
        same = overlap_cosine_similarity(p, p, k, variant)
        assert_close(same, torch.ones(4, dtype=torch.float64))


def test_one_missing_token_is_free_and_two_halve_the_paper_score():
    k, p = 4, torch.tensor([0.3, 0.25, 0.2, 0.15, 0.05, 0.03, 0.02], dtype=torch.float64)
    swapped = p[[0, 1, 2, 4, 3, 5, 6]], p[[0, 1, 4, 5, 2, 3, 6]]
    one, two = (overlap_cosine_similarity(p, q, k).item() for q in swapped)
    plain = overlap_cosine_similarity(p, swapped[1], k, "plain").item()
    assert one == pytest.approx(1) and two == pytest.approx(plain / 2)


def test_nothing_shared_is_zero_and_not_undefined():
    p = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    for variant in VARIANTS:
        assert overlap_cosine_similarity(p, p.flip(0), 2, variant) == 0


def test_equal_probabilities_are_ranked_by_token():
    flat = torch.full((5,), 0.2)
    assert top_tokens(flat, 2).tolist() == [True, True, False, False, False]
    assert token_overlap(flat, flat.clone(), 3) == 1


def test_a_label_must_beat_every_token():
    p = torch.tensor([[0.4, 0.35, 0.25], [0.1, 0.6, 0.3]])
    assert accuracy_over_vocabulary(p, torch.tensor([1, 1])) == 0.5


def test_order_sensitivity_by_hand():
    two = torch.tensor([[0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)
    assert order_sensitivity(two).item() == pytest.approx(0.2 * math.sqrt(2))
    apart = torch.eye(2, dtype=torch.float64)
    assert order_sensitivity(apart).item() == pytest.approx(math.sqrt(2))
    assert order_sensitivity(two[:1].expand(3, -1)).item() == pytest.approx(0, abs=1e-15)
    many = distributions(3, 5, 2, 7)
    shuffled = many[[4, 2, 0, 1, 3]][..., [6, 5, 4, 3, 2, 1, 0]]
    assert_close(order_sensitivity(many), order_sensitivity(shuffled))


def test_divergence_has_a_floor_and_a_direction():
    p, q = distributions(1, 3, 6), distributions(2, 3, 6)
    assert_close(divergence(p, q, 1e-12), (p * (p / q).log()).sum(-1), atol=1e-9, rtol=0)
    sharp = torch.tensor([1.0, 0.0], dtype=torch.float64)
    flat = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert divergence(sharp, flat) == pytest.approx(math.log(2), abs=1e-6)
    assert 2 < divergence(flat, sharp) < math.inf


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_x, n_y", [(63, 1), (10, 10), (3, 2)])
@pytest.mark.parametrize("zero_start", [False, True])
def test_the_construction_is_as_sparse_as_its_closed_form(n_x, n_y, zero_start):
    d = n_x + n_y
    key, value = torch.zeros(d, d), torch.zeros(d, d)
    key[:n_x, :n_x] = torch.eye(n_x)
    value[n_x:, n_x:] = -torch.eye(n_y)
    if not zero_start:
        value[n_x:, :n_x] = 0.5
    expected = sparsity_of_construction(n_x, n_y, zero_start=zero_start)
    assert sparsity_ratio(key, 1e-3) == pytest.approx(expected["key"]) == expected["query"]
    assert sparsity_ratio(value, 1e-3) == pytest.approx(expected["value"])


def test_a_change_of_basis_destroys_zeros_and_keeps_the_scores_and_the_rank():
    w_query, w_key = torch.zeros(2, 8, 8, dtype=torch.float64)
    w_query[:3, :3] = w_key[:3, :3] = torch.eye(3, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=seeded(0), dtype=torch.float64))
    x = torch.randn(5, 8, generator=seeded(1), dtype=torch.float64)

    def scores(q, k):
        return (x @ q.T) @ (x @ k.T).T

    assert_close(scores(turn @ w_query, turn @ w_key), scores(w_query, w_key))
    assert_close(scores(2 * w_query, w_key / 2), scores(w_query, w_key))
    assert sparsity_ratio(w_query, 1e-3) > 0.9 > 0.7 > sparsity_ratio(turn @ w_query, 1e-3)
    assert effective_rank(turn @ w_query) == pytest.approx(effective_rank(w_query)) == 3


def test_effective_rank_counts_equal_singular_values():
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.outer(torch.arange(1.0, 4), torch.ones(2))) == pytest.approx(1)


def test_change_of_parameters_by_hand():
    first, second = [torch.tensor([[3.0, 0.0]])], [torch.tensor([[0.0, 4.0]])]
    assert parameter_change(first, second) == pytest.approx((3.5, 1.25, 0.0))
    assert parameter_change(second, second) == pytest.approx((0, 0, 1))


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: token_overlap(P, NEAR, 6), "k: got 6; there are 5 tokens"),
        (lambda: overlap_cosine_similarity(P, NEAR[:4]), "q: got shape"),
        (lambda: order_sensitivity(P[None]), "give two or more"),
        (lambda: divergence(P, NEAR, 0), "floor"),
        (lambda: effective_rank(torch.zeros(2, 2)), "all are 0"),
        (lambda: parameter_change([P], [P[:2]]), "the same matrices"),
        (lambda: sparsity_ratio(P, 0), "threshold"),
    ],
)
def test_what_cannot_be_is_refused(as_readers_run_it, make, said):
    with pytest.raises(ValueError, match=said):
        make()
