"""The same training on sampled prompts, with every block of the attention layer trainable.

What the theory leaves out, put back: a finite set of prompts in place of the expected loss, and
the blocks that theory starts at 0 and never looks at again. Settings are those of the paper's
code: whole-batch gradient descent on 5000 prompts, nothing divided by ``N``.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment, words
from icl_lessons.implicit_dynamics.figures import sampled_plateaus as figures
from icl_lessons.implicit_dynamics.plateau_detector import Rests, find_rests
from icl_lessons.implicit_dynamics.training_plateaus import (
    in_random_basis,
    plateau_losses,
    rising_spectrum,
    stack_heads,
)
from icl_lessons.implicit_dynamics.whole_attention import (
    Descent,
    PromptMoments,
    WholeHeads,
    blocks,
    full_batch_descent,
    whole_heads,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Batch

START_SEED, BASIS_SEED, PROMPT_SEED, TEST_SEED = 2_511_000, 2_512_000, 2_513_000, 2_514_000
KINDS = ("merged", "separate")
STARTS = ("other blocks 0", "every block random")
PARTS = ("values of y, keys of x", "values of x, keys of y", "x and x", "y and y")


@dataclass(frozen=True, kw_only=True)
class SampledPlateausConfig:
    """Settings of :func:`sampled_plateaus`; the defaults are those of the paper's code.

    Attributes:
        d: coordinates of an input; the covariance's eigenvalues are as ``d, ..., 1``, sum 1.
        n_context: examples in a prompt.
        prompts: in the training set, their tasks whitened; ``n_test`` fresh ones to test on.
        heads, init, learning_rate, steps: of merged and of separate heads (of rank 1).
        seeds: a start, a basis and a training set each.
    """

    d: int = 4
    n_context: int = 31
    prompts: int = 5000
    n_test: int = 5000
    heads: tuple[int, int] = (8, 5)
    init: tuple[float, float] = (1e-6, 1e-2)
    learning_rate: tuple[float, float] = (1e-3, 0.02)
    steps: tuple[int, int] = (6000, 10_000)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "prompts", "n_test"):
            check_integer(name, getattr(self, name), at_least=1)
        for size, rate in zip(self.init, self.learning_rate, strict=True):
            check_number("init", size, positive=True)
            check_number("learning_rate", rate, positive=True)
        if self.prompts <= self.d:
            raise ValueError(f"prompts: got {self.prompts}; use more than d to whiten their tasks")


@dataclass(frozen=True, kw_only=True)
class SampledPlateausResult:
    """Losses are ``E (y_hat - y)^2`` without a half; the axes are merged or separate heads, how
    the other blocks start, seed.

    Attributes:
        plateaus: the theory's losses at 0, ..., D components, for the expected loss.
        steps, losses: of training, one entry for merged and one for separate heads:
            ``[moments]`` and ``[starts, seeds, moments]``.
        rests: what the detector finds.
        levels: for each rest, the components of the nearest of the theory's plateaus.
        shares: of the mean square of the predictions on test prompts that each of the layer's four
            parts would have alone, ``[kinds, starts, seeds, parts]``.
        test_loss, trained_loss: at the end.
        without_others: test loss at the end with all parts but the first left out.
    """

    plateaus: Float[np.ndarray, " rests"]
    steps: tuple[np.ndarray, ...]
    losses: tuple[np.ndarray, ...]
    rests: tuple[tuple[tuple[Rests, ...], ...], ...] = field(metadata={"stored": False})
    levels: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
    shares: Float[np.ndarray, "kinds starts seeds parts"]
    test_loss: Float[np.ndarray, "kinds starts seeds"]
    trained_loss: Float[np.ndarray, "kinds starts seeds"]
    without_others: Float[np.ndarray, "kinds starts seeds"]

    def drops(self) -> Float[np.ndarray, "kinds starts seeds"]:
        """How many drops each curve has."""
        return np.array(
            [[[float(len(r.drops)) for r in row] for row in kind] for kind in self.rests]
        )

    def summary(self) -> str:
        """The result in a few lines."""
        lines = [f"{'losses at the rests, theory':40s}{words(self.plateaus)}"]
        for i, kind in enumerate(KINDS):
            for j, start in enumerate(STARTS):
                for rests in self.rests[i][j]:
                    lines.append(f"{kind + ', ' + start:40s}{words(rests.losses)}")
                for name, share in zip(PARTS, self.shares[i, j].T, strict=True):
                    lines.append(f"  {'share of ' + name:38s}{words(share)}")
                lines.append(f"  {'test loss':38s}{words(self.test_loss[i, j])}")
                lines.append(f"  {'without other blocks':38s}{words(self.without_others[i, j])}")
        return "\n".join(lines)


def sampled_prompts(
    covariance: Float[Tensor, "d d"], n: int, size: int, seed: int, *, whiten: bool
) -> Batch:
    """Prompts of one covariance; whitened tasks have exactly the identity as second moment."""
    rows = tuple(map(tuple, covariance.tolist()))
    task = LinearRegression(d=len(covariance), input_law="normal", covariance=rows)
    batch = task.sample(size, n, generator=seeded(seed), dtype=torch.float64)
    if not whiten:
        return batch
    tasks = batch.weights[:, 0]
    values, vectors = torch.linalg.eigh(tasks.T @ tasks / size)
    white = (tasks @ (vectors * values.rsqrt()) @ vectors.T)[:, None]
    return Batch(batch.xs, batch.xs @ white.mT, batch.x_query, batch.x_query @ white.mT, white)


def _parts(layer: Tensor) -> list[Tensor]:
    """The layer's four parts, each as a layer of its own."""
    parts = [torch.zeros_like(layer) for _ in PARTS]
    for empty, part, block in zip(
        map(blocks, parts), range(len(PARTS)), blocks(layer), strict=True
    ):
        empty[part].copy_(block)
    return parts


def _nearest(rests: Rests, theory: np.ndarray) -> tuple[int, ...]:
    """For each rest the number of components whose plateau is nearest."""
    return tuple(np.abs(np.log(rests.losses[:, None] / theory)).argmin(1).tolist())


def _trained(config: SampledPlateausConfig, i: int, prompts: PromptMoments) -> Descent:
    """Both starts and all seeds at once."""
    size = config.init[i]

    def started(seed: int, other: float) -> WholeHeads:
        generator = seeded(START_SEED + seed)
        shape = (config.heads[i], config.d)
        return whole_heads(KINDS[i], *shape, size, generator, other_blocks=other)

    heads = [stack_heads([started(s, other) for s in config.seeds]) for other in (0.0, size)]
    return full_batch_descent(
        stack_heads(heads),
        prompts,
        steps=config.steps[i],
        learning_rate=config.learning_rate[i],
        keep_every=10,
    )


@experiment(
    "sampled_plateaus",
    paper="zhang2025training",
    chapter="implicit_dynamics/training_dynamics",
    configs={
        Scale.LESSON: SampledPlateausConfig(),
        Scale.PAPER: SampledPlateausConfig(n_test=20_000, seeds=(0, 1, 2, 3, 4)),
    },
    figure=figures.sampled_plateaus,
)
def sampled_plateaus(config: SampledPlateausConfig) -> SampledPlateausResult:
    """Whole attention layers on sampled prompts, with the blocks that theory leaves out."""
    eigenvalues = rising_spectrum(config.d)
    theory = plateau_losses(eigenvalues, config.n_context).numpy()
    shape = (len(KINDS), len(STARTS), len(config.seeds))
    shares, measured = np.empty((*shape, len(PARTS))), np.empty((3, *shape))
    steps, losses, rests, levels = [], [], [], []
    with one_thread():
        train, test = [], []
        for seed in config.seeds:
            covariance = in_random_basis(eigenvalues, seeded(BASIS_SEED + seed))
            for moments, size, first, whiten in (
                (train, config.prompts, PROMPT_SEED, True),
                (test, config.n_test, TEST_SEED, False),
            ):
                batch = sampled_prompts(
                    covariance, config.n_context, size, first + seed, whiten=whiten
                )
                moments.append(PromptMoments.of(batch, divide=False))
        prompts, unseen = stack_heads(train), stack_heads(test)
        for i in range(len(KINDS)):
            run = _trained(config, i, prompts)
            at, curves = run.steps.numpy(), run.losses.movedim(0, -1).contiguous().numpy()
            steps.append(at)
            losses.append(curves)
            rests.append(tuple(tuple(find_rests(at, loss) for loss in row) for row in curves))
            levels.append(tuple(tuple(_nearest(one, theory) for one in row) for row in rests[i]))
            end = run.layers[-1]
            parts = _parts(end)
            whole = unseen.square(end)
            shares[i] = torch.stack([unseen.square(p) / whole for p in parts], -1).numpy()
            ends = unseen.loss(end), prompts.loss(end), unseen.loss(parts[0])
            measured[:, i] = torch.stack(ends).numpy()
    return SampledPlateausResult(
        plateaus=theory,
        steps=tuple(steps),
        losses=tuple(losses),
        rests=tuple(rests),
        levels=tuple(levels),
        shares=shares,
        test_loss=measured[0],
        trained_loss=measured[1],
        without_others=measured[2],
    )
