"""Assignment 8: what its table shows, and that its oracles are those of the package."""

import pytest
import torch
from torch.testing import assert_close

from icl_lessons.grading.language_models import (
    accounts,
    layers,
    losses,
    overlap,
    sensitivity,
    steps,
    theorem,
)
from icl_lessons.grading.sums import draw
from icl_lessons.language_models import account_table
from icl_lessons.language_models import course_answers as course
from icl_lessons.language_models.fine_tuning import FineTuning, fine_tune, label_loss
from icl_lessons.measures import distributions


@pytest.fixture(scope="module")
def laws():
    p, q = (draw(6, 9, seed=seed).mul(2).round().softmax(-1) for seed in (1, 2))  # with ties
    return p, q


@pytest.mark.parametrize("k", [1, 3, 9])
def test_the_overlap_and_its_cosine_are_those_of_the_package(laws, k):
    p, q = laws
    sets = overlap._shared(p, q, k)
    assert_close(overlap._counts(p, q, k) / k, distributions.token_overlap(p, q, k))
    missing = (k - overlap._counts(p, q, k)).clamp_min(1)
    known = distributions.overlap_cosine_similarity(p, q, k)
    assert_close(overlap.cosines(p, q, sets) / missing, known)


def test_the_sensitivity_and_the_divergence_are_those_of_the_package(laws):
    answers = draw(5, 4, 7, seed=3).softmax(-1)
    known = distributions.order_sensitivity(answers).mean()
    assert_close(sensitivity.sensitivity(answers), known)
    found = accounts.divergences(answers[0], answers[1:], 0.01)
    known = [distributions.divergence(answers[0], other, 0.01).mean() for other in answers[1:]]
    assert_close(found, torch.stack(known))


def test_the_accounts_of_the_check_are_told_apart_by_every_mistake_in_their_order():
    for queries, words, seed, floor in ((4, 5, 111, 0.001), (6, 3, 114, 0.02)):
        answers, known = accounts._case(queries, words, seed)
        far = accounts.divergences(answers, known, floor)
        order = far.argsort().tolist()
        ranks = far.argsort().argsort().tolist()
        assert len({tuple(order), tuple(ranks), tuple(order[::-1])}) == 3


def test_the_loss_of_a_label_is_that_which_fine_tuning_lowers():
    model = course.models()[0]
    inputs, labels = course.prompts("stance", 8, 0).demonstrations()
    tokens = torch.cat([inputs, labels[:, None]], 1)
    with torch.no_grad():
        found = losses._right(model(tokens), tokens, torch.full((8,), 4))
        assert_close(found, label_loss(model, inputs, labels))


def test_an_epoch_is_what_the_formula_says_up_to_the_third_order():
    shown, theta, order = steps.examples(5, 3, seed=4), draw(3, seed=5), [3, 0, 4, 1, 2]
    errors = []
    for rate in (0.02, 0.01):
        guess = steps.second_order(theta, shown, rate, order, pairs=steps.before)
        errors.append((steps.epoch(theta, shown, rate, order) - guess).norm())
    assert 6.5 < errors[0] / errors[1] < 9.5


def test_the_derivatives_of_the_checks_are_those_of_autograd():
    theta, (example, _) = draw(3, seed=6), steps.examples(2, 3, seed=7)
    slope = torch.func.grad(steps.loss)(theta, example)
    assert_close(steps.gradient(theta, example), slope)
    assert_close(steps.hessian(theta, example), torch.func.hessian(steps.loss)(theta, example))

    weights, read_out, x, labels = layers.case(3, 4, 3, [0, 2, 1], seed=8)
    labels = torch.tensor(labels)
    found = layers.local_slopes(weights, read_out, x, labels)
    states = layers.streams(weights, x)
    for w, h, slope in zip(weights, states, found, strict=False):

        def own(w, h=h):
            return layers.cross_entropy(h + (h @ w.mT).tanh(), read_out, labels)

        assert_close(slope, torch.func.grad(own)(w))


def test_a_layer_causal_step_does_not_know_the_blocks_above():
    weights, read_out, x, labels = layers.case(3, 4, 3, [0, 2, 1], seed=9)
    labels, other = torch.tensor(labels), [*weights[:-1], draw(4, 4, seed=10)]
    a, b = (layers.local_slopes(w, read_out, x, labels) for w in (weights, other))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and not torch.equal(a[2], b[2])
    a, b = (layers.slopes(w, read_out, x, labels, every=False) for w in (weights, other))
    assert (a[0] - b[0]).norm() > 0.1 * a[0].norm()


def test_full_batch_descent_is_blind_to_the_order_that_the_small_reader_sees():
    weights, query = draw(theorem.WORDS, theorem.WIDTH, seed=11), draw(theorem.WIDTH, seed=12)
    shown = list(zip(draw(3, theorem.WIDTH, seed=13), (1, 4, 2), strict=True))
    told = [theorem.model(weights, s, query) for s in (shown, shown[::-1])]
    assert (told[0] - told[1]).abs().max() > 1e-3
    for algorithm, blind in ((theorem.full_batch, True), (theorem.one_by_one, False)):
        gap = (algorithm(weights, shown) - algorithm(weights, shown[::-1])).abs().max()
        assert (gap < 1e-12) == blind


def test_the_table_shows_what_its_rubric_says():
    stance = account_table.row("stance")
    assert all(value > 0.9 for value in stance.context + stance.descent)
    for tuned, without, bayes in zip(stance.tuned, stance.without, stance.bayes, strict=True):
        assert bayes < tuned < without / 5


def test_descent_in_the_table_starts_at_the_model_without_demonstrations():
    asked = course.prompts("stance", 8, 0, 5)
    model = course.models()[0]
    same = fine_tune(model, *asked.demonstrations(), FineTuning(epochs=0))
    assert_close(same(asked.query_tokens), model(asked.query_tokens))
