"""What training on poisoned contexts changes, what it costs, and what it does not hold against."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.measures.agreement import squared_error
from icl_lessons.mesa_optimization.adversarial_training import (
    ClippedStep,
    PoisonedRegression,
    best_poisoned_step,
    inner_step,
    tuned_clipped_step,
    unit_task,
)
from icl_lessons.mesa_optimization.experiments.poisoned_models import (
    KINDS,
    REGIMES,
    TEST_SEED,
    PoisonedModelsTraining,
    clean_weights,
    poisoned_models,
    poisoned_weights,
)
from icl_lessons.mesa_optimization.figures import adversarial_training as figures
from icl_lessons.mesa_optimization.gradient_attack import gradient_attack, label_sweep
from icl_lessons.mesa_optimization.poisoned_contexts import scaling_attack
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.types import Batch, Learner

WRITTEN = ("step, clean", "step, noise", "clipped step")
NAMES = {"linear": "linear layer", "softmax": "transformer"}
LEARNERS = WRITTEN + tuple(f"{NAMES[kind]}, {regime}" for kind in KINDS for regime in REGIMES)


@dataclass(frozen=True, kw_only=True)
class AdversarialTrainingConfig:
    """Settings of :func:`adversarial_training`; the defaults are the lesson's.

    Attributes:
        training: of the trained models, but for the seeds.
        n_tuning: poisoned contexts on which the clipped step is tuned.
        clips: values of ``delta`` that are tried.
        n_test: contexts for errors.
        n_attacked: contexts for each attack.
        budgets: on the change of one label, found by trying all; they rise.
        hit: numbers of labels hit by noise at once.
        label_budget, input_budget: of the gradient attack on one example, label and input.
        attack_steps: of that.
        scales, label: of the scaling attack, whose pair replaces the last example.
        seeds: one model of each kind and regime for each.
        device: where to train.
    """

    training: PoisonedModelsTraining = PoisonedModelsTraining()
    n_tuning: int = 20_000
    clips: tuple[float | int, ...] = (0.5, 1.0, 1.5, 2.0, 4.0)
    n_test: int = 400
    n_attacked: int = 24
    budgets: tuple[float | int, ...] = (1, 3, 10, 100)
    hit: tuple[int, ...] = (0, 1, 4)
    label_budget: float = 3.0
    input_budget: float = 2.0
    attack_steps: int = 10
    scales: tuple[float | int, ...] = (3, 10, 30)
    label: float = 10.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_tuning", "n_test", "n_attacked", "attack_steps"):
            check_integer(name, getattr(self, name), at_least=1)
        for value in (*self.clips, *self.budgets, *self.scales, self.label):
            check_number("clips, budgets, scales and label", value, positive=True)
        if list(self.budgets) != sorted(self.budgets):
            raise ValueError("budgets: use numbers that rise")
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class AdversarialTrainingResult:
    """What came of it. Errors are ``E (y_hat - y)^2``, a target having variance 1.

    Learners that were written down have a row for every seed too: the contexts differ.

    Attributes:
        learners: names, with what each was tuned or trained on after the comma.
        clip, clipped_size: of the clipped step that was best on the tuning contexts.
        hit: numbers of labels hit by noise.
        noise: error after so many were, ``[seeds, learners, hit]``; the first is without any.
        budgets: on the change of one label.
        worst: error after the worst such change, ``[seeds, learners, budgets]``.
        gradient: error after a gradient attack on one label and its input.
        scales: lengths of the input in the scaling attack.
        scaled: error after it, ``[seeds, learners, scales]``.
        step: step size that the influences of labels imply, clean contexts, ``[seeds, learners]``.
        cosine: of those influences with one step's.
    """

    learners: tuple[str, ...] = LEARNERS
    clip: float
    clipped_size: float
    hit: tuple[int, ...]
    noise: Float[np.ndarray, "seeds learners hit"]
    budgets: Float[np.ndarray, " budgets"]
    worst: Float[np.ndarray, "seeds learners budgets"]
    gradient: Float[np.ndarray, "seeds learners"]
    scales: Float[np.ndarray, " scales"]
    scaled: Float[np.ndarray, "seeds learners scales"]
    step: Float[np.ndarray, "seeds learners"]
    cosine: Float[np.ndarray, "seeds learners"]
    models: dict = field(repr=False, default_factory=dict, metadata={"stored": False})

    def of(self, values: np.ndarray, name: str) -> np.ndarray:
        """One learner's part of an array, first axis the seeds."""
        return values[:, self.learners.index(name)]

    def summary(self) -> str:
        """A line for each learner: clean and poisoned errors, and its inner step."""
        return "\n".join(
            f"{name}: clean {self.noise[:, i, 0].mean():.3f}, one label hit "
            f"{self.noise[:, i, 1].mean():.3f}, worst label within {self.budgets[1]:g} "
            f"{self.worst[:, i, 1].mean():.2f}, gradient attack {self.gradient[:, i].mean():.2f}, "
            f"inner step {self.step[:, i].mean():.2f}, cosine {self.cosine[:, i].mean():.3f}"
            for i, name in enumerate(self.learners)
        )


def _measured(config: AdversarialTrainingConfig, learner: Learner, contexts) -> dict:
    """Every attack on one learner."""
    few, many, hit = contexts
    budgets = {"label_budget": config.label_budget, "input_budget": config.input_budget}
    attacked = gradient_attack(learner, *few.context, **budgets, steps=config.attack_steps)
    swept = label_sweep(learner, *few.context, config.budgets) - few.y_query[:, 0, 0]
    clean = (learner(*few.context) - few.y_query).square()[:, 0, 0]
    worst = swept.square().amax(1).cummax(0).values  # what a smaller budget does, a larger can do
    scaled = []
    for scale in config.scales:
        xs, ys = scaling_attack(*many.context, scale, config.label, -1)
        scaled.append(dataclasses.replace(many, xs=xs, ys=ys))
    size, cosine = inner_step(learner, many)
    return {
        "noise": [squared_error(learner, batch) for batch in hit],
        "worst": torch.maximum(worst, clean).mean(1).tolist(),
        "gradient": squared_error(
            learner, dataclasses.replace(few, xs=attacked.xs, ys=attacked.ys)
        ),
        "scaled": [squared_error(learner, batch) for batch in scaled],
        "step": size,
        "cosine": cosine,
    }


def _contexts(config: AdversarialTrainingConfig, seed: int) -> tuple[Batch, Batch, list[Batch]]:
    """Contexts to attack, clean ones to measure on, and those with each number of labels hit."""
    training = config.training
    law, generator = unit_task(training.d), seeded(TEST_SEED + 20 + seed)
    few, many = (
        law.sample(size, training.n_context, generator=generator)
        for size in (config.n_attacked, config.n_test)
    )
    hit = []
    for k in config.hit:  # the same contexts for every number
        law = PoisonedRegression(d=training.d, noise_std=training.noise_std, poisoned=k)
        generator = seeded(TEST_SEED + 30 + seed)
        hit.append(law.sample(config.n_test, training.n_context, generator=generator))
    return few, many, hit


@experiment(
    "adversarial_training",
    paper="anwar2024adversarial",
    chapter="mesa_optimization/surgery",
    configs={
        Scale.LESSON: AdversarialTrainingConfig(),
        Scale.PAPER: AdversarialTrainingConfig(
            training=PoisonedModelsTraining(
                d=20,
                n_context=40,
                width=256,
                layers=8,
                heads=8,
                batch_size=64,
                steps=500_000,
                further_steps=50_000,
                learning_rate=1e-4,
                further_rate=1e-4,
            ),
            n_attacked=1000,
        ),
    },
    figure=figures.adversarial_training,
)
def adversarial_training(config: AdversarialTrainingConfig) -> AdversarialTrainingResult:
    """Training on poisoned contexts: the inner step it leaves, its price, and stronger attacks."""
    training = dataclasses.replace(config.training, seeds=config.seeds, device=config.device)
    state = clean_weights(training) | poisoned_weights(training)
    models = {
        f"{NAMES[kind]}, {regime}": poisoned_models(training, state, kind, regime)
        for kind in KINDS
        for regime in REGIMES
    }
    d, n, sigma = training.d, training.n_context, training.noise_std
    with one_thread(), torch.no_grad():
        tuning = training.task("noise").sample(config.n_tuning, n, generator=seeded(TEST_SEED + 5))
        tuned = [tuned_clipped_step(tuning, clip) for clip in config.clips]
        clipped = min(tuned, key=lambda learner: squared_error(learner, tuning))
        written = {
            "step, clean": ClippedStep(best_poisoned_step(d, n)),
            "step, noise": ClippedStep(best_poisoned_step(d, n, sigma)),
            "clipped step": clipped,
        }
        rows = []
        for i, seed in enumerate(config.seeds):
            contexts = _contexts(config, seed)
            own = written | {name: group[i] for name, group in models.items()}
            rows.append([_measured(config, own[name], contexts) for name in LEARNERS])
    return AdversarialTrainingResult(
        clip=clipped.clip,
        clipped_size=clipped.step_size,
        hit=config.hit,
        budgets=np.array(config.budgets, dtype=float),
        scales=np.array(config.scales, dtype=float),
        models=models,
        **{key: np.array([[one[key] for one in row] for row in rows]) for key in rows[0][0]},
    )
