"""The matrices of one layer that are found from prompts, by least squares and with Adam."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from icl_lessons.estimators.preconditioned_law import preconditioned_population_loss
from icl_lessons.gradient_descent.preconditioning import fitted_preconditioner
from icl_lessons.gradient_descent.trained_layer import untrained_layer
from icl_lessons.runtime import check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.mixtures import GaussianRegression, RandomCovariances, rows
from icl_lessons.training import TrainingConfig, train
from icl_lessons.types import Batch
from icl_lessons.zoo import State, recipe

CHUNK = 20_000  # prompts held at once
FIT, ROTATION, THETA, RANDOM, NONLINEAR, SLOPE = range(6)  # what a seed is used for


@dataclass(frozen=True, kw_only=True)
class PreconditionerFits:
    """What the matrices depend on; the defaults are the lesson's.

    Attributes:
        standard_deviations: of the inputs along their principal axes; ``d`` is their number. The
            defaults are those of [ahn2023transformers].
        n_context: ``N`` of training.
        seeds: one draw each of the axes, the prompts, and the starts of training.
        n_prompts: for the least-squares fit; half as many for nonlinear targets, an eighth for
            random covariances.
        steps, batch_size, learning_rate: of the layer trained with Adam on sampled prompts.
        random_lengths: ``N`` of training on random covariances.
        links: nonlinear targets.
        device: where to compute.
    """

    standard_deviations: tuple[float, ...] = (1.0, 1.0, 0.5, 0.25, 1.0)
    n_context: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)
    n_prompts: int = 400_000
    steps: int = 600
    batch_size: int = 512
    learning_rate: float = 6e-3
    random_lengths: tuple[int, ...] = (20, 100)
    links: tuple[str, ...] = ("identity", "tanh", "sign")
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_context", "n_prompts", "steps", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        for value in self.standard_deviations:
            check_number("standard_deviations", value, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def d(self) -> int:
        """Coordinates of an input."""
        return len(self.standard_deviations)

    def covariance(self, seed: int) -> Tensor:
        """``U^T diag(variances) U`` with the axes ``U`` of a seed."""
        start = torch.randn(self.d, self.d, generator=generator_for(seed, ROTATION))
        turn = torch.linalg.qr(start.double()).Q
        variances = torch.tensor(self.standard_deviations, dtype=torch.float64).square()
        sigma = turn.T @ torch.diag(variances) @ turn
        return (sigma + sigma.T) / 2

    def task(self, seed: int) -> GaussianRegression:
        """The prompts of a seed."""
        return GaussianRegression(d=self.d, covariance=rows(self.covariance(seed)))


def generator_for(seed: int, purpose: int) -> torch.Generator:
    """A stream of its own for each use of a seed."""
    return seeded(10 * seed + purpose)


def prompts(task: Any, n_context: int, count: int, generator: torch.Generator) -> Iterator[Batch]:
    """``count`` prompts, a part at a time."""
    for start in range(0, count, CHUNK):
        yield task.sample(min(CHUNK, count - start), n_context, generator=generator)


def _trained_matrix(config: PreconditionerFits, seed: int) -> Tensor:
    """``A`` of a full layer trained with Adam: ``-N u_y U^T`` of its two products."""
    run = train(
        functools.partial(untrained_layer, d=config.d, init_std=0.1),
        config.task(seed),
        TrainingConfig(
            steps=config.steps,
            batch_size=config.batch_size,
            n_context=config.n_context,
            learning_rate=config.learning_rate,
            schedule="linear_decay",
            clip=10.0,
            seeds=(seed,),
        ),
        progress=False,
        device=config.device,
    )
    layer = run.model().layers[0]
    corner = layer.projection_value()[0, -1, -1]
    matrix = -config.n_context * corner * layer.key_query()[0, : config.d, : config.d]
    return matrix.detach().double().cpu()


def _fits(config: PreconditionerFits, seed: int, tasks, lengths, purpose, share: int) -> Tensor:
    """A fitted matrix for each pair of a task and a length, ``[pairs, d, d]``.

    Each pair has prompts of its own, ``1 / share`` of the full number.
    """
    generator, count = generator_for(seed, purpose), config.n_prompts // share
    return torch.stack(
        [
            fitted_preconditioner(prompts(task, n, count, generator))
            for task, n in zip(tasks, lengths, strict=True)
        ]
    )


def _measure(state: State, config: PreconditionerFits) -> dict[str, float]:
    measured = {
        f"{name} {seed}": preconditioned_population_loss(
            matrix, config.covariance(seed), config.n_context
        ).item()
        for name in ("trained", "fitted")
        for seed, matrix in zip(config.seeds, state[name], strict=True)
    }
    for name in ("random", "linked"):
        measured[name] = state[name].diagonal(dim1=2, dim2=3).mean().item()
    return measured


@recipe("preconditioned_layer", config=PreconditionerFits(), measure=_measure)
def preconditioner_matrices(config: PreconditionerFits) -> State:
    """The matrices ``A``, one row for each seed.

    ``trained``: with Adam; ``fitted``: by least squares, both ``[seeds, d, d]``. By least squares
    too: ``random``, for random covariances, ``[seeds, lengths, d, d]``, and ``linked``, for
    nonlinear targets, ``[seeds, links, d, d]``.
    """
    d, n, found = config.d, config.n_context, []
    random = [RandomCovariances(d=d)] * len(config.random_lengths)
    linked = [GaussianRegression(d=d, link=link) for link in config.links]
    with one_thread():
        for seed in config.seeds:
            of = functools.partial(_fits, config, seed)
            with torch.no_grad():
                own = {
                    "fitted": of([config.task(seed)], [n], FIT, 1)[0],
                    "random": of(random, config.random_lengths, RANDOM, 8),
                    "linked": of(linked, [n] * len(linked), NONLINEAR, 2),
                }
            found.append(own | {"trained": _trained_matrix(config, seed)})
    return {name: torch.stack([own[name] for own in found]) for name in found[0]}
