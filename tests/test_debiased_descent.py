"""The pattern of multi-head softmax attention, and the descent it is close to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lessons.implicit_dynamics.debiased_descent import (
    DebiasedDescent,
    SoftmaxHeads,
    approximate_loss,
    best_outputs,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.models.attention import context_mask, softmax_attention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression


def contexts(seed, d=3, n=8, batch=4, **options):
    task = LinearRegression(d=d, n_query=2, **options)
    return task.sample(batch, n, generator=seeded(seed), dtype=torch.float64)


def normal(seed, *shape):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9))
def test_the_pattern_is_an_attention_layer(seed, heads, d, n):
    learner = SoftmaxHeads(normal(seed, heads), normal(seed + 1, heads))
    batch = contexts(seed, d, n)
    seen = softmax_attention(
        joint_tokens(*batch.context),
        *learner.attention_matrices(d, 1),
        context_mask(n, 2),
        scale=1.0,
    )
    assert relative_error(seen[:, n:, d:], learner(*batch.context)) < 1e-12


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**20), st.integers(2, 5), st.floats(-50, 50))
def test_outputs_that_sum_to_zero_do_not_see_a_constant(seed, heads, constant):
    mu = normal(seed, heads)
    mu = mu - mu.mean()
    learner = SoftmaxHeads(normal(seed + 1, heads), mu)
    batch = contexts(seed)
    moved = learner(batch.xs, batch.ys + constant, batch.x_query)
    assert (moved - learner(*batch.context)).abs().max() < 1e-12 * (1 + abs(constant)) * heads * 10
    descent = DebiasedDescent(0.7)
    moved = descent(batch.xs, batch.ys + constant, batch.x_query)
    assert (moved - descent(*batch.context)).abs().max() < 1e-11 * (1 + abs(constant))


def test_small_scores_give_debiased_descent_up_to_their_square():
    batch = contexts(0, d=4, n=20, batch=30)
    target = DebiasedDescent(1.0)(*batch.context)
    gaps = []
    for omega in (0.05, 0.01):
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
        learner = SoftmaxHeads(omega * signs, signs / (2 * omega))
        gaps.append((learner(*batch.context) - target).norm() / target.norm())
    assert gaps[1] < 1e-3 and 20 < gaps[0] / gaps[1] < 30


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 4))
def test_best_outputs_are_where_the_approximate_loss_is_flat(seed, heads):
    omega = 0.5 * normal(seed, heads)
    law = {"d": 5, "n_context": 40, "noise_variance": 0.1}
    try:
        best = best_outputs(omega, **law).requires_grad_(True)
    except ValueError:
        return  # two heads drawn alike
    (gradient,) = torch.autograd.grad(approximate_loss(best, omega, **law), best)
    assert gradient.abs().max() < 1e-8 * best.detach().abs().max().clamp_min(1)


def test_the_published_pair_of_heads():
    omega = torch.tensor([0.33, -0.33], dtype=torch.float64)
    best = best_outputs(omega, 5, 40, 0.1)
    assert abs(best[0].item() - 1.324) < 2e-3 and abs((best[0] + best[1]).item()) < 1e-12


def test_mistakes_are_refused(as_readers_run_it):
    with pytest.raises(ValueError, match="mu: 1 heads, but omega has 2"):
        SoftmaxHeads(torch.ones(2), torch.ones(1))
    with pytest.raises(ValueError, match="omega: two heads have the same"):
        best_outputs(torch.tensor([0.3, 0.3], dtype=torch.float64), 5, 40)
