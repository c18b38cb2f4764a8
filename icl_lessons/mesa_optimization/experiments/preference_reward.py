"""The experiment on a reward learned from comparisons: the same question, nearer to practice."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from icl_lessons.declare import experiment
from icl_lessons.mesa_optimization.experiments.output_fine_tuning import TEST_SEED
from icl_lessons.mesa_optimization.experiments.output_fine_tuning_models import (
    FineTuning,
    fine_tuned_weights,
    models_of,
)
from icl_lessons.mesa_optimization.figures import preference_reward as figures
from icl_lessons.mesa_optimization.output_fine_tuning import (
    InnerThenReadout,
    Reward,
    Trains,
    inner_change,
    outside_change,
    spared,
)
from icl_lessons.mesa_optimization.preference_reward import (
    Comparisons,
    Judge,
    RewardModel,
    compared,
    fitted_reward,
    preference_tuned,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.zoo import State, models_from, recipe

FIT_SEED, HELD_OUT_SEED, MEASURE_SEED = 1_906_500, 1_906_501, 1_906_502
# Which weights move, and the weight of the divergence from the policy before.
TREATMENTS: dict[str, tuple[Trains, float]] = {
    "divergence 0.2": ("all", 0.2),
    "divergence 0.05": ("all", 0.05),
    "readout frozen": ("inner", 0.05),
}


@dataclass(frozen=True, kw_only=True)
class PreferenceTuning:
    """What the trained weights depend on.

    Attributes:
        training: of the models before, which are those of ``output_fine_tuning``.
        judge: who compares outputs.
        pairs: comparisons for each seed; ``pair_std``: of the noise that makes them.
        hidden, fit_steps, fit_rate: of the reward model.
        steps, learning_rate, batch_size, samples, std: of the policy gradient.
    """

    training: FineTuning = FineTuning()
    judge: Judge = Judge()
    pairs: int = 3000
    pair_std: float = 0.75
    hidden: int = 32
    fit_steps: int = 400
    fit_rate: float = 1e-2
    steps: int = 800
    learning_rate: float = 1e-3
    batch_size: int = 128
    samples: int = 4
    std: float = 0.25
    device: str = "cpu"

    def __post_init__(self):
        for name in ("pairs", "hidden", "fit_steps", "steps", "batch_size"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("samples", self.samples, at_least=2)
        for name in ("pair_std", "std", "fit_rate", "learning_rate"):
            check_number(name, getattr(self, name), positive=True)

    def before(self) -> list[nn.Module]:
        """The models that are fine-tuned, one for each seed."""
        return models_of(fine_tuned_weights(self.training), self.training, "before")

    def comparisons(self, model: nn.Module, pairs: int, generator: torch.Generator) -> Comparisons:
        """Pairs of outputs around those of ``model`` on fresh prompts, with verdicts."""
        prompts = self.training.task.sample(pairs, self.training.n_context, generator=generator)
        with torch.no_grad():
            output = model(*prompts.context).flatten()
        return compared(output, self.judge, self.pair_std, generator=generator)

    def reward_models(self, state: State) -> list[nn.Module]:
        """The fitted reward models."""
        return models_from(RewardModel(self.hidden, generator=seeded(0)), state, "reward.")


def _measure(state: State, config: PreferenceTuning) -> dict[str, float]:
    """Agreement of the reward models, and mean square of the outputs of every model."""
    found = {}
    with one_thread(), torch.no_grad():
        for seed, model, reward in zip(
            config.training.seeds, config.before(), config.reward_models(state), strict=True
        ):
            pairs = config.comparisons(model, 4096, seeded(MEASURE_SEED))
            found[f"reward {seed}: difference"] = reward.difference(pairs).square().mean().item()
        batch = config.training.task.sample(
            4096, config.training.n_context, generator=seeded(MEASURE_SEED)
        )
        for name in TREATMENTS:
            models = models_of(state, config.training, name)
            for seed, model in zip(config.training.seeds, models, strict=True):
                square = model(*batch.context).square().mean()
                found[f"{name} {seed}: mean square"] = square.item()
    return found


@recipe("preference_reward", config=PreferenceTuning(), measure=_measure)
def preference_weights(config: PreferenceTuning) -> State:
    """Reward models as ``reward.name`` and models after each treatment, a row for each seed."""
    rows: list[dict[str, torch.Tensor]] = []
    with one_thread():
        for seed, model in zip(config.training.seeds, config.before(), strict=True):
            assert isinstance(model, InnerThenReadout)
            generator = seeded(FIT_SEED + 10 * seed)
            reward = fitted_reward(
                config.comparisons(model, config.pairs, generator),
                steps=config.fit_steps,
                learning_rate=config.fit_rate,
                hidden=config.hidden,
                generator=generator,
            )
            row = {f"reward.{name}": tensor for name, tensor in reward.state_dict().items()}
            for treatment, (trains, divergence) in TREATMENTS.items():
                tuned = preference_tuned(
                    model,
                    reward,
                    config.training.task,
                    config.training.n_context,
                    trains=trains,
                    divergence=divergence,
                    steps=config.steps,
                    learning_rate=config.learning_rate,
                    batch_size=config.batch_size,
                    samples=config.samples,
                    std=config.std,
                    generator=seeded(FIT_SEED + 10 * seed + 1),
                )
                row |= {
                    f"{treatment}.{name}": tensor for name, tensor in tuned.state_dict().items()
                }
            rows.append(row)
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True, kw_only=True)
class PreferenceRewardConfig:
    """Settings of :func:`preference_reward`; the defaults are the lesson's.

    Attributes:
        training: of the reward models and the policies, without the seeds.
        n_test: prompts for shares, and held-out comparisons.
        n_labels: prompts on which derivatives by labels are measured.
        label_scale: by which the labels of a context are multiplied to look for what returns.
        seeds: one model each, one reward model for it, and every treatment.
    """

    training: PreferenceTuning = PreferenceTuning()
    n_test: int = 3000
    n_labels: int = 400
    label_scale: float = 4.0
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_test", self.n_test, at_least=1)
        check_integer("n_labels", self.n_labels, at_least=1)
        check_number("label_scale", self.label_scale, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class PreferenceRewardResult:
    """What came of it.

    Attributes:
        treatments: the rows: two weights of the divergence, and the readout frozen.
        agreement: of the reward models with noisy verdicts on held-out pairs, ``[seeds]``;
            ``best_agreement``: of the judge's own rule with them, in expectation.
        agreement_rule: with the judge's rule, without its noise.
        forbidden_before, forbidden: share of forbidden outputs; ``sampled``: of the policy's
            samples, noise added, ``sampled_before`` before.
        scaled_before, scaled: of outputs with the labels of the context scaled up.
        inside, outside: as in ``output_fine_tuning``: change of ``M``, and of the metric that label
            influence implies on spared prompts; cosine, relative change, step that is left.
    """

    treatments: tuple[str, ...]
    agreement: Float[np.ndarray, " seeds"]
    best_agreement: Float[np.ndarray, " seeds"]
    agreement_rule: Float[np.ndarray, " seeds"]
    forbidden_before: Float[np.ndarray, " seeds"]
    forbidden: Float[np.ndarray, "treatments seeds"]
    sampled_before: Float[np.ndarray, " seeds"]
    sampled: Float[np.ndarray, "treatments seeds"]
    scaled_before: Float[np.ndarray, " seeds"]
    scaled: Float[np.ndarray, "treatments seeds"]
    inside: Float[np.ndarray, "treatments seeds 3"]
    outside: Float[np.ndarray, "treatments seeds 3"]
    reward_models: tuple[nn.Module, ...] = field(repr=False, default=(), metadata={"stored": False})
    judge: Judge = field(repr=False, default=Judge(), metadata={"stored": False})

    def of(self, name: str, treatment: str) -> Float[np.ndarray, "..."]:
        """One array's row for a treatment, one value (or three) a seed."""
        return getattr(self, name)[self.treatments.index(treatment)]

    def summary(self) -> str:
        """The reward models, and one line for each treatment; means over seeds."""
        lines = [
            f"reward model agrees with {100 * self.agreement.mean():.0f} % of held-out verdicts "
            f"(at best {100 * self.best_agreement.mean():.0f} %), with "
            f"{100 * self.agreement_rule.mean():.0f} % of the rule's",
            f"forbidden before: {100 * self.forbidden_before.mean():.1f} %",
        ]
        for i, name in enumerate(self.treatments):
            inside, outside = self.inside[i].mean(0), self.outside[i].mean(0)
            lines.append(
                f"{name:<16} forbidden {100 * self.forbidden[i].mean():4.1f} % (labels scaled: "
                f"{100 * self.scaled[i].mean():2.0f} %)   inside: cosine {inside[0]:.4f}, change "
                f"{100 * inside[1]:2.0f} %   from outside: {100 * outside[1]:2.0f} %"
            )
        return "\n".join(lines)


def _held_out(model, reward, config: PreferenceRewardConfig) -> dict[str, float]:
    judge = config.training.judge
    pairs = config.training.comparisons(model, config.n_test, seeded(HELD_OUT_SEED))
    chance = judge.probability(pairs.outputs, pairs.before)
    return {
        "agreement": reward.agreement(pairs),
        "best_agreement": torch.maximum(chance, 1 - chance).mean().item(),
        "agreement_rule": reward.agreement(pairs._replace(first=chance > 0.5)),
    }


def _row(before, after, config: PreferenceRewardConfig) -> dict[str, Any]:
    training = config.training.training
    n, task, reward = training.n_context, training.task, Reward(floor=config.training.judge.floor)
    batch = task.sample(config.n_test, n, generator=seeded(TEST_SEED))
    few = task.sample(config.n_labels, n, generator=seeded(TEST_SEED + 1))
    found = {}
    for model, end in ((before, "_before"), (after, "")):
        with torch.no_grad():
            output = model(*batch.context)
            scaled = model(batch.xs, config.label_scale * batch.ys, batch.x_query)
        noise = torch.randn(output.shape, generator=seeded(TEST_SEED + 2))
        found[f"forbidden{end}"] = reward.forbidden(output)
        found[f"sampled{end}"] = reward.forbidden(output + config.training.std * noise)
        found[f"scaled{end}"] = reward.forbidden(scaled)
    return found | {
        "inside": inner_change(before.matrix, after.matrix),
        "outside": outside_change(before, after, spared(before, few)),
    }


@experiment(
    "preference_reward",
    paper="anonymous2024regression",
    chapter="mesa_optimization/surgery",
    configs={
        Scale.LESSON: PreferenceRewardConfig(),
        Scale.PAPER: PreferenceRewardConfig(
            training=PreferenceTuning(
                training=FineTuning(
                    d=20, n_context=80, hidden=64, steps=10_000, tuning_steps=10_000, batch_size=512
                ),
                pairs=50_000,
                hidden=64,
                fit_steps=2000,
                steps=10_000,
                batch_size=512,
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.preference_reward,
)
def preference_reward(config: PreferenceRewardConfig) -> PreferenceRewardResult:
    """Fit a reward to comparisons, fine-tune on it, and measure how far the inner learner moved."""
    same = {"seeds": config.seeds, "device": config.device}
    inner = replace(config.training.training, **same)
    training = replace(config.training, training=inner, device=config.device)
    config = replace(config, training=training)
    with one_thread():
        state, before = preference_weights(training), training.before()
        rewards = training.reward_models(state)
        held_out = [_held_out(*pair, config) for pair in zip(before, rewards, strict=True)]
        cells = [
            [
                _row(then, now, config)
                for then, now in zip(before, models_of(state, inner, treatment), strict=True)
            ]
            for treatment in TREATMENTS
        ]
    table = {k: np.array([[cell[k] for cell in row] for row in cells]) for k in cells[0][0]}
    return PreferenceRewardResult(
        treatments=tuple(TREATMENTS),
        reward_models=tuple(rewards),
        judge=training.judge,
        **{name: np.array([row[name] for row in held_out]) for name in held_out[0]},
        **{k: v[0] if k.endswith("_before") else v for k, v in table.items()},
    )
