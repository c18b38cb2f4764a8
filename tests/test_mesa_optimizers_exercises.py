"""Assignment 6: what its table shows, and that its oracles are those of closed forms."""

import pytest
import torch

from icl_lessons.grading.mesa_optimizers import (
    detector,
    fine_tuning,
    hijacking,
    overlapping,
    preconditioner,
    sequence_layers,
    surgery,
)
from icl_lessons.grading.sums import draw


@pytest.fixture(scope="module")
def rows():
    return dict(zip(("before", "reward", "inner", "poison"), fine_tuning.table(), strict=True))


def test_the_reward_changes_outputs_and_leaves_the_inner_learner(rows):
    before, reward = rows["before"], rows["reward"]
    assert reward.forbidden < before.forbidden / 20
    assert reward.correlation > 0.999 and 0.9 < reward.gain < 1.1
    assert reward.output_low > before.output_low / 2
    assert reward.inner_low < 0.7 * before.inner_low
    assert reward.shifted > 10 * reward.forbidden


def test_the_cosine_does_not_tell_the_rows_apart_and_the_gain_does(rows):
    for name in ("reward", "inner", "poison"):
        assert rows[name].cosine > 0.98 and rows[name].change > 0.15
    assert rows["reward"].gain > 0.9 > 0.8 > rows["inner"].gain > 0.5 > rows["poison"].gain


def test_the_reward_reaches_the_inner_learner_where_nothing_else_moves(rows):
    assert rows["inner"].change > 1.5 * rows["reward"].change
    assert rows["inner"].forbidden > 20 * rows["reward"].forbidden


def test_few_bad_outputs_are_no_sign_of_what_is_inside(rows):
    assert rows["poison"].forbidden < rows["before"].forbidden / 20
    assert rows["poison"].loss > 2 * rows["before"].loss


def test_the_prior_as_rows_is_the_closed_form():
    keys, values = draw(6, 3, seed=1), draw(6, 2, seed=2)
    known = torch.linalg.solve(keys.mT @ keys + 0.4 * torch.eye(3).double(), keys.mT @ values).mT
    torch.testing.assert_close(sequence_layers.fitted(keys, values, 0.4), known)


def test_the_first_prediction_of_a_prompt_knows_nothing():
    xs, ys = overlapping._prompts(2, 3, 4, seed=3)
    found = overlapping._predictions(xs, ys, 0.5, lambda k: range(2 * k))
    assert not found[:, 0].any() and found[:, 1:].abs().amin() > 0


@pytest.mark.parametrize("index", range(4))
def test_derivatives_by_the_labels_are_those_of_autograd(index):
    xs, ys, x_query = draw(2, 4, 3, seed=4), draw(2, 4, 1, seed=5), draw(2, 2, 3, seed=6)
    learners = preconditioner._learners(draw(3, 3, seed=7), draw(3, seed=8))
    _, learner, derivative = learners[index]
    jacobian = torch.autograd.functional.jacobian(lambda y: learner(xs, y, x_query).sum(0), ys)
    torch.testing.assert_close(
        derivative(xs, ys, x_query).expand(2, 2, 4), jacobian[:, 0, :, :, 0].transpose(0, 1)
    )


@pytest.mark.parametrize("name", ["squared", "ascent", "huber", "absolute", "cosine"])
def test_candidates_are_minus_the_derivative_of_a_loss(name):
    p, y = draw(1, 5, 3, seed=9).requires_grad_(), draw(1, 5, 3, seed=10)
    loss = {
        "squared": lambda: (p - y).square().sum() / 2,
        "ascent": lambda: -(p - y).square().sum() / 2,
        "huber": lambda: torch.nn.functional.huber_loss(p, y, delta=0.5, reduction="sum"),
        "absolute": lambda: (p - y).abs().sum(),
        "cosine": lambda: -torch.cosine_similarity(p, y, dim=-1).sum(),
    }[name]()
    (slope,) = torch.autograd.grad(loss, p)
    torch.testing.assert_close(detector.library()[name](p.detach(), y), -slope)


def test_a_turned_residual_descends_nothing():
    y = draw(1, 1, 2, seed=11)
    jacobian = torch.autograd.functional.jacobian(
        lambda p: detector._rotated(p, y)[0, 0], draw(1, 1, 2, seed=12)
    )[:, 0, 0]
    assert (jacobian - jacobian.mT).abs().max() > 1


def test_the_found_layer_takes_a_step_on_its_loss():
    xs, ys, weights = draw(2, 4, 3, seed=13), draw(2, 4, 2, seed=14), draw(2, 2, 3, seed=15)
    metric = draw(3, 3, seed=16)
    tokens = surgery._tokens(xs, ys, weights)
    layer = surgery.found_layer(3, 2, 0.3, metric=metric)
    stepped = surgery._stepped(weights, xs[:, :3], ys[:, :3], 0.3, 0.0, metric)
    torch.testing.assert_close(surgery.run(layer, tokens, 3)[..., 5:], xs @ stepped.mT)


@pytest.mark.parametrize(
    ("kind", "number", "learner"),
    [("one step", 0.7, hijacking.one_step(0.7)), ("ridge", 0.5, hijacking.ridge(0.5))],
)
def test_influences_are_those_of_the_learner(kind, number, learner):
    xs, ys, x_query = draw(3, 5, 2, seed=17), draw(3, 5, 1, seed=18), draw(3, 1, 2, seed=19)
    influence = hijacking._influence(kind, number, xs, x_query)
    torch.testing.assert_close((influence * ys[..., 0]).sum(-1), learner(xs, ys, x_query)[:, 0, 0])
