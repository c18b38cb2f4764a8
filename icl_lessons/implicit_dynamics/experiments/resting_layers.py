"""What a layer of linear attention computes while its training rests.

At a rest its matrix ``M`` is near a fixed point of training. Then it should be principal component
regression with as many of the population's components, and a test with noisy labels or with tasks
in few directions may like it better than the end of training.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.estimators.preconditioned_law import Matrix, preconditioned_population_loss
from icl_lessons.implicit_dynamics.training_plateaus import (
    MergedHeads,
    PrincipalComponentRegression,
    attention_matrices,
)
from icl_lessons.models.attention import linear_attention
from icl_lessons.models.tokens import joint_tokens
from icl_lessons.runtime import seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Batch

TEST_SEED = 2_503_000
TASKS = ("all directions", "two largest", "two smallest")
# For each seed the matrix M at its rests, by the number of components of the nearest fixed point.
Resting = Sequence[dict[int, Matrix]]


def _prompt_components(batch: Batch, components: int) -> Float[Tensor, "batch 1 1"]:
    """Principal component regression with the components of each prompt's own inputs."""
    n = batch.xs.shape[1]
    values, vectors = torch.linalg.eigh(batch.xs.mT @ batch.xs / n)
    kept = vectors[..., -components:]
    inverse = kept / values[:, None, -components:] @ kept.mT
    return batch.ys.mT @ batch.xs / n @ inverse @ batch.x_query.mT


def regressions(
    covariances: Float[Tensor, "seeds d d"], resting: Resting, n_context: int, *, n_test: int
) -> dict[str, np.ndarray]:
    """The resting layers beside principal component regressions, on sampled contexts.

    Args:
        covariances: of the inputs, one for each seed.
        resting: one for each seed.
        n_context: examples in a context.
        n_test: contexts for each seed.

    Returns:
        ``regression_gap``, ``prompt_gap`` and ``prompt_loss``, each ``[components, seeds]`` from
        one component on; ``nan`` at fixed points that a seed did not visit.
    """
    names = ("regression_gap", "prompt_gap", "prompt_loss")
    d = covariances.shape[-1]
    found = {name: np.full((d, len(covariances)), np.nan) for name in names}
    for j, (covariance, products) in enumerate(zip(covariances, resting, strict=True)):
        rows = tuple(map(tuple, covariance.tolist()))
        batch = LinearRegression(d=d, input_law="normal", covariance=rows).sample(
            n_test, n_context, generator=seeded(TEST_SEED + j), dtype=torch.float64
        )
        tokens = joint_tokens(*batch.context)
        for m, product in products.items():
            if m == 0:
                continue
            layer = MergedHeads(product.new_ones(1), product[None])
            seen = linear_attention(tokens, *attention_matrices(layer, n_context))[:, -1:, -1:]
            meant = PrincipalComponentRegression(covariance, m)(*batch.context)
            other = _prompt_components(batch, m)
            size = meant.square().mean()
            values = (
                (seen - meant).square().mean() / size,
                (seen - other).square().mean() / size,
                (other - batch.y_query).square().mean(),
            )
            for name, value in zip(names, values, strict=True):
                found[name][m - 1, j] = value
    return found


def early_stops(
    covariances: Float[Tensor, "seeds d d"],
    bases: Float[Tensor, "seeds d d"],
    resting: Resting,
    n_context: int,
    *,
    noises: Sequence[float],
) -> dict[str, np.ndarray]:
    """Exact test losses of the resting layers with noisy labels, and with tasks in a subspace.

    Args:
        covariances, resting, n_context: as for :func:`regressions`.
        bases: eigenvectors as columns, the largest eigenvalues first.
        noises: variances of the noise on the labels of test contexts.

    Returns:
        ``noises``; ``noise_losses``, ``E (y_hat - w.x)^2``, ``[noises, components, seeds]``; and
        ``task_losses``, over what predicting 0 has, ``[tasks, components, seeds]``. Components from
        none on; ``nan`` at fixed points that a seed did not visit.
    """
    d = covariances.shape[-1]
    noise = np.full((len(noises), d + 1, len(resting)), np.nan)
    tasks = np.full((len(TASKS), d + 1, len(resting)), np.nan)
    for j, (covariance, basis, products) in enumerate(
        zip(covariances, bases, resting, strict=True)
    ):
        large, small = (part @ part.T for part in (basis[:, :2], basis[:, -2:]))
        laws = (torch.eye(d, dtype=torch.float64), large, small)
        for m, product in products.items():
            setting = product, covariance, n_context
            for i, variance in enumerate(noises):
                noise[i, m, j] = 2 * preconditioned_population_loss(*setting, variance)
            for i, law in enumerate(laws):
                loss = 2 * preconditioned_population_loss(*setting, task_variance=law)
                tasks[i, m, j] = loss / (law @ covariance).trace()
    return {"noises": np.array(noises), "noise_losses": noise, "task_losses": tasks}
