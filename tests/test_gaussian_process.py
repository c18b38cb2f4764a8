"""Functions drawn from a Gaussian process have the covariance of its kernel."""

import pytest
import torch
from torch.testing import assert_close

from icl_lessons.estimators.kernels import KernelRidge, LinearKernel, RBFKernel, SoftmaxWeights
from icl_lessons.estimators.least_squares import OrdinaryLeastSquares
from icl_lessons.runtime import seeded
from icl_lessons.tasks.gaussian_process import GaussianProcess


def test_shapes_seeds_and_dtypes():
    task = GaussianProcess(kernel=RBFKernel(), d=3, m=2, n_query=4)
    one, again = (task.sample(5, 6, generator=seeded(1)) for _ in range(2))
    other = task.sample(5, 6, generator=seeded(2))
    assert one.xs.shape == (5, 6, 3) and one.ys.shape == (5, 6, 2)
    assert one.x_query.shape == (5, 4, 3) and one.y_query.shape == (5, 4, 2)
    assert one.xs.dtype == torch.float32 and one.weights is None
    assert_close(one.ys, again.ys, rtol=0, atol=0)
    assert (one.ys - other.ys).abs().max() > 0.1
    double = task.sample(5, 6, generator=seeded(1), dtype=torch.float64)
    assert_close(double.ys.float(), one.ys)


@pytest.mark.parametrize("noise_std", [0.0, 0.5])
def test_targets_have_the_covariance_of_the_kernel(noise_std):
    # Whitening by the kernel's matrix leaves independent numbers of variance 1 for any inputs.
    task = GaussianProcess(kernel=RBFKernel(), d=2, noise_std=noise_std)
    batch = task.sample(20_000, 3, generator=seeded(3), dtype=torch.float64)
    x = torch.cat([batch.xs, batch.x_query], 1)
    y = torch.cat([batch.ys, batch.y_query], 1)
    covariance = RBFKernel()(x, x) + (noise_std**2 + 1e-9) * torch.eye(4, dtype=torch.float64)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), y, upper=False)[..., 0]
    assert_close(white.T @ white / len(white), torch.eye(4).double(), rtol=0, atol=0.06)
    assert white.mean(0).abs().max() < 0.03


def test_the_linear_kernel_gives_linear_regression():
    batch = GaussianProcess(kernel=LinearKernel(), d=3).sample(
        50, 8, generator=seeded(4), dtype=torch.float64
    )
    assert_close(OrdinaryLeastSquares()(*batch.context), batch.y_query, rtol=1e-6, atol=1e-6)


def test_inputs_have_the_norm_asked_for_and_point_everywhere():
    batch = GaussianProcess(kernel=LinearKernel(), d=3, input_norm=0.7).sample(
        4000, 2, generator=seeded(5), dtype=torch.float64
    )
    assert_close(batch.xs.norm(dim=-1), torch.full((4000, 2), 0.7, dtype=torch.float64))
    directions = batch.xs.flatten(0, 1) / 0.7
    assert_close(directions.T @ directions / 8000, torch.eye(3).double() / 3, rtol=0, atol=0.02)


def test_no_predictor_beats_the_posterior_mean_and_noise_is_part_of_it():
    task = GaussianProcess(kernel=RBFKernel(), d=2, noise_std=0.3, n_query=5)
    batch = task.sample(3000, 6, generator=seeded(6), dtype=torch.float64)

    def error(learner):
        return (learner(*batch.context) - batch.y_query).square().mean().item()

    bayes = error(KernelRidge(RBFKernel(), 0.3**2))
    for other in (KernelRidge(RBFKernel(), 0.3), KernelRidge(RBFKernel(2.0), 0.09)):
        assert error(other) > 1.02 * bayes


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"d": 0}, "d: got 0"),
        ({"n_query": 0}, "n_query: got 0"),
        ({"input_norm": 0.0}, "input_norm: got 0.0"),
        ({"noise_std": -1.0}, "noise_std: got -1.0"),
    ],
)
def test_wrong_settings_are_named(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        GaussianProcess(**({"kernel": LinearKernel(), "d": 2} | change))


@pytest.mark.parametrize("kernel", [SoftmaxWeights(), lambda a, b: -(a @ b.mT)])
def test_what_is_no_covariance_is_refused(kernel):
    with pytest.raises(ValueError, match="kernel: not symmetric and positive semi-definite"):
        GaussianProcess(kernel=kernel, d=3).sample(2, 4, generator=seeded(0))
