"""What can be read from trained sequence models by layer, and where their first layer looks."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.measures.probes import probe_errors
from icl_lessons.mesa_optimization.experiments.sequence_depth import (
    PairsModel,
    SequenceDepthTraining,
    sequence_depth_weights,
    trained_models,
)
from icl_lessons.mesa_optimization.experiments.sequence_hybrids import (
    SequenceHybridsTraining,
    raw_models,
    sequence_hybrids_weights,
)
from icl_lessons.mesa_optimization.figures import sequence_probes as figures
from icl_lessons.mesa_optimization.preconditioned_sequence import preconditioned_queries
from icl_lessons.mesa_optimization.trained_sequences import first_attention
from icl_lessons.models.state_sequence import StateTransformer
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded

PROBE_SEED, UNTRAINED_SEED = 2_309_011, 2_309_013


@dataclass(frozen=True, kw_only=True)
class SequenceProbesConfig:
    """Settings of :func:`sequence_probes`; the defaults are the lesson's.

    Attributes:
        pairs: training of the models on pairs, of which the deepest linear one is probed.
        raw: training of the models on raw states, whose first blocks are probed.
        regularization: ``lambda`` of the preconditioned inputs that are looked for.
        positions: states seen, at which the deep model is probed.
        position: the same for the first blocks on raw states.
        lags: how far back the states lie that are looked for there, from 0.
        n_train, n_test: sequences that probes are fitted on, and measured on.
        seeds: of the models; overrides those of both trainings.
        device: where to train.
    """

    pairs: SequenceDepthTraining = SequenceDepthTraining()
    raw: SequenceHybridsTraining = SequenceHybridsTraining()
    regularization: float | int = 30.0
    positions: tuple[int, ...] = (5, 10, 15, 19)
    position: int = 12
    lags: tuple[int, ...] = (0, 1, 2, 3)
    n_train: int = 2000
    n_test: int = 1000
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("position", "n_train", "n_test"):
            check_integer(name, getattr(self, name), at_least=2)
        for position in self.positions:
            check_integer("positions", position, at_least=1)
            if position >= self.pairs.length:
                raise ValueError(f"positions: {position} of {self.pairs.length} has no next state")
        for lag in self.lags:
            check_integer("lags", lag, at_least=0)
        if max(self.lags) >= self.position:
            raise ValueError(f"lags: {max(self.lags)} states before state {self.position}")
        check_number("regularization", self.regularization, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class SequenceProbesResult:
    """What came of it. Errors are normalised: 0 for exact, 1 for no better than the mean.

    Attributes:
        positions: states seen.
        target: error of a probe of ``s_{t+1}`` in the deep model's stream before the first layer
            and after each, ``[seeds, layers + 1, positions]``.
        preconditioned: the same of ``H_t s_t``, the input that least squares would use.
        untrained_target, untrained_preconditioned: in a model before training,
            ``[layers + 1, positions]``.
        names: of the models on raw states.
        lags: how far back.
        previous: error of a probe of ``s_{t-lag}`` in the stream after the first block,
            ``[models, seeds, lags]``.
        untrained_previous: in a model before training, ``[lags]``.
        looks: share of the first block's attention at each lag, ``[models, seeds, heads, lags]``,
            at the same position.
        looks_vary: standard deviation of the share on the previous state from sequence to sequence,
            ``[models, seeds, heads]``.
    """

    positions: Int[np.ndarray, " positions"]
    target: Float[np.ndarray, "seeds layers positions"]
    preconditioned: Float[np.ndarray, "seeds layers positions"]
    untrained_target: Float[np.ndarray, "layers positions"]
    untrained_preconditioned: Float[np.ndarray, "layers positions"]
    names: tuple[str, ...]
    lags: Int[np.ndarray, " lags"]
    previous: Float[np.ndarray, "models seeds lags"]
    untrained_previous: Float[np.ndarray, " lags"]
    looks: Float[np.ndarray, "models seeds heads lags"]
    looks_vary: Float[np.ndarray, "models seeds heads"]

    def summary(self) -> str:
        """Errors by layer at the last position, and by lag."""

        def line(name, row) -> str:
            return f"{name:<34}" + " ".join(f"{value:.3f}" for value in row)

        lines = [
            line("next state, by layer", self.target[..., -1].mean(0)),
            line("  before training", self.untrained_target[:, -1]),
            line("preconditioned input, by layer", self.preconditioned[..., -1].mean(0)),
            line("  before training", self.untrained_preconditioned[:, -1]),
            line("state before, by lag, untrained", self.untrained_previous),
        ]
        for i, name in enumerate(self.names):
            lines.append(line(f"{name}: by lag", self.previous[i].mean(0)))
            lines.append(line("  attention by lag, its best head", self._best_head(i)))
            lines.append(line("  and how it varies", self.looks_vary[i].mean(0)))
        return "\n".join(lines)

    def _best_head(self, model: int) -> Float[np.ndarray, " lags"]:
        best = self.looks[model, :, :, 1].argmax(1)
        return np.mean(
            [looks[head] for looks, head in zip(self.looks[model], best, strict=True)], 0
        )


def _of_deep(models: list[StateTransformer], states: Tensor, config: SequenceProbesConfig):
    """Both probes of every layer, for each model."""
    seen, following = states[:, :-1], states[:, 1:]
    wanted = preconditioned_queries(seen.double(), config.regularization)
    places = [position - 1 for position in config.positions]
    found = []
    for model in models:
        streams = model.streams(seen)
        found.append(
            [
                probe_errors(streams, targets, config.n_train, positions=places).numpy()
                for targets in (following, wanted)
            ]
        )
    return np.stack([one for one, _ in found]), np.stack([two for _, two in found])


def _of_first_block(model: StateTransformer, states: Tensor, config: SequenceProbesConfig):
    """Probes of earlier states after the first block."""
    place = config.position - 1
    stream = model.streams(states[:, : config.position])[1][:, place]
    shifted = torch.stack([states[:, place - lag] for lag in config.lags], 1)
    copies = [stream[:, None].expand(-1, len(config.lags), -1)]
    return probe_errors(copies, shifted, config.n_train, positions=range(len(config.lags)))[
        0
    ].numpy()


def _looks(model: StateTransformer, states: Tensor, config: SequenceProbesConfig):
    """Mean attention by lag of each head, and how that on the state before varies."""
    place = config.position - 1
    attention = first_attention(model, states[:, : config.position])[:, :, place]
    by_lag = attention[..., [place - lag for lag in config.lags]]
    return by_lag.mean(0).numpy(), attention[..., place - 1].std(0).numpy()


@experiment(
    "sequence_probes",
    paper="vonoswald2023uncovering",
    chapter="mesa_optimization/sequence_models",
    configs={
        Scale.LESSON: SequenceProbesConfig(),
        Scale.PAPER: SequenceProbesConfig(
            pairs=SequenceDepthTraining(
                d=10,
                length=50,
                models=(PairsModel(name="6 layers", blocks=("linear",) * 6, steps=20_000),),
                solver_steps=(),
                batch_size=256,
                seeds=(0, 1, 2, 3, 4),
            ),
            raw=SequenceHybridsTraining(
                d=10, length=50, width=40, mlp_ratio=4, batch_size=256, learning_rate=1e-3
            ),
            positions=(10, 20, 30, 49),
            position=30,
            n_train=20_000,
            n_test=5_000,
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.sequence_probes,
)
def sequence_probes(config: SequenceProbesConfig) -> SequenceProbesResult:
    """Probes of trained sequence models: next states, preconditioned inputs, states before."""
    pairs, raw = (
        replace(training, seeds=config.seeds, device=config.device)
        for training in (config.pairs, config.raw)
    )
    deepest = max(
        (model for model in pairs.models if set(model.blocks) == {"linear"}),
        key=lambda model: len(model.blocks),
    )
    with one_thread():
        of_pairs, of_raw = sequence_depth_weights(pairs), sequence_hybrids_weights(raw)
        with torch.no_grad():
            n = config.n_train + config.n_test
            states = pairs.task.sample(n, pairs.length, generator=seeded(PROBE_SEED)).states
            target, wanted = _of_deep(trained_models(of_pairs, pairs, deepest.name), states, config)
            fresh = [pairs.build(deepest, seeded(UNTRAINED_SEED))]
            fresh_target, fresh_wanted = _of_deep(fresh, states, config)
            states = raw.task.sample(n, raw.length, generator=seeded(PROBE_SEED + 1)).states
            models = {model.name: raw_models(of_raw, raw, model.name) for model in raw.models}
            first = raw.build(raw.models[0], seeded(UNTRAINED_SEED))
            previous = [
                [_of_first_block(m, states, config) for m in row] for row in models.values()
            ]
            looks = [[_looks(m, states, config) for m in row] for row in models.values()]
            return SequenceProbesResult(
                positions=np.array(config.positions),
                target=target,
                preconditioned=wanted,
                untrained_target=fresh_target[0],
                untrained_preconditioned=fresh_wanted[0],
                names=tuple(models),
                lags=np.array(config.lags),
                previous=np.array(previous),
                untrained_previous=_of_first_block(first, states, config),
                looks=np.array([[one for one, _ in row] for row in looks]),
                looks_vary=np.array([[two for _, two in row] for row in looks]),
            )
