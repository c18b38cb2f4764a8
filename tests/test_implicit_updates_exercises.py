"""Assignment 7: what its table shows, and that its oracles are those of the package."""

import pytest
import torch

from icl_lessons.estimators.preconditioned_law import preconditioned_population_loss
from icl_lessons.grading.implicit_updates import (
    blocks,
    heads,
    identity_table,
    increments,
    paths,
    plateaus,
    rank_one,
)
from icl_lessons.grading.sums import draw
from icl_lessons.implicit_dynamics.debiased_descent import best_outputs
from icl_lessons.implicit_dynamics.token_path import TokenPath
from icl_lessons.implicit_dynamics.training_plateaus import SeparateHeads, fixed_point


@pytest.fixture(scope="module")
def rows():
    return dict(zip(("trained", "useless", "untrained"), identity_table.table(), strict=True))


def test_gap_rank_and_slope_are_alike_in_every_row(rows):
    for row in rows.values():
        assert row.gap < 1e-12 and row.rank == 1
        assert -1.15 < row.slope[0] <= row.slope[1] < -0.75


def test_the_loss_alone_tells_training_from_none(rows):
    assert 2 * rows["trained"].updated[1] < rows["trained"].without[0]
    for name in ("useless", "untrained"):
        assert rows[name].updated[0] > rows["trained"].updated[1] + 0.3
    assert rows["untrained"].updated[0] > 0.9 * rows["untrained"].without[0]


def test_the_update_of_another_query_is_far_worse_and_not_worthless(rows):
    trained = rows["trained"]
    assert trained.swapped[0] > 1.5 * trained.updated[1]
    assert trained.swapped[1] < trained.without[1]


def test_the_path_is_that_of_the_package():
    w, readings = draw(4, 3, seed=1), draw(2, 5, 3, seed=2)
    known = TokenPath(w, readings, torch.zeros_like(readings))
    torch.testing.assert_close(paths.path(w, readings), known.weights)


def test_the_least_change_serves_every_query_and_is_of_the_smallest_norm():
    w, alone, added = draw(3, 5, seed=3), draw(4, 5, seed=4), draw(4, 5, seed=5)
    found = rank_one.least_change(w, alone, added)
    torch.testing.assert_close(alone @ found.mT, added @ w.mT)
    free = torch.linalg.svd(alone).Vh[4:]
    assert (found @ free.mT).abs().max() < 1e-12


def test_the_layer_without_a_context_reads_the_query_alone():
    attend, x = blocks.attention(4, seed=6), draw(3, 4, seed=7)
    torch.testing.assert_close(attend(x[:, None], x), attend(x[:, None][:, :0], x))


def test_the_population_loss_and_the_plateaus_are_those_of_the_package():
    covariance = plateaus.covariance_of([0.9, 0.2, 0.6], seed=8)
    matrix = draw(3, 3, seed=9)
    torch.testing.assert_close(
        plateaus.population_loss(matrix, covariance, 7),
        2 * preconditioned_population_loss(matrix, covariance, 7),
    )
    for components in range(4):
        torch.testing.assert_close(
            plateaus.plateau(covariance, 7, components), fixed_point(covariance, 7, components)
        )


def test_a_step_along_the_derivative_is_a_step_of_the_flow():
    covariance = plateaus.covariance_of([0.9, 0.2, 0.6], seed=10)
    values, keys, queries = draw(2, seed=11), draw(2, 3, seed=12), draw(2, 3, seed=13)
    start = SeparateHeads(values, keys[:, None], queries[:, None])
    square = covariance @ covariance
    moment = square + (square + covariance.trace() * covariance) / 7
    known = start.step(square - moment @ start.product @ covariance, 0.1)
    found = plateaus.flow_step((values, keys, queries), covariance, 7, 0.1)
    torch.testing.assert_close(found[0], known.values)
    torch.testing.assert_close(found[1], known.keys[:, 0])
    torch.testing.assert_close(found[2], known.queries[:, 0])


def test_the_best_outputs_are_those_of_the_package():
    omega = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64)
    torch.testing.assert_close(heads.lowest(omega, 5, 40, 0.1), best_outputs(omega, 5, 40, 0.1))


@pytest.mark.parametrize(("words", "learner", "debiased"), heads.LEARNERS)
def test_a_constant_on_the_labels_moves_the_learners_that_it_should(words, learner, debiased):
    xs, ys, x_query = draw(2, 6, 3, seed=14), draw(2, 6, 1, seed=15), draw(2, 2, 3, seed=16)
    moved = (learner(xs, ys + 3, x_query) - learner(xs, ys, x_query)).abs().max()
    assert (moved < 1e-12) == debiased and (debiased or moved > 1e-2)


def test_a_line_through_a_power_has_its_exponent():
    tokens = torch.arange(1, 20).double()
    slope = increments.line(tokens.log(), (3 * tokens**-1.3).log())
    torch.testing.assert_close(slope, torch.tensor(-1.3).double())
