"""Models trained on next states, given few-shot prompts; and a separator tuned for them."""

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.estimators.least_squares import ridge_prefix_predictions
from icl_lessons.mesa_optimization.experiments.sequence_hybrids import (
    SequenceHybridsTraining,
    raw_models,
    sequence_hybrids_weights,
)
from icl_lessons.mesa_optimization.figures import few_shot_sequences as figures
from icl_lessons.mesa_optimization.sequence_construction import (
    next_step_least_squares,
    overlapping_prompt,
)
from icl_lessons.mesa_optimization.trained_sequences import (
    SeparatedPrompts,
    prompt_loss,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.dynamics import FewShotPrompts
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, recipe

PROMPT_SEED = 2_309_017
TUNED = {"separator": False, "separator and beginning": True}


@dataclass(frozen=True, kw_only=True)
class FewShotTuning:
    """What the tuned separators depend on.

    Attributes:
        training: of the models, on next states; their weights stay as they are.
        names: of the models that get separators.
        steps, batch_size, learning_rate: of the tuning, on prompts of as many pairs as fit.
    """

    training: SequenceHybridsTraining = SequenceHybridsTraining()
    names: tuple[str, ...] = ("softmax, softmax", "softmax, mesa")
    steps: int = 150
    batch_size: int = 64
    learning_rate: float = 0.1
    device: str = "cpu"

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        known = [model.name for model in self.training.models]
        if missing := [name for name in self.names if name not in known]:
            raise ValueError(f"names: no model {missing[0]!r}; use some of {known}")

    @property
    def task(self) -> FewShotPrompts:
        """The prompts."""
        return FewShotPrompts(d=self.training.d)


def separated(state: State, config: FewShotTuning, name: str, prefix: bool, model, row: int):
    """A trained model with its tuned separators."""
    made = SeparatedPrompts(model, prefix=prefix)
    with torch.no_grad():
        made.separators.copy_(state[f"{name}.{prefix}"][row])
    return made.eval().requires_grad_(False)


def _measure(state: State, config: FewShotTuning) -> dict[str, float]:
    """Loss on prompts with the tuned separators, from the second pair on."""
    weights, losses = sequence_hybrids_weights(config.training), {}
    with torch.no_grad():
        for name in config.names:
            models = raw_models(weights, config.training, name)
            for prefix in TUNED.values():
                for row, model in enumerate(models):
                    made = separated(state, config, name, prefix, model, row)
                    sample = config.task.sample(512, made.most_pairs, generator=seeded(PROMPT_SEED))
                    losses[f"{name} {prefix} {row}"] = prompt_loss(made, sample).item()
    return losses


@recipe("few_shot_separators", config=FewShotTuning(), measure=_measure)
def few_shot_separators(config: FewShotTuning) -> State:
    """Separators as ``name.prefix``, ``[seeds, 1 or 2, width]``."""
    weights, state = sequence_hybrids_weights(config.training), {}
    for name in config.names:
        for prefix in TUNED.values():
            found = []
            for seed, model in zip(
                config.training.seeds, raw_models(weights, config.training, name), strict=True
            ):
                run = train(
                    lambda g, m=model, p=prefix: SeparatedPrompts(m, prefix=p, generator=g),
                    config.task,
                    TrainingConfig(
                        steps=config.steps,
                        batch_size=config.batch_size,
                        n_context=SeparatedPrompts(model, prefix=prefix).most_pairs,
                        learning_rate=config.learning_rate,
                        schedule="linear_decay",
                        clip=1.0,
                        seeds=(seed,),
                    ),
                    loss=prompt_loss,
                    progress=False,
                    device=config.device,
                )
                found.append(run.state["separators"][0])
            state[f"{name}.{prefix}"] = torch.stack(found)
    return state


@dataclass(frozen=True, kw_only=True)
class FewShotSequencesConfig:
    """Settings of :func:`few_shot_sequences`; the defaults are the lesson's.

    Attributes:
        tuning: of the separators, and which models they are for.
        n_prompts: on which everything is measured.
        regularization: ``lambda`` of the least-squares references.
        seeds: of the models; overrides those of the training.
        device: where to train.
    """

    tuning: FewShotTuning = FewShotTuning()
    n_prompts: int = 2048
    regularization: float | int = 30.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_prompts", self.n_prompts, at_least=1)
        check_number("regularization", self.regularization, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class FewShotSequencesResult:
    """What came of it. Losses are ``1/2 E |y_hat - y|^2`` after 0, 1, ... pairs, summed over ``d``.

    Attributes:
        names: of the models.
        plain: of each model on ``x_1, y_1, x_2, ...``, as it was trained, ``[models, seeds,
            pairs]``.
        separator, beginning: with a tuned separator, and with a tuned beginning as well; on shorter
            prompts, since separators take up positions.
        overlapping: of least squares on all neighbours of the plain prompt, ``[pairs]``.
        proper: of least squares on the pairs alone.
        empty: of least squares on all neighbours where a zero vector separates pairs.
    """

    names: tuple[str, ...]
    plain: Float[np.ndarray, "models seeds pairs"]
    separator: Float[np.ndarray, "models seeds fewer"]
    beginning: Float[np.ndarray, "models seeds fewest"]
    overlapping: Float[np.ndarray, " pairs"]
    proper: Float[np.ndarray, " pairs"]
    empty: Float[np.ndarray, " pairs"]

    def of(self, what: str, name: str) -> Float[np.ndarray, "seeds pairs"]:
        """The curves of one model: ``"plain"``, ``"separator"`` or ``"beginning"``."""
        return getattr(self, what)[self.names.index(name)]

    def summary(self) -> str:
        """Mean losses by the number of pairs before."""
        rows = {"least squares, pairs alone": self.proper, "least squares, all": self.overlapping}
        rows["least squares, zero between"] = self.empty
        for name in self.names:
            for what in ("plain", "separator", "beginning"):
                rows[f"{name}: {what}"] = self.of(what, name).mean(0)
        return "\n".join(
            f"{name:<30}" + " ".join(f"{value:5.2f}" for value in row) for name, row in rows.items()
        )


def _half_square(error: Float[torch.Tensor, "batch pairs d"]) -> Float[np.ndarray, " pairs"]:
    return 0.5 * error.square().sum(-1).mean(0).numpy()


@experiment(
    "few_shot_sequences",
    paper="vonoswald2023uncovering",
    chapter="mesa_optimization/sequence_models",
    configs={
        Scale.LESSON: FewShotSequencesConfig(),
        Scale.PAPER: FewShotSequencesConfig(
            tuning=FewShotTuning(
                training=SequenceHybridsTraining(
                    d=10, length=50, width=40, mlp_ratio=4, batch_size=256, learning_rate=1e-3
                ),
                steps=2000,
                batch_size=256,
            ),
            n_prompts=16_384,
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.few_shot_sequences,
)
def few_shot_sequences(config: FewShotSequencesConfig) -> FewShotSequencesResult:
    """Few-shot prompts for models trained on next states: as they are, and with separators."""
    training = replace(config.tuning.training, seeds=config.seeds, device=config.device)
    tuning = replace(config.tuning, training=training, device=config.device)
    with one_thread():
        weights, state = sequence_hybrids_weights(training), few_shot_separators(tuning)
        with torch.no_grad():
            pairs = training.length // 2
            prompt = tuning.task.sample(
                config.n_prompts, pairs, generator=seeded(PROMPT_SEED)
            ).states
            xs, ys = prompt[:, 0::2], prompt[:, 1::2]
            models = {name: raw_models(weights, training, name) for name in tuning.names}

            def each(predict) -> np.ndarray:
                """Losses of what every model predicts, over the pairs that it predicts."""
                said = [
                    [predict(name, i, m) for i, m in enumerate(models[name])] for name in models
                ]
                return np.array(
                    [[_half_square(one - ys[:, : one.shape[1]]) for one in row] for row in said]
                )

            def tuned(name: str, row: int, model, prefix: bool) -> torch.Tensor:
                made = separated(state, tuning, name, prefix, model, row)
                return made(prompt[:, : 2 * made.most_pairs])

            def of_squares(between: torch.Tensor | None) -> np.ndarray:
                laid_out = overlapping_prompt(xs, ys, between)
                said = next_step_least_squares(laid_out, config.regularization)
                return _half_square(said[:, :: 2 + (between is not None)] - ys)

            return FewShotSequencesResult(
                names=tuple(models),
                # The last target is never read: training has left that position out.
                plain=each(lambda name, row, model: model(prompt[:, :-1])[:, 0::2]),
                separator=each(functools.partial(tuned, prefix=False)),
                beginning=each(functools.partial(tuned, prefix=True)),
                overlapping=of_squares(None),
                proper=_half_square(
                    ridge_prefix_predictions(xs, ys, 1 / config.regularization) - ys
                ),
                empty=of_squares(torch.zeros(training.d)),
            )
