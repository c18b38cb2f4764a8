"""The preconditioner of one layer: constructions, closed forms, and what the data give."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from icl_lessons.declare import CLAIMS, Verdict
from icl_lessons.estimators.least_squares import OrdinaryLeastSquares
from icl_lessons.estimators.preconditioned import (
    GradientDescentPlusPlus,
    PreconditionedGradientDescent,
    preconditioned_descent_path,
)
from icl_lessons.estimators.preconditioned_law import (
    optimal_preconditioner,
    preconditioned_population_loss,
    second_moment,
)
from icl_lessons.gradient_descent.claims import preconditioning, preconditioning_shift
from icl_lessons.gradient_descent.experiments.preconditioner_fits import (
    PreconditionerFits,
    preconditioner_matrices,
)
from icl_lessons.gradient_descent.experiments.preconditioning import (
    PreconditionedLayerConfig,
    preconditioned_layer,
)
from icl_lessons.gradient_descent.figures import preconditioning as figures
from icl_lessons.gradient_descent.population_loss import best_single_step, single_step_loss
from icl_lessons.gradient_descent.preconditioning import (
    best_scalar_step,
    descend_from_balanced_start,
    distance_to_identity,
    effective_preconditioners,
    fitted_preconditioner,
    nonlinear_optimal_step,
    optimal_step,
    preconditioned_attention,
    random_covariance_factor,
)
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.mixtures import (
    LINKS,
    GaussianRegression,
    RandomCovariances,
    UnknownNoise,
    rows,
)
from icl_lessons.tasks.regression import LinearRegression

D, N = 4, 9


def covariance_of(seed: int, d: int = D) -> torch.Tensor:
    root = torch.randn(d, d, generator=seeded(seed), dtype=torch.float64) / math.sqrt(d)
    return root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64)


def loop(xs, ys, x_query, matrices, maps=None):
    """The layers, token by token and example by example, as [ahn2023transformers] writes them:
    ``Z + 1/n P Z M (Z^T Q Z)``, tokens in columns, query last."""
    n, d = xs.shape
    z = np.concatenate([np.column_stack([xs, ys]), [[*x_query, *np.zeros(ys.shape[1])]]]).T
    for layer, a in enumerate(matrices):
        width = len(z)
        q, p = np.zeros((width, width)), np.zeros((width, width))
        q[:d, :d] = -a
        p[d:, d:] = np.eye(width - d)
        if maps is not None:
            p[:d, :d] = maps[layer]
        mask = np.diag([1.0] * n + [0.0])
        z = z + p @ z @ mask @ (z.T @ q @ z) / n
    return -z[d:, -1]


@st.composite
def stacks(draw_from):
    seed, layers = draw_from(st.integers(0, 10_000)), draw_from(st.integers(1, 5))
    d, n, m = (draw_from(st.integers(1, high)) for high in (6, 12, 3))
    generator = seeded(seed)
    matrices = 0.5 * torch.randn(2, layers, d, d, generator=generator, dtype=torch.float64)
    batch = LinearRegression(d=d, m=m, noise_std=0.3).sample(
        2, n, generator=generator, dtype=torch.float64
    )
    return batch, matrices[0], matrices[1]


def close(got, expected):
    assert_close(got, expected, rtol=0, atol=1e-11 * (1 + expected.abs().max().item()))


@given(stacks())
@settings(max_examples=25, deadline=None)
def test_layers_are_preconditioned_steps_for_any_matrices(case):
    batch, a, _ = case
    layers = preconditioned_attention(a, batch.xs.shape[1], m=batch.ys.shape[2])
    got = layers(*batch.context)
    close(got, PreconditionedGradientDescent(1.0, a)(*batch.context))
    looped = [
        loop(x.numpy(), y.numpy(), q[0].numpy(), a.numpy())
        for x, y, q in zip(*batch.context, strict=True)
    ]
    close(got[:, 0], torch.tensor(np.array(looped)))


@given(stacks())
@settings(max_examples=25, deadline=None)
def test_input_maps_make_a_preconditioner_of_each_context(case):
    batch, a, b = case
    layers = preconditioned_attention(a, batch.xs.shape[1], b, m=batch.ys.shape[2])
    got = layers(*batch.context)
    path = preconditioned_descent_path(
        batch.xs, batch.ys, 1.0, effective_preconditioners(batch.xs, a, b)
    )
    close(got, batch.x_query @ path[-1].mT)
    looped = [
        loop(x.numpy(), y.numpy(), q[0].numpy(), a.numpy(), b.numpy())
        for x, y, q in zip(*batch.context, strict=True)
    ]
    close(got[:, 0], torch.tensor(np.array(looped)))
    other = b.clone()
    other[-1] += 1.0  # of the last layer: nobody reads the inputs after it
    close(preconditioned_attention(a, batch.xs.shape[1], other, m=batch.ys.shape[2])(
        *batch.context), got)  # fmt: skip


@given(stacks(), st.lists(st.floats(0.0, 0.4), min_size=10, max_size=10))
@settings(max_examples=25, deadline=None)
def test_multiples_of_the_identity_are_gd_plus_plus(case, numbers):
    batch, a, _ = case
    layers, d, n = a.shape[0], a.shape[1], batch.xs.shape[1]
    sizes, maps = numbers[:layers], numbers[5 : 5 + layers]
    eye = torch.eye(d, dtype=torch.float64)
    learner = preconditioned_attention(
        torch.stack([s * eye for s in sizes]),
        n,
        torch.stack([b * eye for b in maps]),
        m=batch.ys.shape[2],
    )
    gammas = [s * b / n for s, b in zip(sizes, maps, strict=True)]
    close(learner(*batch.context), GradientDescentPlusPlus(sizes, gammas)(*batch.context))


def test_transpose_and_sign_are_told_apart():
    generator = seeded(4)
    a = 0.3 * torch.randn(2, D, D, generator=generator, dtype=torch.float64)
    batch = LinearRegression(d=D).sample(4, N, generator=generator, dtype=torch.float64)
    right = PreconditionedGradientDescent(1.0, a)(*batch.context)
    for planted in (a.mT, -a):
        wrong = preconditioned_attention(planted.contiguous(), N)(*batch.context)
        assert (wrong - right).abs().max() > 1e-2


def test_rotating_the_space_rotates_the_preconditioner():
    turn = torch.linalg.qr(torch.randn(D, D, generator=seeded(5), dtype=torch.float64)).Q
    lam = covariance_of(6)
    turned = turn @ lam @ turn.T
    assert_close(
        optimal_preconditioner((turned + turned.T) / 2, N, 0.3),
        turn @ optimal_preconditioner(lam, N, 0.3) @ turn.T,
    )


# --- closed forms -------------------------------------------------------------------------------


def test_the_second_moment_of_the_empirical_covariance():
    lam = covariance_of(1)
    task = GaussianRegression(d=D, covariance=rows(lam))
    batch = task.sample(200_000, N, generator=seeded(2))
    s = batch.xs.mT @ batch.xs / N
    measured = (s @ s).double().mean(0)
    gamma = (1 + 1 / N) * lam + lam.trace() / N * torch.eye(D, dtype=torch.float64)
    assert (measured - lam @ gamma).norm() < 0.02 * (lam @ gamma).norm()
    assert_close(second_moment(lam, N), lam @ gamma)
    without_trace = (1 + 1 / N) * lam @ lam
    assert (measured - without_trace).norm() > 0.1 * measured.norm()


@pytest.mark.parametrize("case", ["plain", "noise", "tasks"])
def test_the_loss_is_what_sampling_gives(case):
    lam, omega = covariance_of(7), covariance_of(8)
    noise, tasks = (2.0 if case == "noise" else 0.0), (omega if case == "tasks" else 1.0)
    task = GaussianRegression(
        d=D,
        covariance=rows(lam),
        task_covariance=rows(omega) if case == "tasks" else None,
        noise_std=noise,
    )
    a = 0.4 * torch.randn(D, D, generator=seeded(9), dtype=torch.float64)
    batch = task.sample(200_000, N, generator=seeded(10), dtype=torch.float64)
    prediction = preconditioned_attention(a[None], N)(*batch.context)
    truth = batch.x_query @ batch.weights.mT  # without the noise of the query's target
    squares = 0.5 * (prediction - truth).square().flatten()
    exact = preconditioned_population_loss(a, lam, N, noise**2, tasks).item()
    assert abs(squares.mean().item() - exact) < 4 * squares.std().item() / len(squares) ** 0.5
    planted = {
        "plain": preconditioned_population_loss(a, lam, 10 * N),
        "noise": preconditioned_population_loss(a, lam, N),
        "tasks": preconditioned_population_loss(a.T.contiguous(), lam, N, 0.0, omega),
    }[case].item()
    assert abs(planted - exact) > 6 * squares.std().item() / len(squares) ** 0.5


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 40), st.floats(0.0, 4.0))
@settings(max_examples=25, deadline=None)
def test_the_optimum_has_no_lower_neighbour_and_the_stated_loss(seed, d, n, noise):
    lam = covariance_of(seed, d)
    best = optimal_preconditioner(lam, n, noise)
    eye = torch.eye(d, dtype=torch.float64)
    gamma = (1 + 1 / n) * lam + (lam.trace() + noise) / n * eye
    assert_close(best @ gamma, eye, rtol=1e-9, atol=1e-9)
    low = preconditioned_population_loss(best, lam, n, noise)
    assert_close(low, 0.5 * (lam.trace() - (lam @ torch.linalg.solve(gamma, lam)).trace()))
    away = best + 0.1 * torch.randn(8, d, d, generator=seeded(seed), dtype=torch.float64)
    assert (preconditioned_population_loss(away, lam, n, noise) > low).all()
    scalar = best_scalar_step(lam, n, noise)
    assert low.item() <= scalar.loss + 1e-12
    for factor in (0.98, 1.02):
        other = preconditioned_population_loss(factor * scalar.step_size * eye, lam, n, noise)
        assert other.item() > scalar.loss


def test_tasks_of_the_inverse_covariance_ask_for_a_multiple_of_it():
    lam = covariance_of(11)
    found = optimal_preconditioner(lam, N, 0.5, lam.inverse())
    assert_close(found, lam.inverse() / (1 + (D + 1 + 0.5) / N))


def test_the_course_s_first_closed_form_is_a_special_case():
    task = LinearRegression(d=D)
    best = best_single_step(task, N)
    eye = torch.eye(D, dtype=torch.float64)
    assert best_scalar_step(eye, N).step_size == pytest.approx(best.step_size)
    assert best_scalar_step(eye, N).loss == pytest.approx(best.loss)
    shifted = preconditioned_population_loss(best.step_size * eye, 4 * eye, N).item()
    assert shifted == pytest.approx(single_step_loss(task, N, best.step_size, 2.0))


def test_the_step_and_its_limits():
    assert optimal_step(N, D) == pytest.approx(best_single_step(LinearRegression(d=D), N).step_size)
    assert optimal_step(N, D, 2.0, 0.5, normalised=False) == pytest.approx(1 / (N + D + 1 + 4))
    assert optimal_step(N, D, 1e12) == pytest.approx(0, abs=1e-10)
    assert optimal_step(10**9, D) == pytest.approx(1)
    eye = torch.eye(D, dtype=torch.float64)
    assert optimal_step(N, D, 0.6, 1.5) == pytest.approx(
        optimal_preconditioner(eye, N, 0.6, 1.5)[0, 0].item()
    )


def test_the_trained_length_sets_the_floor():
    lam = covariance_of(12)
    floors = []
    for n in (10_000, 20_000):
        best = optimal_preconditioner(lam, n)
        longer = [preconditioned_population_loss(best, lam, m).item() for m in (n, 10**7, math.inf)]
        assert longer[0] > longer[1] > longer[2] > 0
        floors.append(longer[2])
    assert floors[0] / floors[1] == pytest.approx(4, rel=0.02)  # 1/N^2


@given(st.integers(0, 1000), st.floats(0.2, 4.0))
@settings(max_examples=20, deadline=None)
def test_inputs_times_c_make_the_slope_times_c_squared(seed, c):
    lam = covariance_of(seed)
    learner = preconditioned_attention(optimal_preconditioner(lam, N)[None], N)
    batch = LinearRegression(d=D).sample(3, N, generator=seeded(seed), dtype=torch.float64)
    one = learner(*batch.context)
    scaled = learner(c * batch.xs, c * batch.ys, c * batch.x_query)
    close(scaled, c**3 * one)  # the targets grow by c, so against them the slope grows by c^2
    close(learner(batch.xs, batch.ys, c * batch.x_query), c * one)  # a shift of the query is fine


def test_a_query_across_the_context_gets_the_answer_zero():
    eye = torch.eye(D, dtype=torch.float64)
    learner = preconditioned_attention(optimal_preconditioner(eye, N)[None], N)
    batch = LinearRegression(d=D).sample(3, N, generator=seeded(0), dtype=torch.float64)
    flat = batch.xs.clone()
    flat[..., -1] = 0
    across = eye[-1].expand(3, 1, D).contiguous()
    assert learner(flat, batch.ys, across).abs().max() < 1e-14


# --- from data ----------------------------------------------------------------------------------


def prompts(task, n_context, count, seed):
    generator = seeded(seed)
    return (task.sample(20_000, n_context, generator=generator) for _ in range(count // 20_000))


def test_least_squares_finds_the_closed_form_and_not_the_inverse_covariance():
    lam = covariance_of(13)
    best = optimal_preconditioner(lam, N)
    task = GaussianRegression(d=D, covariance=rows(lam))
    fitted = fitted_preconditioner(prompts(task, N, 200_000, 14))
    assert (fitted - best).norm() < 0.04 * best.norm()
    assert (fitted - lam.inverse()).norm() > 0.3 * lam.inverse().norm()


def test_a_fit_recovers_the_matrix_that_made_the_answers_and_not_its_transpose():
    a = torch.randn(D, D, generator=seeded(15), dtype=torch.float64)
    batch = LinearRegression(d=D, m=2, n_query=3).sample(
        200, N, generator=seeded(16), dtype=torch.float64
    )
    answers = preconditioned_attention(a[None], N, m=2)(*batch.context)
    own = type(batch)(batch.xs, batch.ys, batch.x_query, answers)
    assert_close(fitted_preconditioner(own), a)


@pytest.mark.parametrize("link", ["identity", "tanh", "sign"])
def test_nonlinear_targets_change_only_the_step(link):
    task = GaussianRegression(d=D, link=link)
    fitted = fitted_preconditioner(prompts(task, N, 200_000, 17))
    assert distance_to_identity(fitted) < 0.03
    step = nonlinear_optimal_step(LINKS[link], D, N)
    assert fitted.diagonal().mean().item() == pytest.approx(step, rel=0.01)
    if link == "identity":
        assert step == pytest.approx(optimal_step(N, D), rel=1e-6)
    else:
        assert abs(step / optimal_step(N, D) - 1) > 0.01


def test_random_covariances_leave_a_third_at_most():
    fitted = fitted_preconditioner(prompts(RandomCovariances(d=3), 60, 200_000, 18))
    assert fitted.diagonal().mean().item() == pytest.approx(
        random_covariance_factor(60, 3), rel=0.04
    )
    assert random_covariance_factor(math.inf, 3) == pytest.approx(1 / 3)
    by_hand = 2 / (6 * (1 + 1 / 7) + (6 + 2 * (3 - 1)) / 7)  # E l^2 / E[l^2 Gamma], d = 3, N = 7
    assert random_covariance_factor(7, 3) == pytest.approx(by_hand)


def test_descent_from_a_balanced_start_ends_at_the_stated_matrices():
    lam = torch.diag(torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64))
    thetas = torch.randn(3, 3, 3, generator=seeded(19), dtype=torch.float64)
    path = descend_from_balanced_start(thetas, lam, N, learning_rate=0.05, updates=(0, 8000))
    best = optimal_preconditioner(lam, N)
    assert_close(path.preconditioner[-1], best.expand(3, 3, 3), rtol=1e-6, atol=1e-6)
    norm = torch.linalg.matrix_power(best, 2).trace() ** 0.25
    assert_close(path.projection_value[-1], norm.expand(3), rtol=2e-3, atol=0)
    assert (path.preconditioner[0] - best).norm() > 0.5 * best.norm()


@given(st.integers(0, 1000), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_distance_to_identity_is_a_minimum_over_multiples(seed, d):
    matrix = torch.randn(3, d, d, generator=seeded(seed), dtype=torch.float64)
    got = distance_to_identity(matrix)
    eye = torch.eye(d, dtype=torch.float64)
    for one, value in zip(matrix, got, strict=True):
        grid = one.diagonal().mean() + torch.linspace(-2, 2, 401, dtype=torch.float64)
        distances = (one - grid[:, None, None] * eye).flatten(1).norm(dim=1) / one.norm()
        assert distances.argmin() == 200
        assert_close(distances[200], value)
    assert_close(distance_to_identity(-3 * eye).item(), 0.0, atol=1e-15, rtol=0)


# --- tasks --------------------------------------------------------------------------------------


def test_tasks_have_the_covariances_they_are_given():
    lam, omega = covariance_of(20), covariance_of(21)
    task = GaussianRegression(d=D, covariance=rows(lam), task_covariance=rows(omega), n_query=2)
    batch = task.sample(50_000, 3, generator=seeded(22), dtype=torch.float64)
    for values, expected in ((batch.xs[:, 0], lam), (batch.x_query[:, 1], lam),
                             (batch.weights[:, 0], omega)):  # fmt: skip
        assert (values.T @ values / len(values) - expected).norm() < 0.03 * expected.norm()
    assert_close(batch.ys, batch.xs @ batch.weights.mT)


def test_links_and_noise_levels():
    batch = GaussianRegression(d=D, link="sign").sample(50, 3, generator=seeded(23))
    assert batch.weights is None and set(batch.ys.unique().tolist()) == {-1.0, 1.0}
    task = UnknownNoise(d=D, levels=(0.1, 1.0))
    batch, levels = task.sample_with_levels(40_000, 5, generator=seeded(24))
    noise = (batch.ys - batch.xs @ batch.weights.mT)[..., 0]
    for level in (0.1, 1.0):
        own = levels == torch.tensor(level)
        assert own.float().mean().item() == pytest.approx(0.5, abs=0.02)
        assert noise[own].std().item() == pytest.approx(level, rel=0.02)
    assert task.mean_variance == pytest.approx(0.505)
    wide = UnknownNoise(d=D, levels=(), largest=3.0)
    _, levels = wide.sample_with_levels(40_000, 5, generator=seeded(25))
    assert levels.square().mean().item() == pytest.approx(wide.mean_variance, rel=0.03)
    again, _ = wide.sample_with_levels(7, 5, generator=seeded(1))
    assert_close(wide.sample(7, 5, generator=seeded(1)).ys, again.ys)


# --- the experiment -----------------------------------------------------------------------------


def test_least_squares_keeps_its_loss_under_a_shift():
    noise, d, n = 0.5, 3, 12
    losses = []
    for c in (0.5, 2.0):
        task = LinearRegression(d=d, noise_std=noise, input_scale=c)
        batch = task.sample(40_000, n, generator=seeded(26), dtype=torch.float64)
        truth = batch.x_query @ batch.weights.mT
        error = OrdinaryLeastSquares()(*batch.context) - truth
        losses.append(0.5 * error.square().mean().item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert losses[0] == pytest.approx(0.5 * noise**2 * d / (n - d - 1), rel=0.03)


@pytest.fixture(scope="module")
def lesson():
    return preconditioned_layer(PreconditionedLayerConfig())


def test_the_matrices_of_the_lesson_are_stored():
    assert PreconditionedLayerConfig().fits == PreconditionerFits()
    assert preconditioner_matrices.is_stored(PreconditionerFits())


def test_three_roads_to_the_preconditioner(lesson):
    assert len(lesson.fitted) >= 3
    assert (lesson.relative_error("fitted") < 0.02).all()
    assert (lesson.relative_error("fitted", "inverse") > 0.5).all()
    assert (lesson.flow_error[:, -1] < 1e-5).all()
    assert (lesson.trained_loss < 1.1 * lesson.optimal_loss).all()
    assert (lesson.relative_error("trained") > 0.3).all()  # a low loss, and another matrix
    assert lesson.optimal_loss < lesson.scalar_loss < lesson.inverse_loss < lesson.zero_loss
    squares = lesson.shifts**2
    assert (abs(lesson.slope_ratio / squares - 1) < 0.05).all()
    assert (abs(lesson.slope_ratio[:, 0] / lesson.shifts[0] - 1) > 0.5).all()  # not c
    assert figures.preconditioned_layer(lesson).axes
    assert "Gamma^-1" in lesson.summary()


FAILS = {"ahn2023-inverse-covariance", "ahn2023-low-loss-right-matrix"}


def test_every_claim_has_the_verdict_that_the_book_discusses(lesson):
    modules = {preconditioning.__name__, preconditioning_shift.__name__}
    names = [name for name in CLAIMS if CLAIMS[name].check.__module__ in modules]
    assert len(names) >= 15
    for name in names:
        expected = Verdict.FAILS if name in FAILS else Verdict.HOLDS
        assert CLAIMS[name].check(Scale.LESSON).verdict == expected, name


def test_a_small_run_has_the_shapes_it_says():
    config = PreconditionedLayerConfig(
        standard_deviations=(1.0, 0.5), seeds=(7,), n_prompts=2000, steps=20, batch_size=16,
        flow_updates=(0, 50), random_lengths=(5,), links=("sign",),
    )  # fmt: skip
    result = preconditioned_layer(config)
    assert result.fitted.shape == (1, 2, 2) and result.link_step.shape == (1, 1)
    assert np.isfinite(result.length_loss).all() and result.flow_error.shape == (1, 2)


@pytest.mark.parametrize(
    "bad",
    [{"n_prompts": 0}, {"seeds": ()}, {"learning_rate": 0.0}, {"standard_deviations": (0.0,)}],
)
def test_a_wrong_setting_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        PreconditionedLayerConfig(**bad)


# --- errors -------------------------------------------------------------------------------------

LAM = covariance_of(0)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: preconditioned_attention(LAM, N), "preconditioners: got shape"),
        (lambda: preconditioned_attention(LAM[None, :2], N), "preconditioners: got shape"),
        (lambda: preconditioned_attention(LAM[None], 0), "n_context: got 0"),
        (lambda: preconditioned_attention(LAM[None], N, LAM[None, :2, :2]), "input_maps: "),
        (lambda: optimal_preconditioner(LAM.triu(), N), "covariance: use a symmetric"),
        (lambda: optimal_preconditioner(0 * LAM, N), "covariance: has no inverse"),
        (lambda: optimal_preconditioner(LAM, 0), "n_context: got 0"),
        (lambda: optimal_preconditioner(LAM, N, -1.0), "noise_variance: got -1.0"),
        (lambda: optimal_step(N, D, 0.0, 0.0), "task_variance: got 0.0"),
        (lambda: fitted_preconditioner([]), "batches: got none"),
        (lambda: distance_to_identity(LAM[0]), "matrix: got shape"),
        (
            lambda: descend_from_balanced_start(LAM[None], LAM, N, scale=3.0),
            r"scale: got 3.0; scale\^2",
        ),
        (lambda: GaussianRegression(d=2, covariance=((1.0, 0.0),)), "covariance: got shape"),
        (lambda: GaussianRegression(d=1, covariance=((-1.0,),)), "covariance: use a symmetric"),
        (lambda: GaussianRegression(d=3, task_covariance=((1.0,),)), "task_covariance: 1 rows"),
        (lambda: GaussianRegression(d=2, link="relu"), "link: got 'relu'"),
        (lambda: UnknownNoise(d=2, levels=(), largest=0.0), "levels: give levels, or largest"),
        (lambda: UnknownNoise(d=2, levels=(-1.0,)), "levels: got -1.0"),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
