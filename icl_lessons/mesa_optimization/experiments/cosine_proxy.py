"""The cosine as a proxy, over lengths of the targets; and what training makes of it."""

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.mesa_optimization.cosine_proxy import (
    LearnedValues,
    UnitVectors,
    agreement_at,
    inner_learner,
    inner_path,
    random_rotations,
    scores,
    turned,
    value_agreement,
    value_alignment,
)
from icl_lessons.mesa_optimization.figures import cosine_proxy as figures
from icl_lessons.mesa_optimization.objective_detector import detect_objective
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.training import TrainingConfig, train
from icl_lessons.types import Batch
from icl_lessons.zoo import State, models_from, recipe

TEST_SEED, START_SEED, TRAINED_SEED = 1_300_021, 1_300_031, 1_300_057
LOSSES = ("squared", "cosine")
STARTS = ("near", "far")
BASES = ("squared", "cosine")  # base objectives of the trained learners


@dataclass(frozen=True, kw_only=True)
class CosineProxyTraining:
    """What the learned value maps depend on.

    Attributes:
        d, n_context: of a context; its targets have length 1.
        hidden, layers: of the learner (:class:`LearnedValues`).
        batch_size, steps, learning_rate: of the training with Adam.
        seeds: one learner each, for each base objective.
    """

    d: int = 3
    n_context: int = 12
    hidden: int = 32
    layers: int = 4
    batch_size: int = 64
    steps: int = 1000
    learning_rate: float = 5e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "hidden", "layers", "batch_size", "steps"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)

    def untrained(self, generator: torch.Generator) -> LearnedValues:
        """A learner before training; torch's own start."""
        return LearnedValues(self.d, self.hidden, self.layers)


def other_rotation(batch: Batch, scale: float = 1.0) -> Tensor:
    """Start weights of length 1: the task of the batch's next context."""
    return batch.weights.roll(1, 0) / scale


def base_objective(model: LearnedValues, batch: Batch, name: str) -> Tensor:
    """``1/2 E |y_hat - y|^2``, or ``1 - E cos(y_hat, y)``, at the queries."""
    prediction = model(*batch.context, other_rotation(batch))
    if name == "squared":
        return 0.5 * (prediction - batch.y_query).square().sum(-1).mean()
    cosine = torch.nn.functional.cosine_similarity(prediction, batch.y_query, dim=-1)
    return 1 - cosine.mean()


def _test_batch(config: CosineProxyTraining, scale: float = 1.0, size: int = 1000) -> Batch:
    task = UnitVectors(d=config.d, target_scale=scale)
    return task.sample(size, config.n_context, generator=seeded(TRAINED_SEED))


def _models(state: State, config: CosineProxyTraining, base: str) -> list[LearnedValues]:
    return models_from(config.untrained(seeded(0)), state, f"{base}.")


def _measure(state: State, config: CosineProxyTraining) -> dict[str, float]:
    batch = _test_batch(config)
    with torch.no_grad():
        return {
            f"{base} {seed}": base_objective(model, batch, base).item()
            for base in BASES
            for seed, model in zip(config.seeds, _models(state, config, base), strict=True)
        }


@recipe("cosine_proxy", config=CosineProxyTraining(), measure=_measure)
def cosine_proxy_weights(config: CosineProxyTraining) -> State:
    """The value maps, named ``squared.*`` and ``cosine.*`` by base objective."""
    state: State = {}
    for base in BASES:
        run = train(
            config.untrained,
            UnitVectors(d=config.d),
            TrainingConfig(
                steps=config.steps,
                batch_size=config.batch_size,
                n_context=config.n_context,
                learning_rate=config.learning_rate,
                schedule="linear_decay",
                clip=1.0,
                seeds=config.seeds,
            ),
            loss=functools.partial(base_objective, name=base),
            progress=False,
            device=config.device,
        )
        state |= {f"{base}.{name}": value for name, value in run.state.items()}
    return state


@dataclass(frozen=True, kw_only=True)
class CosineProxyConfig:
    """Settings of :func:`cosine_proxy`; the defaults are the lesson's.

    Attributes:
        training: of the learned value maps; its seeds are replaced by ``seeds``.
        d, n_context, contexts: of the test contexts for the layers that are written down.
        angle: how far a ``near`` start is turned away from the task, in radians; a ``far`` start is
            an unrelated rotation. Both make predictions of length 1.
        scales: lengths of the targets.
        step_sizes: of the squared and of the cosine layer; ``steps`` layers
            each, of which the first ``path_steps`` are watched one by one.
        seeds: each draws its own contexts, and trains its own learners.
        device: where to train.
    """

    training: CosineProxyTraining = CosineProxyTraining()
    d: int = 4
    n_context: int = 12
    contexts: int = 32
    angle: float = 0.1
    scales: tuple[float, ...] = (0.33, 0.5, 1.0, 2.0, 3.0)
    step_sizes: tuple[float, float] = (1.0, 0.5)
    steps: int = 400
    path_steps: int = 40
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "contexts", "steps", "path_steps"):
            check_integer(name, getattr(self, name), at_least=1)
        for scale in (*self.scales, *self.step_sizes):
            check_number("scales, step_sizes", scale, positive=True)
        if not {1.0, 3.0} <= set(self.scales):
            raise ValueError(f"scales: got {self.scales}; include 1.0 and 3.0")
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class CosineProxyResult:
    """What came of it. Errors are ``E |y_hat - y|^2``, without a half, at the queries.

    Attributes:
        scales: lengths of the targets.
        agreement: cosine between the values of the two layers at a ``near`` start.
        angles, agreement_curve: the closed form for targets of length 1 and 3, ``[2, angles]``.
        path_cosine, path_error: from a ``far`` start on targets of length 3, for the squared and
            the cosine learner.
        final_cosine, final_error: after the last layer, by learner, start, seed and length.
        detected: whether the detector names the cosine for the cosine learner's first layer.
        squared_score: what share of that layer's step the squared loss would explain.
        trained_cosine, trained_error: of the learned value maps, by base objective.
        length_error: of the same predictions, each multiplied by the one number that suits all
            best; ``length`` is that number.
        trained_squared, trained_as_cosine: cosine of the learned values with those of the two
            losses; ``trained_radial``: their share along the prediction, 0 for the cosine loss.
        trained_detected: the loss that the detector names for the first learned layer, per seed, on
            targets of length 1; an empty string for none.
    """

    scales: Float[np.ndarray, " scales"]
    agreement: Float[np.ndarray, "seeds scales"]
    angles: Float[np.ndarray, " angles"]
    agreement_curve: Float[np.ndarray, "2 angles"]
    path_cosine: Float[np.ndarray, "2 seeds after"]
    path_error: Float[np.ndarray, "2 seeds after"]
    final_cosine: Float[np.ndarray, "2 2 seeds scales"]
    final_error: Float[np.ndarray, "2 2 seeds scales"]
    detected: Bool[np.ndarray, "seeds scales"]
    squared_score: Float[np.ndarray, "seeds scales"]
    trained_cosine: Float[np.ndarray, "2 seeds scales"]
    trained_error: Float[np.ndarray, "2 seeds scales"]
    length_error: Float[np.ndarray, "2 seeds scales"]
    length: Float[np.ndarray, "2 seeds scales"]
    trained_squared: Float[np.ndarray, "2 seeds scales"]
    trained_as_cosine: Float[np.ndarray, "2 seeds scales"]
    trained_radial: Float[np.ndarray, "2 seeds scales"]
    trained_detected: tuple[tuple[str, ...], ...]
    models: tuple[tuple[LearnedValues, ...], ...] = field(
        repr=False, default=(), metadata={"stored": False}
    )

    def at(self, scale: float) -> int:
        """The column of a length."""
        return int(np.flatnonzero(self.scales == scale)[0])

    def summary(self) -> str:
        """The result in a few lines; means over seeds."""
        one, three = self.at(1.0), self.at(3.0)
        lines = [f"{'length of the targets':<36}" + "".join(f"{s:9.2f}" for s in self.scales)]
        for name, rows in (
            ("agreement of the values, near", self.agreement),
            ("cosine learner, near: cosine", self.final_cosine[1, 0]),
            ("cosine learner, near: error", self.final_error[1, 0]),
            ("cosine learner, far: error", self.final_error[1, 1]),
            ("squared learner, far: error", self.final_error[0, 1]),
            ("squared loss explains of the step", self.squared_score),
            ("trained on the cosine: cosine", self.trained_cosine[1]),
            ("trained on the cosine: error", self.trained_error[1]),
            ("  with the best length: error", self.length_error[1]),
            ("  values like the squared loss's", self.trained_squared[1]),
            ("  values like the cosine loss's", self.trained_as_cosine[1]),
            ("trained on squares: error", self.trained_error[0]),
        ):
            lines.append(f"{name:<36}" + "".join(f"{v:9.4f}" for v in rows.mean(0)))
        lines.append(
            f"detector names the cosine: {self.detected[:, one].all()} at 1, "
            f"{self.detected[:, three].all()} at 3; for trained layers: {self.trained_detected}"
        )
        return "\n".join(lines)


def _trained(config: CosineProxyConfig) -> dict:
    training = replace(config.training, seeds=config.seeds, device=config.device)
    state = cosine_proxy_weights(training)
    models = tuple(tuple(_models(state, training, base)) for base in BASES)
    shape = (len(BASES), len(config.seeds), len(config.scales))
    out = {
        name: np.empty(shape)
        for name in ("trained_cosine", "trained_error", "length_error", "length")
        + ("trained_squared", "trained_as_cosine", "trained_radial")
    }
    for k, scale in enumerate(config.scales):
        batch = _test_batch(training, scale)
        start = other_rotation(batch, scale)
        for i, row in enumerate(models):
            for j, model in enumerate(row):
                prediction = model(*batch.context, start)
                along = (prediction * batch.y_query).sum() / prediction.square().sum()
                aligned = value_alignment(model, batch, start)
                cosine, error = scores(prediction, batch.y_query)
                out["trained_cosine"][i, j, k], out["trained_error"][i, j, k] = cosine, error
                out["length"][i, j, k] = along
                out["length_error"][i, j, k] = scores(along * prediction, batch.y_query)[1]
                out["trained_squared"][i, j, k] = aligned["squared"]
                out["trained_as_cosine"][i, j, k] = aligned["cosine"]
                out["trained_radial"][i, j, k] = aligned["radial"]
    batch = _test_batch(training, size=100)
    learners = [[model.learner(other_rotation(batch)) for model in row] for row in models]
    named = tuple(
        tuple(detect_objective(s.after(0), s.after(1), batch).loss or "" for s in row)
        for row in learners
    )
    return out | {"trained_detected": named, "models": models}


@experiment(
    "cosine_proxy",
    paper="hubinger2019risks",
    chapter="mesa_optimization/surgery",
    configs={
        Scale.LESSON: CosineProxyConfig(),
        Scale.PAPER: CosineProxyConfig(
            training=CosineProxyTraining(d=8, n_context=32, hidden=128, steps=5000, batch_size=256),
            d=8,
            n_context=32,
            contexts=256,
            steps=3000,
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.cosine_proxy,
)
def cosine_proxy(config: CosineProxyConfig) -> CosineProxyResult:
    """Run a layer that descends the cosine where targets are longer; train learners on it."""
    shape = (len(LOSSES), len(STARTS), len(config.seeds), len(config.scales))
    final = np.empty((*shape, 2))
    agreement, squared_score = np.empty(shape[2:]), np.empty(shape[2:])
    detected = np.empty(shape[2:], dtype=bool)
    paths = np.empty((len(LOSSES), len(config.seeds), config.path_steps + 1, 2))
    with one_thread(), torch.no_grad():
        for j, seed in enumerate(config.seeds):
            for k, scale in enumerate(config.scales):
                batch = UnitVectors(d=config.d, target_scale=scale).sample(
                    config.contexts, config.n_context, generator=seeded(TEST_SEED + seed)
                )
                chance = seeded(START_SEED + seed)
                starts = (
                    turned(batch.weights / scale, config.angle, generator=chance),
                    random_rotations(config.contexts, config.d, generator=chance),
                )
                agreement[j, k] = value_agreement(batch.xs @ starts[0].mT, batch.ys).mean().item()
                for i, (name, size) in enumerate(zip(LOSSES, config.step_sizes, strict=True)):
                    for s, start in enumerate(starts):
                        learner = inner_learner(name, size, config.steps, start)
                        final[i, s, j, k] = scores(learner(*batch.context), batch.y_query)
                    if scale == 3.0:
                        path = inner_path(name, size, config.path_steps, starts[1], batch)
                        paths[i, j] = path.numpy()
                layer = inner_learner("cosine", config.step_sizes[1], 1, starts[0])
                found = detect_objective(layer.after(0), layer, batch)
                detected[j, k] = found.loss == "cosine"
                squared_score[j, k] = found.scores["squared"]
        angles = torch.linspace(0.01, 3.0, 100)
        return CosineProxyResult(
            scales=np.array(config.scales),
            agreement=agreement,
            angles=angles.numpy(),
            agreement_curve=np.stack([agreement_at(angles, s).numpy() for s in (1, 3)]),
            path_cosine=paths[..., 0],
            path_error=paths[..., 1],
            final_cosine=final[..., 0],
            final_error=final[..., 1],
            detected=detected,
            squared_score=squared_score,
            **_trained(config),
        )
