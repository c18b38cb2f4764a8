"""Expected losses in closed form, against sampling, against derivatives and against the notes.

The closed forms are expectations over inputs, tasks and queries, so sampled means must lie within
four standard errors of them.
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from icl_lessons.gradient_descent.one_step import (
    gradient_descent_attention,
    gradient_descent_matrices,
)
from icl_lessons.gradient_descent.population_loss import (
    attention_population_loss,
    best_single_step,
    single_step_loss,
)
from icl_lessons.tasks.regression import LinearRegression, von_oswald_task

D, N = 3, 5
LAWS = {
    "uniform": LinearRegression(d=D, input_law="uniform", half_range=0.8),
    "normal": LinearRegression(d=D, input_law="normal", input_scale=0.7),
}


def contexts(law, d, n, samples, seed, scale=1.0):
    """Contexts, tasks and queries drawn with NumPy, not by the package's sampler."""
    rng = np.random.default_rng(seed)
    shape = (samples, n + 1, d)
    x = scale * (rng.uniform(-1, 1, shape) if law == "uniform" else rng.standard_normal(shape))
    w = rng.standard_normal((samples, d))
    return x, w, np.einsum("bnd,bd->bn", x, w)


def mean_and_error(values):
    return values.mean(), values.std() / math.sqrt(len(values))


def sampled_step_loss(x, y, step_size):
    """Half the squared error of one gradient step from zero, for each context."""
    xs, ys = x[:, :-1], y[:, :-1]
    model = step_size * np.einsum("bn,bnd->bd", ys, xs) / ys.shape[1]
    return 0.5 * ((model * x[:, -1]).sum(-1) - y[:, -1]) ** 2


def sampled_attention_loss(x, y, key_query, projection_value):
    """Half the squared error of one linear attention layer, one example after another."""
    tokens = np.concatenate([x, y[..., None]], -1)
    query = tokens[:, -1].copy()
    query[:, -1] = 0
    out = query.copy()
    for i in range(x.shape[1] - 1):
        score = np.einsum("bp,pq,bq->b", tokens[:, i], key_query, query)
        out += score[:, None] * (tokens[:, i] @ projection_value.T)
    return 0.5 * (-out[:, -1] - y[:, -1]) ** 2


def random_products(seed, *models, size=0.35, d=D):
    rng = np.random.default_rng(seed)
    return tuple(
        torch.from_numpy(size * rng.standard_normal((*models, d + 1, d + 1))) for _ in range(2)
    )


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task, zero, step, loss",
    [
        (von_oswald_task(10), 0.41667, 6.0606, 0.20623),
        (LinearRegression(d=10, input_law="uniform", half_range=1.0), 1.66667, 1.5152, 0.82492),
        (LinearRegression(d=10, input_law="normal"), 5.0, 0.47619, 2.61905),
    ],
    ids=["U(-1/2,1/2)", "U(-1,1)", "N(0,1)"],
)
def test_the_best_step_for_ten_examples_in_ten_dimensions(task, zero, step, loss):
    best = best_single_step(task, 10)
    assert best.loss_of_zero == pytest.approx(zero, abs=5e-6)
    assert best.step_size == pytest.approx(step, abs=5e-5)
    assert best.loss == pytest.approx(loss, abs=5e-6)


@pytest.mark.parametrize("n", [1, 4, 30])
def test_the_best_step_of_normal_inputs_is_n_over_n_plus_d_plus_one(n):
    """Isserlis: E S^2 = (1 + (d+1)/N) I for standard normal inputs."""
    best = best_single_step(LinearRegression(d=6), n)
    assert best.step_size == pytest.approx(n / (n + 7), rel=1e-14)
    assert best.loss == pytest.approx(3.0 * 7 / (n + 7), rel=1e-14)


def test_the_best_step_in_one_dimension_from_one_example():
    """By hand: y_hat = eta w x^2 q, E x^2 = 1/3 and E x^4 = 1/5 on (-1, 1): eta* = 5/3."""
    best = best_single_step(LinearRegression(d=1, input_law="uniform", half_range=1.0), 1)
    assert best.step_size == pytest.approx((1 / 3) / (1 / 5), rel=1e-14)
    assert best.loss == pytest.approx(0.5 / 3 * (1 - (1 / 9) / (1 / 5)), rel=1e-14)


def test_the_best_step_is_the_lowest_point_of_the_loss():
    for task in LAWS.values():
        best = best_single_step(task, N)
        at = [single_step_loss(task, N, best.step_size * (1 + e)) for e in (-1e-3, 0.0, 1e-3)]
        assert at[1] == pytest.approx(best.loss, rel=1e-13)
        assert at[0] > at[1] < at[2]
        # A parabola: as far up on the left as on the right.
        assert at[0] - at[1] == pytest.approx(at[2] - at[1], rel=1e-6)
        assert single_step_loss(task, N, 0.0) == pytest.approx(best.loss_of_zero, rel=1e-14)


def test_the_loss_under_another_input_scale_is_the_printed_polynomial():
    """1/2 s d a^2 (1 - 2u + u^2 (1 + (d - 1/5)/N)) with u = eta s a^2, for uniform inputs."""
    d, n, alpha, step = 7, 4, 1.6, 2.3
    s = 0.5**2 / 3
    u = step * s * alpha**2
    expected = 0.5 * s * d * alpha**2 * (1 - 2 * u + u**2 * (1 + (d - 0.2) / n))
    got = single_step_loss(von_oswald_task(d), n, step, input_scale=alpha)
    assert got == pytest.approx(expected, rel=1e-13)
    scaled = single_step_loss(von_oswald_task(d, input_scale=alpha), n, step)
    assert scaled == pytest.approx(expected, rel=1e-13)


def test_larger_tasks_scale_the_losses_by_their_square_and_leave_the_step():
    one, three = (best_single_step(von_oswald_task(4, task_scale=a), 6) for a in (1.0, 3.0))
    assert three.step_size == one.step_size
    assert three.loss == pytest.approx(9 * one.loss, rel=1e-14)
    assert three.loss_of_zero == pytest.approx(9 * one.loss_of_zero, rel=1e-14)


# --- sampling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
def test_one_step_loss_against_sampling(law):
    task, step = LAWS[law], 1.1
    scale = {"uniform": 0.8, "normal": 0.7}[law]
    x, _, y = contexts(law, D, N, 400_000, seed=1, scale=scale)
    mean, error = mean_and_error(sampled_step_loss(x, y, step))
    assert abs(mean - single_step_loss(task, N, step)) < 4 * error
    # Enough samples to tell the loss of a step that is 30 % longer.
    assert abs(mean - single_step_loss(task, N, 1.3 * step)) > 4 * error


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seed", [2, 3])
def test_any_attention_weights_against_sampling(law, seed):
    scale = {"uniform": 0.8, "normal": 0.7}[law]
    x, _, y = contexts(law, D, N, 300_000, seed=seed, scale=scale)
    key_query, projection_value = random_products(seed)
    losses = sampled_attention_loss(x, y, key_query.numpy(), projection_value.numpy())
    mean, error = mean_and_error(losses)
    expected = attention_population_loss(key_query, projection_value, LAWS[law], N).item()
    assert abs(mean - expected) < 4 * error
    assert error < 0.02 * expected


@pytest.mark.parametrize("what", ["u_x", "u_y", "A", "b"])
def test_each_part_of_the_weights_against_sampling(what):
    """Weights in which one part is large, so that no term of the polynomial hides behind others."""
    key_query, projection_value = (matrix.numpy() * 0.3 for matrix in random_products(4))
    part = {
        "u_x": projection_value[D, :D],
        "u_y": projection_value[D, D:],
        "A": key_query[:D, :D],
        "b": key_query[D, :D],
    }[what]
    part *= 6
    x, _, y = contexts("uniform", D, N, 300_000, seed=5, scale=0.8)
    mean, error = mean_and_error(sampled_attention_loss(x, y, key_query, projection_value))
    products = torch.from_numpy(key_query), torch.from_numpy(projection_value)
    assert abs(mean - attention_population_loss(*products, LAWS["uniform"], N).item()) < 4 * error


def test_the_construction_has_the_best_step_s_loss_and_so_has_its_sample():
    task, n = von_oswald_task(4), 6
    best = best_single_step(task, n)
    w_query, w_key, w_value, projection = gradient_descent_matrices(4, 1, n, best.step_size)
    products = (w_key.mT @ w_query)[0], (projection @ w_value)[0]
    assert attention_population_loss(*products, task, n).item() == pytest.approx(
        best.loss, rel=1e-13
    )
    batch = task.sample(200_000, n, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    learner = gradient_descent_attention(4, 1, n, best.step_size)
    with torch.no_grad():
        losses = 0.5 * (learner(*batch.context) - batch.y_query).square()
    mean, error = mean_and_error(losses.numpy().ravel())
    assert abs(mean - best.loss) < 4 * error


# --- derivatives --------------------------------------------------------------------------------


def gradient_norm(products, task, n):
    products = [matrix.clone().requires_grad_() for matrix in products]
    attention_population_loss(*products, task, n).backward()
    return max(matrix.grad.abs().max().item() for matrix in products)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("gauge", [1.0, -0.3])
def test_the_best_step_s_construction_is_a_stationary_point(law, gauge):
    task = LAWS[law]
    best = best_single_step(task, N)

    def construction(step_size):
        w_query, w_key, w_value, projection = gradient_descent_matrices(D, 1, N, step_size)
        return (w_key.mT @ w_query)[0] / gauge, gauge * (projection @ w_value)[0]

    assert gradient_norm(construction(best.step_size), task, N) < 1e-14
    assert gradient_norm(construction(1.1 * best.step_size), task, N) > 1e-3


def test_no_small_change_of_the_construction_lowers_the_loss():
    """It is a minimum: the second derivative in any direction is not negative."""
    task = LAWS["uniform"]
    best = best_single_step(task, N)
    w_query, w_key, w_value, projection = gradient_descent_matrices(D, 1, N, best.step_size)
    at = torch.cat([(w_key.mT @ w_query)[0], (projection @ w_value)[0]])

    def loss(both):
        return attention_population_loss(both[: D + 1], both[D + 1 :], task, N)

    size = at.numel()
    hessian = torch.autograd.functional.hessian(loss, at).reshape(size, size)
    values = torch.linalg.eigvalsh(hessian)
    assert values.min() > -1e-12
    assert values.max() > 0.1


# --- several models, and what does not matter -----------------------------------------------------


def test_a_stack_of_models_gives_each_its_own_loss():
    key_query, projection_value = random_products(7, 4, 2)
    task = LAWS["uniform"]
    together = attention_population_loss(key_query, projection_value, task, N)
    assert together.shape == (4, 2)
    for i in range(4):
        for j in range(2):
            alone = attention_population_loss(key_query[i, j], projection_value[i, j], task, N)
            assert_close(together[i, j], alone, rtol=1e-13, atol=0)
    assert together.unique().numel() == 8


def test_only_some_entries_of_the_products_matter():
    key_query, projection_value = random_products(8)
    task = LAWS["normal"]
    before = attention_population_loss(key_query, projection_value, task, N)
    key_query[:, D] += 5  # asks for the query's target slot, which is 0
    projection_value[:D] -= 5  # writes to slots that are never read
    assert_close(attention_population_loss(key_query, projection_value, task, N), before)
    projection_value[D, 0] += 0.1
    assert attention_population_loss(key_query, projection_value, task, N) != before


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda p: best_single_step(LinearRegression(d=3, m=2), N), "m=2"),
        (lambda p: best_single_step(LinearRegression(d=3, noise_std=0.1), N), "noise_std=0.1"),
        (lambda p: best_single_step(LAWS["normal"], 0), "n_context: got 0"),
        (lambda p: single_step_loss(LAWS["normal"], 0, 0.1), "n_context: got 0"),
        (
            lambda p: best_single_step(
                LinearRegression(d=2, covariance=((1.0, 0.2), (0.2, 1.0))), N
            ),
            "covariance: no single fourth moment",
        ),
        (
            lambda p: attention_population_loss(*p, LinearRegression(d=D, task_scale=2.0), N),
            "task_scale 1, got 2.0",
        ),
        (lambda p: attention_population_loss(*p, LAWS["normal"], 0), "n_context: got 0"),
        (
            lambda p: attention_population_loss(*p, LinearRegression(d=D - 1), N),
            r"key_query: got shape \(4, 4\); use \[..., d\+1, d\+1\] with d = 2",
        ),
        (
            lambda p: attention_population_loss(p[0], p[1][:D], LAWS["normal"], N),
            r"projection_value: got shape \(3, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(as_readers_run_it, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(random_products(9))
