"""The experiment on what one linear attention layer learns when inputs have a covariance."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from icl_lessons.declare import experiment
from icl_lessons.estimators.preconditioned_law import (
    optimal_preconditioner,
    preconditioned_population_loss,
)
from icl_lessons.gradient_descent.experiments.preconditioner_fits import (
    SLOPE,
    THETA,
    PreconditionerFits,
    generator_for,
    preconditioner_matrices,
    prompts,
)
from icl_lessons.gradient_descent.figures import preconditioning as figures
from icl_lessons.gradient_descent.preconditioning import (
    best_scalar_step,
    descend_from_balanced_start,
    distance_to_identity,
    nonlinear_optimal_step,
    preconditioned_attention,
    random_covariance_factor,
)
from icl_lessons.runtime import Scale, check_number, one_thread
from icl_lessons.tasks.mixtures import LINKS, GaussianRegression, rows


@dataclass(frozen=True, kw_only=True)
class PreconditionedLayerConfig(PreconditionerFits):
    """Settings of :func:`preconditioned_layer`: of what is found from prompts, and of the rest.

    Attributes:
        flow_updates, flow_learning_rate: of the descent on the exact loss.
        shifts: factors on all inputs of a test prompt; a tenth of ``n_prompts`` for each.
        shift_noise_std: of the targets in the comparison with least squares under a shift.
        test_lengths: ``M`` of test prompts; ``train_lengths``: ``N`` of the layers given them.
    """

    flow_updates: tuple[int, ...] = (0, *(int(10 ** (k / 4)) for k in range(4, 18)), 25_000)
    flow_learning_rate: float = 0.1
    shifts: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    shift_noise_std: float = 0.5
    test_lengths: tuple[int, ...] = tuple(int(10 * 2**k) for k in range(13))
    train_lengths: tuple[int, ...] = (10, 40, 160)

    def __post_init__(self):
        super().__post_init__()
        check_number("flow_learning_rate", self.flow_learning_rate, positive=True)

    @property
    def fits(self) -> PreconditionerFits:
        """The part that the matrices found from prompts depend on."""
        names = (f.name for f in dataclasses.fields(PreconditionerFits))
        return PreconditionerFits(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class PreconditionedLayerResult:
    """What came of it. Losses are ``1/2 E (y_hat - w.x_q)^2``, exact; one row for each seed.

    Attributes:
        covariance, optimal, fitted, trained: ``Lambda``, ``Gamma^{-1}``, the matrix by least
            squares over prompts, and that of the layer trained with Adam, ``[seeds, d, d]``.
        optimal_loss, zero_loss, scalar_loss, inverse_loss: of ``Gamma^{-1}``, of predicting 0, of
            the best multiple of ``I``, and of ``Lambda^{-1}``; the same for every seed.
        fitted_loss, trained_loss: of the two matrices found.
        flow_updates: updates of the descent on the exact loss before each look.
        flow_error: ``|A - Gamma^{-1}| / |Gamma^{-1}|`` then, ``[seeds, looks]``.
        flow_corner, stated_corner: the corner of ``P W_V`` at its end, and ``tr(Gamma^-2)^{1/4}``.
        shifts: factors ``c`` on the inputs.
        slope_ratio: slope of the layer's prediction against the target at ``c``, over that at 1,
            from prompts drawn afresh for each ``c``, ``[seeds, shifts]``.
        shift_loss, matched_loss, least_squares_loss, shift_zero_loss: of the layer made for
            ``c = 1``, of the layer made for each ``c``, of least squares, of predicting 0.
        train_lengths, test_lengths: ``N`` and ``M``.
        length_loss: of the layer made for ``N`` on prompts of ``M``, ``[N, M]``.
        length_floor: its limit for ``M`` without end.
        random_lengths: ``N`` of training on random covariances.
        random_factor, random_distance: mean diagonal of the fitted matrix, and its distance to a
            multiple of ``I``, ``[seeds, lengths]``.
        random_stated: ``N / (3N + d + 5)``.
        links: names of the targets' links.
        link_step, link_distance: mean diagonal and distance to ``I``, ``[seeds, links]``.
        link_stated: the step in closed form.
    """

    covariance: Float[np.ndarray, "seeds d d"]
    optimal: Float[np.ndarray, "seeds d d"]
    fitted: Float[np.ndarray, "seeds d d"]
    trained: Float[np.ndarray, "seeds d d"]
    optimal_loss: float
    zero_loss: float
    scalar_loss: float
    inverse_loss: float
    fitted_loss: Float[np.ndarray, " seeds"]
    trained_loss: Float[np.ndarray, " seeds"]
    flow_updates: Int[np.ndarray, " looks"]
    flow_error: Float[np.ndarray, "seeds looks"]
    flow_corner: Float[np.ndarray, " seeds"]
    stated_corner: float
    shifts: Float[np.ndarray, " shifts"]
    slope_ratio: Float[np.ndarray, "seeds shifts"]
    shift_loss: Float[np.ndarray, " shifts"]
    matched_loss: Float[np.ndarray, " shifts"]
    least_squares_loss: Float[np.ndarray, " shifts"]
    shift_zero_loss: Float[np.ndarray, " shifts"]
    train_lengths: Int[np.ndarray, " N"]
    test_lengths: Int[np.ndarray, " M"]
    length_loss: Float[np.ndarray, "N M"]
    length_floor: Float[np.ndarray, " N"]
    random_lengths: Int[np.ndarray, " lengths"]
    random_factor: Float[np.ndarray, "seeds lengths"]
    random_distance: Float[np.ndarray, "seeds lengths"]
    random_stated: Float[np.ndarray, " lengths"]
    links: tuple[str, ...]
    link_step: Float[np.ndarray, "seeds links"]
    link_distance: Float[np.ndarray, "seeds links"]
    link_stated: Float[np.ndarray, " links"]

    def relative_error(self, name: str, to: str = "optimal") -> Float[np.ndarray, " seeds"]:
        """``|A - B| / |B|`` of the matrix ``name``; ``to="inverse"`` for ``Lambda^{-1}``."""
        target = np.linalg.inv(self.covariance) if to == "inverse" else self.optimal
        gap = getattr(self, name) - target
        return np.linalg.norm(gap, axis=(1, 2)) / np.linalg.norm(target, axis=(1, 2))

    def summary(self) -> str:
        """The result in a few lines."""
        double = " ".join(f"{c:g}" for c in self.shifts)
        table = [
            ("least squares, to Gamma^-1", self.relative_error("fitted")),
            ("least squares, to Lambda^-1", self.relative_error("fitted", "inverse")),
            ("Adam, to Gamma^-1", self.relative_error("trained")),
            ("Adam, loss over the best", self.trained_loss / self.optimal_loss),
            ("exact descent, to Gamma^-1", self.flow_error[:, -1]),
            (f"slope ratio at c = {self.shifts[-1]:g}", self.slope_ratio[:, -1]),
            (f"random covariances, N = {self.random_lengths[-1]}", self.random_factor[:, -1]),
        ]
        lines = [
            f"losses, 1/2 E: predicting 0 {self.zero_loss:.4f}, Lambda^-1 {self.inverse_loss:.4f}, "
            f"best step {self.scalar_loss:.4f}, Gamma^-1 {self.optimal_loss:.4f}",
            f"under shifts {double}: " + " ".join(f"{v:.3g}" for v in self.shift_loss),
        ]
        lines += [f"{name:<32}" + "  ".join(f"{v:9.4g}" for v in row) for name, row in table]
        for i, link in enumerate(self.links):
            steps = "  ".join(f"{v:9.4f}" for v in self.link_step[:, i])
            lines.append(f"{link + ', step (stated ' + f'{self.link_stated[i]:.4f})':<32}{steps}")
        return "\n".join(lines)


def _slopes(config: PreconditionedLayerConfig, seed: int, matrix, covariance) -> list[float]:
    """Regression slope of the layer's prediction on the target, for inputs scaled by each shift."""
    learner = preconditioned_attention(matrix.float()[None], config.n_context)
    generator, slopes = generator_for(seed, SLOPE), []
    for c in config.shifts:
        task = GaussianRegression(d=config.d, covariance=rows(c**2 * covariance))
        products = squares = 0.0
        for batch in prompts(task, config.n_context, config.n_prompts // 10, generator):
            prediction = learner(*batch.context)
            products += (prediction * batch.y_query).double().sum().item()
            squares += batch.y_query.double().square().sum().item()
        slopes.append(products / squares)
    return slopes


@experiment(
    "preconditioned_layer",
    paper="ahn2023transformers",
    chapter="gradient_descent/deeper",
    configs={
        Scale.LESSON: PreconditionedLayerConfig(),
        Scale.PAPER: PreconditionedLayerConfig(
            seeds=(0, 1, 2, 3, 4), n_prompts=2_000_000, steps=10_000, batch_size=2048
        ),
    },
    figure=figures.preconditioned_layer,
)
def preconditioned_layer(config: PreconditionedLayerConfig) -> PreconditionedLayerResult:
    """Find the preconditioner of one layer by three roads, then shift the inputs under it."""
    d, n = config.d, config.n_context
    matrices = preconditioner_matrices(config.fits)
    trained, fitted, random, linked = (
        matrices[name] for name in ("trained", "fitted", "random", "linked")
    )
    with one_thread(), torch.no_grad():
        covariances = [config.covariance(seed) for seed in config.seeds]
        optimal = [optimal_preconditioner(sigma, n) for sigma in covariances]
        # The exact losses do not depend on the axes: those of the first seed stand for all.
        sigma, best, eye = covariances[0], optimal[0], torch.eye(d, dtype=torch.float64)
        thetas = [torch.randn(d, d, generator=generator_for(seed, THETA)) for seed in config.seeds]
        flow = descend_from_balanced_start(
            torch.stack(thetas).double(),
            sigma,
            n,
            learning_rate=config.flow_learning_rate,
            updates=config.flow_updates,
        )
        noise = config.shift_noise_std**2
        noisy_best = optimal_preconditioner(sigma, n, noise)
        shifts = np.array(config.shifts)

        def loss(matrix, covariance=sigma, length=n, variance=0.0) -> float:
            return preconditioned_population_loss(matrix, covariance, length, variance).item()

        slopes = np.array(
            [
                _slopes(config, *triple)
                for triple in zip(config.seeds, optimal, covariances, strict=True)
            ]
        )
        made_for = {m: optimal_preconditioner(sigma, m) for m in config.train_lengths}
        return PreconditionedLayerResult(
            covariance=torch.stack(covariances).numpy(),
            optimal=torch.stack(optimal).numpy(),
            fitted=fitted.numpy(),
            trained=trained.numpy(),
            optimal_loss=loss(best),
            zero_loss=loss(0 * eye),
            scalar_loss=best_scalar_step(sigma, n).loss,
            inverse_loss=loss(torch.linalg.inv(sigma)),
            fitted_loss=np.array([loss(a, s) for a, s in zip(fitted, covariances, strict=True)]),
            trained_loss=np.array([loss(a, s) for a, s in zip(trained, covariances, strict=True)]),
            flow_updates=np.array(flow.updates),
            flow_error=(
                (flow.preconditioner - best).flatten(2).norm(dim=2) / best.norm()
            ).T.numpy(),
            flow_corner=flow.projection_value[-1].numpy(),
            stated_corner=best.square().sum().item() ** 0.25,
            shifts=shifts,
            slope_ratio=slopes / slopes[:, [config.shifts.index(1.0)]],
            shift_loss=np.array([loss(noisy_best, c**2 * sigma, n, noise) for c in shifts]),
            matched_loss=np.array(
                [
                    loss(optimal_preconditioner(c**2 * sigma, n, noise), c**2 * sigma, n, noise)
                    for c in shifts
                ]
            ),
            # E x_q^T (X^T X)^{-1} x_q = d/(N - d - 1) for normal inputs of any covariance.
            least_squares_loss=np.full(len(shifts), 0.5 * noise * d / (n - d - 1)),
            shift_zero_loss=0.5 * shifts**2 * sigma.trace().item(),
            train_lengths=np.array(config.train_lengths),
            test_lengths=np.array(config.test_lengths),
            length_loss=np.array(
                [[loss(a, sigma, m) for m in config.test_lengths] for a in made_for.values()]
            ),
            length_floor=np.array([loss(a, sigma, math.inf) for a in made_for.values()]),
            random_lengths=np.array(config.random_lengths),
            random_factor=random.diagonal(dim1=2, dim2=3).mean(2).numpy(),
            random_distance=distance_to_identity(random).numpy(),
            random_stated=np.array([random_covariance_factor(m, d) for m in config.random_lengths]),
            links=config.links,
            link_step=linked.diagonal(dim1=2, dim2=3).mean(2).numpy(),
            link_distance=distance_to_identity(linked).numpy(),
            link_stated=np.array(
                [nonlinear_optimal_step(LINKS[link], d, n) for link in config.links]
            ),
        )
