"""The eigenvalue bank against sampled losses, closed forms and searches of another kind."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.preconditioned import GradientDescentPlusPlus
from icl_lessons.gradient_descent.curvature import chebyshev_schedule, residual_polynomial
from icl_lessons.gradient_descent.population_loss import best_single_step, single_step_loss
from icl_lessons.gradient_descent.spectra import (
    best_descent_steps,
    best_plus_plus,
    eigenvalue_bank,
    expected_loss,
    local_optimum,
    loss_of,
)
from icl_lessons.measures.agreement import mean_squared_error
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task

TASK = von_oswald_task()


@pytest.fixture(scope="module")
def bank():
    return eigenvalue_bank(TASK, 10, 4000)


def test_the_eigenvalues_are_those_of_the_sum_of_outer_products():
    bank = eigenvalue_bank(LinearRegression(d=3), 5, contexts=4, seed=2)
    xs = LinearRegression(d=3).sample(4, 5, generator=seeded(2), dtype=torch.float64).xs
    for own, x in zip(bank.eigenvalues, xs.numpy(), strict=True):
        singular = np.linalg.svd(x, compute_uv=False)
        assert_close(own, torch.from_numpy(np.sort(singular**2)), rtol=1e-10, atol=1e-12)
    few = eigenvalue_bank(LinearRegression(d=3), 1, contexts=4)
    assert few.eigenvalues[:, :2].abs().max() < 1e-12  # one example has one direction


def test_one_step_has_its_closed_form_loss(bank):
    best = best_single_step(TASK, 10)
    got = best_descent_steps(bank, 1, shared=True)
    assert got.step_sizes[0] == pytest.approx(best.step_size, rel=0.02)
    assert got.loss == pytest.approx(best.loss, rel=0.02)
    for size in (2.0, 9.0):
        exact = single_step_loss(TASK, 10, size)
        assert loss_of(bank, [size]) == pytest.approx(exact, rel=0.03)
    larger = single_step_loss(TASK, 10, 6.0, input_scale=1.5)
    assert loss_of(bank.at_input_scale(1.5), [6.0]) == pytest.approx(larger, rel=0.03)
    assert bank.loss_of_zero == pytest.approx(best.loss_of_zero)


@pytest.mark.parametrize(
    "sizes, gammas", [((4.0, 11.0), None), ((13.0, 13.0), (0.17, 0.17)), ((3.0, 9.0), (0.2, 0.0))]
)
def test_the_exact_loss_is_the_sampled_one(sizes, gammas):
    task = von_oswald_task(4)
    own = eigenvalue_bank(task, 6, 20_000, seed=5)
    batch = task.sample(20_000, 6, generator=seeded(6))
    learner = GradientDescent(sizes, len(sizes))
    if gammas is not None:
        learner = GradientDescentPlusPlus(sizes, gammas)
    assert loss_of(own, sizes, gammas) == pytest.approx(
        mean_squared_error(learner, batch), rel=0.05
    )


def test_several_learners_are_measured_at_once(bank):
    factors = torch.stack([residual_polynomial(bank.eigenvalues, [a]) for a in (0.0, 0.3, 0.6)])
    together = expected_loss(bank, factors)
    assert together.shape == (3,)
    for value, a in zip(together, (0.0, 3.0, 6.0), strict=True):
        assert value.item() == pytest.approx(loss_of(bank, [a]), rel=1e-12)


@pytest.mark.parametrize("n, reported", [(10, 0.179), (25, 0.099), (50, 0.056), (100, 0.029)])
def test_the_best_gamma_is_the_papers(n, reported):
    best = best_plus_plus(eigenvalue_bank(TASK, n, 2000), 2, shared=True)
    assert best.gammas[0] == pytest.approx(reported, rel=0.03)
    assert best.gammas[0] == best.gammas[1] and best.step_sizes[0] == best.step_sizes[1]


@pytest.mark.parametrize(
    "steps, figures",
    [
        (2, (0.1569, 0.1415, 0.1106, 0.0923)),
        (3, (0.1329, 0.1099, 0.0775, 0.0393)),
        (5, (0.1081, 0.0779, 0.0511, 0.0055)),
    ],
)
def test_best_losses_by_depth(bank, steps, figures):
    got = (
        best_descent_steps(bank, steps, shared=True),
        best_descent_steps(bank, steps, shared=False),
        best_plus_plus(bank, steps, shared=True),
        best_plus_plus(bank, steps, shared=False),
    )
    for coefficients, figure in zip(got, figures, strict=True):
        assert coefficients.loss == pytest.approx(figure, rel=0.03)
        assert len(coefficients.step_sizes) == len(coefficients.gammas) == steps
        own = loss_of(bank, coefficients.step_sizes, coefficients.gammas)
        assert own == pytest.approx(coefficients.loss, rel=1e-9)


def test_a_search_from_unequal_steps_finds_the_quadratures_nodes(bank):
    exact = best_descent_steps(bank, 3, shared=False)
    found = local_optimum(bank, [2.0, 6.0, 15.0])
    assert_close(torch.tensor(sorted(found.step_sizes)), torch.tensor(exact.step_sizes), rtol=1e-3,
                 atol=1e-3)  # fmt: skip
    assert found.loss == pytest.approx(exact.loss, rel=1e-7) and exact.loss <= found.loss + 1e-12


def test_steps_that_start_equal_stay_equal_and_miss_the_optimum(bank):
    stuck = local_optimum(bank, [3.0, 3.0, 3.0])
    assert max(stuck.step_sizes) - min(stuck.step_sizes) < 1e-6
    shared = best_descent_steps(bank, 3, shared=True).loss
    assert stuck.loss == pytest.approx(shared, rel=1e-6)
    assert best_descent_steps(bank, 3, shared=False).loss < 0.9 * stuck.loss


def test_separate_gammas_have_more_than_one_valley(bank):
    best = best_plus_plus(bank, 2, shared=False)
    other = local_optimum(bank, [6.7, 30.7], [0.25, 0.1])
    assert best.loss < 0.97 * other.loss
    nudged = local_optimum(bank, [s * 1.02 for s in other.step_sizes], other.gammas)
    assert nudged.loss == pytest.approx(other.loss, rel=1e-5)  # it is a valley


def test_a_fit_without_reach_explodes_just_beyond_its_largest_eigenvalue():
    for reach, holds in ((1.0, False), (1.3, True)):
        bank = eigenvalue_bank(TASK, 10, 4000, reach=reach)
        best = best_plus_plus(bank, 5, shared=False)
        slightly_larger = bank.at_input_scale(1.05)
        elsewhere = loss_of(slightly_larger, best.step_sizes, best.gammas)
        assert best.loss < 0.008
        assert (elsewhere < 1.5 * best.loss) == holds and (elsewhere > 10 * best.loss) != holds


def test_a_bank_is_summed_up_by_fewer_points(bank):
    points, weights = bank.quadrature
    assert len(points) == 3000 and weights.sum().item() == pytest.approx(1)
    assert points[-1] == bank.eigenvalues.max()
    for coefficients in (([6.0], None), ([13.5, 13.5, 13.5], [0.18, 0.18, 0.0])):
        sizes = [size / 10 for size in coefficients[0]]
        left = residual_polynomial(points, sizes, coefficients[1])
        summed = bank.loss_of_zero * (weights @ left.square())
        assert summed.item() == pytest.approx(loss_of(bank, *coefficients), rel=1e-3)
    reaching = eigenvalue_bank(TASK, 10, 100, reach=2.0)
    assert reaching.quadrature[0][-1] == pytest.approx(2 * reaching.eigenvalues.max().item())


def test_the_best_separate_coefficients_nearly_triple_angles(bank):
    best = best_plus_plus(bank, 4, shared=False)
    schedule = chebyshev_schedule(bank.eigenvalues.max().item(), 4)
    for own, ideal in zip(best.gammas[:-1], schedule.gammas, strict=False):
        assert own == pytest.approx(ideal, rel=0.05)
    planned = loss_of(bank, [10 * s for s in schedule.step_over_n], schedule.gammas)
    assert best.loss < planned < 1.2 * best.loss


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda b: eigenvalue_bank(LinearRegression(d=3, m=2), 4), "task: .* one target"),
        (lambda b: eigenvalue_bank(LinearRegression(d=3, noise_std=0.1), 4), "without noise"),
        (lambda b: eigenvalue_bank(TASK, 4, contexts=0), "contexts: got 0"),
        (lambda b: expected_loss(b, torch.ones(3, 2)), "factors: got shape"),
        (lambda b: best_descent_steps(b, 0, shared=True), "steps: got 0"),
        (lambda b: best_plus_plus(b, 2, shared=True, starts=0), "starts: got 0"),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, bank, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(bank)
