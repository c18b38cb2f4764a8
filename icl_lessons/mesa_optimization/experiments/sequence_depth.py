"""Linear attention trained on sequences: does each layer buy a step of a solver?"""

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.mesa_optimization.figures import sequence_depth as figures
from icl_lessons.mesa_optimization.sequence_construction import (
    next_step_descent,
    next_step_least_squares,
)
from icl_lessons.mesa_optimization.trained_sequences import (
    TunedSolver,
    best_regularization,
    best_step_size,
    from_second,
    next_state_loss,
    position_losses,
)
from icl_lessons.models.state_sequence import StateTransformer, StateTransformerConfig
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.dynamics import Dynamics
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, models_from, recipe

VALIDATION_SEED, STEP_SEED = 2_309_003, 2_309_007


@dataclass(frozen=True, kw_only=True)
class PairsModel:
    """One of the trained models: attention alone on tokens ``(0, s_t, ..., s_t, s_{t-1})``.

    Attributes:
        name: what the result calls it.
        blocks: kinds of its layers.
        copies: of ``s_t`` in a token. Proposition 1 needs one, Proposition 2 a second to work on.
        steps, learning_rate: of the training.
    """

    name: str
    blocks: tuple[str, ...]
    copies: int = 2
    steps: int = 1000
    learning_rate: float = 5e-3


LESSON_MODELS = (
    PairsModel(name="1 layer", blocks=("linear",), copies=1, steps=800),
    PairsModel(name="2 layers", blocks=("linear",) * 2),
    PairsModel(name="4 layers", blocks=("linear",) * 4, steps=1600),
    PairsModel(name="mesa layer", blocks=("mesa",), copies=1, steps=400, learning_rate=1e-2),
)


@dataclass(frozen=True, kw_only=True)
class SequenceDepthTraining:
    """What the trained weights depend on.

    Attributes:
        d, length, noise_std: of the sequences, fully observed and linear.
        models: the shapes.
        solver_steps: preconditioning steps of the tuned solvers.
        solver_updates: of the numbers of each tuned solver.
        batch_size, clip: of every training.
        seeds: one model of each shape for each; the tuned solvers have one run only.
    """

    d: int = 4
    length: int = 20
    noise_std: float = 0.1
    models: tuple[PairsModel, ...] = LESSON_MODELS
    solver_steps: tuple[int, ...] = (0, 1, 2, 3, 7)
    solver_updates: int = 600
    batch_size: int = 64
    clip: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "length", "solver_updates", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("noise_std", self.noise_std)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def task(self) -> Dynamics:
        """The sequences."""
        return Dynamics(d=self.d, noise_std=self.noise_std)

    def build(self, model: PairsModel, generator: torch.Generator) -> StateTransformer:
        """A model before training."""
        shape = StateTransformerConfig(
            d=self.d,
            tokens="pairs",
            blocks=model.blocks,
            copies=model.copies,
            max_length=self.length,
            regularization=10.0,
        )
        return StateTransformer(shape, generator=generator)

    def run(self, steps: int, learning_rate: float, seeds: tuple[int, ...]) -> TrainingConfig:
        """Settings of one training."""
        return TrainingConfig(
            steps=steps,
            batch_size=self.batch_size,
            n_context=self.length,
            learning_rate=learning_rate,
            schedule="linear_decay",
            clip=self.clip,
            seeds=seeds,
        )


def trained_models(state: State, config: SequenceDepthTraining, name: str):
    """The models of one shape, one for each seed."""
    model = next(model for model in config.models if model.name == name)
    return models_from(config.build(model, seeded(0)), state, f"{name}.")


def tuned_solver(state: State, config: SequenceDepthTraining, steps: int, shared: bool):
    """The solver of so many steps, with one size for all steps or one for each."""
    template = TunedSolver(steps, shared=shared, length=config.length)
    return models_from(template, state, f"{'shared' if shared else 'own'} {steps}.")[0]


def _measure(state: State, config: SequenceDepthTraining) -> dict[str, float]:
    """Loss from the second prediction on, of every model and solver."""
    states = config.task.sample(1024, config.length, generator=seeded(VALIDATION_SEED)).states
    losses = {}
    for model in config.models:
        trained = trained_models(state, config, model.name)
        for seed, one in zip(config.seeds, trained, strict=True):
            losses[f"{model.name} {seed}"] = from_second(position_losses(one, states)).item()
    for steps in config.solver_steps:
        for shared in (True, False):
            solver = tuned_solver(state, config, steps, shared)
            losses[f"{steps} {shared}"] = from_second(position_losses(solver, states)).item()
    return losses


@recipe("sequence_depth", config=SequenceDepthTraining(), measure=_measure)
def sequence_depth_weights(config: SequenceDepthTraining) -> State:
    """Weights of every model as ``name.weight``, numbers of the solvers as ``shared 2.number``."""
    state: State = {}
    how = {"loss": next_state_loss, "progress": False, "device": config.device}
    for model in config.models:
        run = train(
            functools.partial(config.build, model),
            config.task,
            config.run(model.steps, model.learning_rate, config.seeds),
            **how,
        )
        state |= {f"{model.name}.{name}": tensor for name, tensor in run.state.items()}
    for steps in config.solver_steps:
        for shared in (True, False):
            solver = TunedSolver(steps, shared=shared, length=config.length)
            run = train(solver, config.task, config.run(config.solver_updates, 0.05, (0,)), **how)
            name = "shared" if shared else "own"
            state |= {f"{name} {steps}.{key}": tensor for key, tensor in run.state.items()}
    return state


@dataclass(frozen=True, kw_only=True)
class SequenceDepthConfig:
    """Settings of :func:`sequence_depth`; the defaults are the lesson's.

    Attributes:
        training: how the models are trained.
        n_validation: sequences on which everything is measured; as many others fix the step size.
        regularizations: ``lambda`` of least squares; the best on the other sequences is taken.
        seeds: one model of each shape; overrides those of ``training``.
        device: where to train.
    """

    training: SequenceDepthTraining = SequenceDepthTraining()
    n_validation: int = 2048
    regularizations: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_validation", self.n_validation, at_least=1)
        for value in self.regularizations:
            check_number("regularizations", value, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class SequenceDepthResult:
    """What came of it. Losses are ``1/2 E |f_t - s_{t+1}|^2``, for ``t = 1, ..., T - 1``.

    Attributes:
        names: of the trained models.
        losses: ``[models, seeds, predictions]``.
        zero, descent, least_squares: of predicting 0, of one gradient step of the best size, and of
            regularised least squares on every prefix, ``[predictions]``.
        step_size: of that step, on a loss that is a sum over pairs.
        regularization: ``lambda`` of least squares.
        noise_floor: what no predictor beats.
        solver_steps: preconditioning steps of the tuned solvers.
        shared, own: their losses with one step size for all steps, and with one for each,
            ``[solvers, predictions]``.
        cosine: between the predictions of the one-layer model and of the gradient step, mean over
            predictions from the second on, ``[seeds]``.
    """

    names: tuple[str, ...]
    losses: Float[np.ndarray, "models seeds predictions"]
    zero: Float[np.ndarray, " predictions"]
    descent: Float[np.ndarray, " predictions"]
    least_squares: Float[np.ndarray, " predictions"]
    step_size: float
    regularization: float
    noise_floor: float
    solver_steps: tuple[int, ...]
    shared: Float[np.ndarray, "solvers predictions"]
    own: Float[np.ndarray, "solvers predictions"]
    cosine: Float[np.ndarray, " seeds"]
    models: dict[str, tuple[StateTransformer, ...]] = field(
        repr=False, default_factory=dict, metadata={"stored": False}
    )

    def mean(self, name: str) -> np.ndarray | np.floating:
        """Loss from the second prediction on: of a model, one number a seed, or of a reference."""
        losses = self.losses[self.names.index(name)] if name in self.names else getattr(self, name)
        return from_second(losses)

    def summary(self) -> str:
        """Losses from the second prediction on."""
        lines = [
            f"predicting 0 {self.mean('zero'):.3f}, one step {self.mean('descent'):.3f} "
            f"(size {self.step_size:.4f}), least squares {self.mean('least_squares'):.3f} "
            f"(lambda {self.regularization:g}), noise {self.noise_floor:.3f}"
        ]
        for name in self.names:
            lines.append(f"{name:<12}" + " ".join(f"{v:.3f}" for v in self.mean(name)))
        for k, shared, own in zip(
            self.solver_steps, self.mean("shared"), self.mean("own"), strict=True
        ):
            lines.append(f"solver, {k} steps of one size {shared:.3f}, of own sizes {own:.3f}")
        lines.append("cosine with one step " + " ".join(f"{v:.3f}" for v in self.cosine))
        return "\n".join(lines)


@experiment(
    "sequence_depth",
    paper="vonoswald2023uncovering",
    chapter="mesa_optimization/sequence_models",
    configs={
        Scale.LESSON: SequenceDepthConfig(),
        Scale.PAPER: SequenceDepthConfig(
            training=SequenceDepthTraining(
                d=10,
                length=50,
                models=tuple(
                    PairsModel(
                        name=f"{k} layer{'s' * (k > 1)}",
                        blocks=("linear",) * k,
                        copies=1 + (k > 1),
                        steps=20_000,
                        learning_rate=1e-3,
                    )
                    for k in (1, 2, 4, 6)
                )
                + (LESSON_MODELS[-1],),
                batch_size=256,
                seeds=(0, 1, 2, 3, 4),
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.sequence_depth,
)
def sequence_depth(config: SequenceDepthConfig) -> SequenceDepthResult:
    """Linear attention of one, two and four layers on sequences, beside solvers of their depth."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    task, length = training.task, training.length
    with one_thread():
        state = sequence_depth_weights(training)
        with torch.no_grad():
            states, other = (
                task.sample(config.n_validation, length, generator=seeded(seed)).states
                for seed in (VALIDATION_SEED, STEP_SEED)
            )
            step_size = best_step_size(other)

            def descent(seen):
                return next_step_descent(seen, step_size)[1]

            best = best_regularization(other, config.regularizations)
            squares = functools.partial(next_step_least_squares, regularization=best)
            models = {
                m.name: tuple(trained_models(state, training, m.name)) for m in training.models
            }
            stepped = descent(states[:, :-1])[:, 1:]
            first = models[training.models[0].name]
            cosines = [
                torch.cosine_similarity(model(states[:, :-1])[:, 1:], stepped, dim=-1).mean().item()
                for model in first
            ]

            def losses(predictor) -> np.ndarray:
                return position_losses(predictor, states).numpy()

            def of_solvers(shared: bool) -> np.ndarray:
                return np.stack(
                    [
                        losses(tuned_solver(state, training, k, shared))
                        for k in training.solver_steps
                    ]
                )

            return SequenceDepthResult(
                names=tuple(models),
                losses=np.stack([[losses(model) for model in row] for row in models.values()]),
                zero=losses(torch.zeros_like),
                descent=losses(descent),
                least_squares=losses(squares),
                step_size=step_size,
                regularization=best,
                noise_floor=task.noise_floor,
                solver_steps=training.solver_steps,
                shared=of_solvers(True),
                own=of_solvers(False),
                cosine=np.array(cosines),
                models=models,
            )
