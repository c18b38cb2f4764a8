"""Poisoned contexts: closed forms against learners that are run, and worst cases against search.

Expected values come from running the learner on the changed context, or from trying everything.
"""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import OrdinaryLeastSquares, Ridge, ridge_weights
from icl_lessons.mesa_optimization.gradient_attack import gradient_attack
from icl_lessons.mesa_optimization.poisoned_contexts import (
    descent_filter,
    descent_influence,
    hijack,
    leave_one_out,
    leverage,
    parity_flip,
    ridge_influence,
    scaled_ridge_prediction,
    scaling_attack,
    with_example,
    worst_added_to_descent,
    worst_added_to_ridge,
    worst_label_change,
    worst_replaced_in_descent,
)
from icl_lessons.runtime import seeded

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**31))


def draw(d, n, seed, m=1, n_query=1, batch=3):
    generator = seeded(seed)
    return [
        torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
        for shape in ((n, d), (n, m), (n_query, d))
    ]


def close(got, expected):
    assert_close(got, expected, atol=1e-10, rtol=1e-10)


@given(SIZES, st.integers(1, 40), st.floats(0, 1.5))
@settings(max_examples=10, deadline=None)
def test_influences_are_what_the_learner_does_with_a_label(sizes, steps, step_size):
    xs, ys, x_query = draw(*sizes, m=2, n_query=3)
    step_size = step_size / xs.square().sum((1, 2)).max().item() * xs.shape[1]  # converges
    for learner, influence in (
        (GradientDescent(step_size, steps), descent_influence(xs, x_query, step_size, steps)),
        (Ridge(0.3), ridge_influence(xs, x_query, 0.3)),
        (OrdinaryLeastSquares(), ridge_influence(xs, x_query, 0)),
    ):
        close(influence @ ys, learner(xs, ys, x_query))
        changed = ys.clone()
        changed[:, -1, 1] += 0.7
        moved = learner(xs, changed, x_query) - learner(xs, ys, x_query)
        close(moved[..., 1], 0.7 * influence[..., -1])
        close(moved[..., 0], torch.zeros_like(moved[..., 0]))


def test_a_direction_without_curvature_moves_as_fast_as_there_are_steps():
    curvature = torch.tensor([0.0, 1e-14, 1e-3, 1.0, 2.5], dtype=torch.float64)
    got = descent_filter(curvature, 0.8, 7)
    series = sum(0.8 * (1 - 0.8 * curvature) ** k for k in range(7))  # the geometric sum
    assert_close(got, series, atol=0, rtol=1e-12)
    assert got[0] == 0.8 * 7


@given(SIZES, st.floats(0.01, 3))
@settings(max_examples=10, deadline=None)
def test_leave_one_out_is_ridge_without_the_example(sizes, penalty):
    d, n, seed = sizes
    xs, ys, _ = draw(d, n + 1, seed, m=2)
    found = leave_one_out(xs, ys, penalty)
    for i in range(n + 1):
        others = [j for j in range(n + 1) if j != i]
        close(found[:, i], ridge_weights(xs[:, others], ys[:, others], penalty))
    h = leverage(xs, penalty)
    assert ((h >= 0) & (h < 1)).all()


@given(SIZES, st.floats(0.1, 5), st.sampled_from(["l2", "linf", "one"]))
@settings(max_examples=10, deadline=None)
def test_no_label_change_within_the_budget_moves_further(sizes, budget, norm):
    xs, ys, x_query = draw(*sizes, n_query=2)
    influence = ridge_influence(xs, x_query, 0.5)
    change, shift = worst_label_change(influence, budget, norm)
    assert (shift >= 0).all()
    for q in range(2):
        poisoned = Ridge(0.5)(xs, ys + change[:, q, :, None], x_query)[:, q, 0]
        close(poisoned - Ridge(0.5)(xs, ys, x_query)[:, q, 0], shift[:, q])
    size = {
        "l2": lambda c: c.norm(dim=-1),
        "linf": lambda c: c.abs().amax(-1),
        "one": lambda c: c.abs().sum(-1),
    }[norm]
    assert (size(change) <= budget * (1 + 1e-12)).all()
    others = torch.randn(200, *influence.shape, generator=seeded(1), dtype=torch.float64)
    if norm == "one":
        at = others.abs().argmax(-1, keepdim=True)
        others = torch.zeros_like(others).scatter(-1, at, 1.0) * others.sign()
    others = budget * others / size(others)[..., None]
    assert ((influence * others).sum(-1).abs() <= shift + 1e-10).all()


@given(SIZES, st.floats(0.2, 4), st.floats(0.2, 4), st.floats(0.1, 2))
@settings(max_examples=10, deadline=None)
def test_the_worst_pair_for_one_step(sizes, input_budget, label_budget, step_size):
    xs, ys, x_query = draw(*sizes)
    learner, options = GradientDescent(step_size), (step_size,)
    clean = learner(xs, ys, x_query)[:, 0, 0]
    budgets = {"input_budget": input_budget, "label_budget": label_budget}
    added = worst_added_to_descent(xs, ys, x_query, *options, **budgets)
    replaced, index = worst_replaced_in_descent(xs, ys, x_query, *options, **budgets)
    close(added.x.norm(dim=-1), torch.full_like(clean, input_budget))
    context = with_example(xs, ys, added.x, added.y[:, None])
    close(learner(*context, x_query)[:, 0, 0] - clean, added.shift)
    for b in range(len(xs)):
        one = [t[b : b + 1] for t in (xs, ys, replaced.x, replaced.y[:, None])]
        context = with_example(*one, replace=int(index[b]))
        moved = learner(*context, x_query[b : b + 1])[0, 0, 0] - clean[b]
        close(moved, replaced.shift[b])
    x = torch.randn(3, xs.shape[2], generator=seeded(3), dtype=torch.float64)
    x = input_budget * x / x.norm(dim=-1, keepdim=True)
    for label, i in itertools.product((-label_budget, label_budget), range(xs.shape[1])):
        y = torch.full((3, 1), label, dtype=torch.float64)
        by_adding = learner(*with_example(xs, ys, x, y), x_query)[:, 0, 0] - clean
        by_replacing = learner(*with_example(xs, ys, x, y, i), x_query)[:, 0, 0] - clean
        assert (by_adding.abs() <= added.shift.abs() + 1e-10).all()
        assert (by_replacing.abs() <= replaced.shift.abs() + 1e-10).all()


@given(SIZES, st.floats(0.2, 20), st.floats(0.05, 3))
@settings(max_examples=10, deadline=None)
def test_ridge_has_a_worst_pair_whatever_the_size_of_inputs(sizes, label_budget, penalty):
    xs, ys, x_query = draw(*sizes)
    learner = Ridge(penalty)
    clean = learner(xs, ys, x_query)[:, 0, 0]
    worst = worst_added_to_ridge(xs, ys, x_query, penalty, label_budget=label_budget)
    context = with_example(xs, ys, worst.x, worst.y[:, None])
    close(learner(*context, x_query)[:, 0, 0] - clean, worst.shift)
    generator = seeded(4)
    for _ in range(30):
        size = 10 ** (4 * torch.rand(3, 1, generator=generator, dtype=torch.float64) - 2)
        x = worst.x + size * torch.randn(worst.x.shape, generator=generator, dtype=torch.float64)
        for label in (-label_budget, label_budget):
            y = torch.full((3, 1), label, dtype=torch.float64)
            moved = learner(*with_example(xs, ys, x, y), x_query)[:, 0, 0] - clean
            assert (moved.abs() <= worst.shift.abs() * (1 + 1e-9)).all()


@given(SIZES, st.floats(-30, 30), st.booleans())
@settings(max_examples=10, deadline=None)
def test_a_hijack_reaches_its_target(sizes, wanted, replacing):
    xs, ys, x_query = draw(*sizes)
    target = torch.full((3,), wanted, dtype=torch.float64)
    for learner in (GradientDescent(0.4), GradientDescent(0.1, 5), Ridge(0.5)):
        context = hijack(learner, xs, ys, x_query, target, replace=0 if replacing else None)
        close(learner(*context, x_query)[:, 0, 0], target)
        assert context[0].shape[1] == xs.shape[1] + (not replacing)


def test_the_hijacking_label_of_one_step_counts_the_added_example():
    xs, ys, x_query = draw(4, 9, 5)
    x, eta, target = xs.flip(1)[:, 0] + 1, 0.3, torch.full((3,), 25.0, dtype=torch.float64)
    _, poisoned = hijack(GradientDescent(eta), xs, ys, x_query, target, x)
    score = torch.einsum("bnd,bd->bn", xs, x_query[:, 0])
    own = (x * x_query[:, 0]).sum(-1)
    close(poisoned[:, -1, 0], (10 * target / eta - (ys[..., 0] * score).sum(1)) / own)


@given(SIZES, st.floats(0, 100), st.floats(-10, 10))
@settings(max_examples=10, deadline=None)
def test_the_scaling_attack_on_ridge_in_closed_form(sizes, scale, label):
    xs, ys, x_query = draw(*sizes)
    context = scaling_attack(xs, ys, x_query, scale, label)
    formula = scaled_ridge_prediction(xs, ys, x_query, 0.4, scale, label)
    close(formula, Ridge(0.4)(*context, x_query)[:, 0, 0])
    far = scaled_ridge_prediction(xs, ys, x_query, 0.4, 1e7, label)
    assert_close(1e7 * far, label * x_query[:, 0].norm(dim=-1), atol=1e-4, rtol=1e-4)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_no_smaller_set_of_flips_turns_the_answer(d, n, seed):
    xs, ys, x_query = draw(d, n, seed)
    learner = Ridge(0.2)
    clean = learner(xs, ys, x_query)[:, 0, 0]
    flip = parity_flip(ridge_influence(xs, x_query, 0.2)[:, 0], ys)
    close(flip.path[:, 0], clean)
    close(flip.path[:, -1], -clean)
    for b in range(3):
        turned = []
        for k in range(n + 1):
            for some in itertools.combinations(range(n), k):
                signs = torch.ones(n, 1, dtype=torch.float64)
                signs[list(some)] = -1
                one = learner(xs[b : b + 1], signs * ys[b : b + 1], x_query[b : b + 1])
                turned += [k] * bool(one[0, 0, 0] * clean[b] < 0)
            if turned:
                break
        assert flip.needed[b] == turned[0]


def test_a_gradient_attack_finds_the_worst_label_of_a_linear_learner():
    xs, ys, x_query = draw(5, 20, 7, batch=8)
    learner = Ridge(0.5)
    influence = ridge_influence(xs, x_query, 0.5)
    worst = worst_label_change(influence, 2.0, "one")
    found = gradient_attack(learner, xs, ys, x_query, label_budget=2.0)
    close(found.shift.abs(), worst.shift[:, 0])
    close(found.xs, xs)
    assert ((found.ys - ys).abs() <= 2.0 + 1e-12).all()
    everywhere = gradient_attack(learner, xs, ys, x_query, label_budget=2.0, examples=20)
    close(everywhere.shift.abs(), worst_label_change(influence, 2.0, "linf").shift[:, 0])


def test_a_gradient_attack_keeps_to_its_budgets_and_says_what_it_moved():
    xs, ys, x_query = draw(3, 6, 8)
    learner = GradientDescent(0.3, 4)
    found = gradient_attack(learner, xs, ys, x_query, label_budget=0.5, input_budget=1.5)
    moved = (found.xs - xs).norm(dim=-1)
    assert ((moved > 0).sum(1) <= 1).all() and (moved <= 1.5 + 1e-12).all()
    after, before = (learner(*c, x_query)[:, 0, 0] for c in ((found.xs, found.ys), (xs, ys)))
    close(after - before, found.shift)
    labels_alone = gradient_attack(learner, xs, ys, x_query, label_budget=0.5)
    assert (found.shift.abs() > labels_alone.shift.abs()).all()


def test_what_cannot_be_attacked_is_said(as_readers_run_it):
    xs, ys, x_query = draw(3, 4, 9)
    target = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="no influence"):
        hijack(Ridge(0.1), xs, ys, x_query, target, x=torch.zeros_like(xs[:, 0]))
    with pytest.raises(ValueError, match="target"):
        hijack(Ridge(0.1), xs, ys, x_query, target[:2])
    with pytest.raises(ValueError, match="m = 1"):
        scaling_attack(xs, ys.expand(-1, -1, 2), x_query, 1.0, 1.0)
    with pytest.raises(ValueError, match="one query|on one"):
        gradient_attack(Ridge(0.1), xs, ys, xs, label_budget=1.0)
    with pytest.raises(ValueError, match="length 0"):
        scaling_attack(xs, ys, 0 * x_query, 1.0, 1.0)
    with pytest.raises(ValueError, match="replace"):
        with_example(xs, ys, xs[:, 0], ys[:, 0], 4)
    with pytest.raises(ValueError, match="x: got shape"):
        with_example(xs, ys, xs[:2, 0], ys[:, 0])
    with pytest.raises(ValueError, match="penalty"):
        leave_one_out(xs, ys, 0.0)
    with pytest.raises(ValueError, match="examples"):
        gradient_attack(Ridge(0.1), xs, ys, x_query, label_budget=1.0, examples=5)
