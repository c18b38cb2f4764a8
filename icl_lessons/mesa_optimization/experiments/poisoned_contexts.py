"""The attacks on a context against learners that were written down and models that were trained."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import Ridge
from icl_lessons.mesa_optimization.adversarial_training import best_poisoned_step, unit_task
from icl_lessons.mesa_optimization.experiments.poisoned_models import (
    KINDS,
    TEST_SEED,
    PoisonedModelsTraining,
    clean_weights,
    poisoned_models,
)
from icl_lessons.mesa_optimization.figures import poisoned_contexts as figures
from icl_lessons.mesa_optimization.gradient_attack import gradient_attack, label_sweep, slopes
from icl_lessons.mesa_optimization.poisoned_contexts import hijack, parity_flip, scaling_attack
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.types import Batch, Learner

TEXTBOOK = ("one step", "ten steps", "ridge")
TRAINED = ("linear layer", "transformer")
LEARNERS = TEXTBOOK + TRAINED


@dataclass(frozen=True, kw_only=True)
class PoisonedContextsConfig:
    """Settings of :func:`poisoned_contexts`; the defaults are the lesson's.

    Attributes:
        training: of the trained models, but for the seeds.
        n_test: contexts that are attacked.
        ten_steps: size of each of the ten steps.
        penalty: of ridge.
        label: of the pair whose input grows.
        scales: lengths of that input.
        target: what a hijack adds to the prediction of one step.
        budgets: on the change of one label.
        label_budget, input_budget: of the attacks that are carried from learner to learner.
        attack_steps: of a gradient attack.
        seeds: one model of each kind for each.
        device: where to train.
    """

    training: PoisonedModelsTraining = PoisonedModelsTraining()
    n_test: int = 96
    ten_steps: float = 0.4
    penalty: float = 0.1
    label: float = 10.0
    scales: tuple[float | int, ...] = (0.5, 1, 2, 3, 5, 10, 30, 100)
    target: float = 25.0
    budgets: tuple[float | int, ...] = (0.3, 1, 3, 10, 100)
    label_budget: float = 3.0
    input_budget: float = 2.0
    attack_steps: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_test", self.n_test, at_least=1)
        check_integer("attack_steps", self.attack_steps, at_least=1)
        for name in ("ten_steps", "penalty", "label", "target", "label_budget", "input_budget"):
            check_number(name, getattr(self, name), positive=True)
        for value in self.scales + self.budgets:
            check_number("scales and budgets", value, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class PoisonedContextsResult:
    """What the attacks did. Shifts are in targets' unit, in which a target has variance 1.

    Learners that were written down have the same row for every seed but for the contexts' draw.

    Attributes:
        learners: names, in the order of all axes.
        scales: lengths of the pair's input in the scaling attack.
        scaled: mean prediction after it, ``[seeds, learners, scales]``.
        hijacked: how far towards the target a pair made for one step moves each learner, 1 being
            all the way, median over contexts, ``[seeds, learners]``.
        hijacked_by_ridge: the same for a pair made for ridge.
        own_hijack: the same for the pair made for the learner itself, as if it were linear.
        budgets: on the change of one label.
        predicted: mean shift to first order, ``B max_i |d f / d y_i|``,
            ``[seeds, learners, budgets]``.
        worst: mean worst shift found by trying every label, likewise.
        transfer: attacks on labels and inputs made on one learner (rows) and carried to another
            (columns): mean shift in the direction meant, over that of the other's own worst,
            ``[seeds, learners, learners]``. On the diagonal a trained model's attack is carried to
            the model of the next seed, over the worst of the model that it was made on.
        transfer_labels: the same for attacks on labels alone.
        own_shift: mean shift of a learner under its own attack, ``[2, seeds, learners]``: on
            labels alone, then on labels and inputs.
        flips: smallest number of flipped labels after which the sign has turned, in the order of
            the learner's own influences, mean, ``[seeds, learners]``.
        flips_predicted: the number that the influences predict.
        flips_random: the number in a random order.
        flips_agree: share of contexts in which predicted and measured number are equal.
        output_bound: largest prediction that a transformer's final norm allows, ``[seeds]``.
        output_largest: largest prediction met in any attack on it.
    """

    learners: tuple[str, ...] = LEARNERS
    n_context: int
    label: float
    scales: Float[np.ndarray, " scales"]
    scaled: Float[np.ndarray, "seeds learners scales"]
    hijacked: Float[np.ndarray, "seeds learners"]
    hijacked_by_ridge: Float[np.ndarray, "seeds learners"]
    own_hijack: Float[np.ndarray, "seeds learners"]
    budgets: Float[np.ndarray, " budgets"]
    predicted: Float[np.ndarray, "seeds learners budgets"]
    worst: Float[np.ndarray, "seeds learners budgets"]
    transfer: Float[np.ndarray, "seeds learners learners"]
    transfer_labels: Float[np.ndarray, "seeds learners learners"]
    own_shift: Float[np.ndarray, "2 seeds learners"]
    flips: Float[np.ndarray, "seeds learners"]
    flips_predicted: Float[np.ndarray, "seeds learners"]
    flips_random: Float[np.ndarray, "seeds learners"]
    flips_agree: Float[np.ndarray, "seeds learners"]
    output_bound: Float[np.ndarray, " seeds"]
    output_largest: Float[np.ndarray, " seeds"]
    models: dict = field(repr=False, default_factory=dict, metadata={"stored": False})

    def summary(self) -> str:
        """One line for each learner: what one bad example does to it."""
        lines = []
        largest = self.budgets[-1]
        for i, name in enumerate(self.learners):
            lines.append(
                f"{name}: input of length {self.scales[-1]:g} and label {self.label:g} "
                f"{self.scaled[:, i, -1].mean():.1f}; hijack of one step "
                f"{100 * self.hijacked[:, i].mean():.0f}%; worst label within {largest:g} moves "
                f"{self.worst[:, i, -1].mean():.1f} (first order "
                f"{self.predicted[:, i, -1].mean():.1f}); flips {self.flips[:, i].mean():.1f}"
            )
        return "\n".join(lines)


def output_bound(model: Transformer) -> float:
    """The largest ``|y_hat|`` that a transformer with a final layer norm can say, of any context.

    A normed vector has mean 0 and length at most ``sqrt(width)``. With gains ``g`` and offsets
    ``b`` the read-out says ``r . (g * z + b) + c``, so ``|y_hat|`` is at most ``sqrt(width)`` times
    the length of ``r * g`` without its mean, plus ``|r . b + c|``.
    """
    read = model.read_out.weight[0].double()
    tilted = read * model.norm.weight.double()
    offset = read @ model.norm.bias.double() + model.read_out.bias[0].double()
    spread = (tilted - tilted.mean()).norm() * len(read) ** 0.5
    return (spread + offset.abs()).item()


def _flips(learner: Learner, batch: Batch, influence: Tensor, generator) -> dict[str, float]:
    """How many flips turn the sign: predicted, in the order of influence, in a random order."""
    flip = parity_flip(influence, batch.ys)
    clean = learner(*batch.context)[:, 0, 0]
    n = batch.xs.shape[1]
    shuffled = torch.rand(influence.shape, generator=generator).argsort(dim=1)
    found = {"flips_predicted": flip.needed}
    for name, order in (("flips", flip.order), ("flips_random", shuffled)):
        rank = order.argsort(dim=1)
        turned = []
        for k in range(n + 1):
            signs = torch.where(rank < k, -1.0, 1.0)[..., None].to(batch.ys)
            turned.append(learner(batch.xs, signs * batch.ys, batch.x_query)[:, 0, 0] * clean < 0)
        turned = torch.stack(turned)
        never = ~turned.any(0)  # counted as more than there are examples
        found[name] = torch.where(never, n + 1, turned.to(torch.int64).argmax(0))
    agree = (found["flips"] == found["flips_predicted"]).double().mean()
    return {k: v.double().mean().item() for k, v in found.items()} | {"flips_agree": agree.item()}


def _one_seed(
    config: PoisonedContextsConfig, seed: int, own: dict[str, Learner], other: dict[str, Learner]
) -> dict[str, np.ndarray]:
    """Every attack on the learners of one seed; ``other`` holds the trained ones of the next."""
    training, generator = config.training, seeded(TEST_SEED + 10 + seed)
    task = unit_task(training.d)
    batch = task.sample(config.n_test, training.n_context, generator=generator)
    some = task.sample(max(config.n_test // 4, 1), training.n_context, generator=generator)
    found: dict[str, list] = {}

    def keep(name: str, value) -> None:
        found.setdefault(name, []).append(value)

    said = {name: learner(*batch.context)[:, 0, 0] for name, learner in own.items()}
    direction = batch.x_query[:, 0]
    made = {}
    for name in ("one step", "ridge"):
        made[name] = hijack(own[name], *batch.context, said["one step"] + config.target, direction)
    budgets = (
        {"label_budget": config.label_budget},
        {
            "label_budget": config.label_budget,
            "input_budget": config.input_budget,
        },
    )
    attacks = {}
    largest = 0.0
    for name, learner in own.items():
        scaled = [
            learner(*scaling_attack(*batch.context, scale, config.label), batch.x_query)[:, 0, 0]
            for scale in config.scales
        ]
        keep("scaled", [value.mean().item() for value in scaled])
        for key, source in (("hijacked", "one step"), ("hijacked_by_ridge", "ridge")):
            moved = learner(*made[source], batch.x_query)[:, 0, 0] - said[name]
            wanted = config.target + said["one step"] - said[source]
            keep(key, (moved / wanted).median().item())
        context = hijack(learner, *batch.context, said[name] + config.target, direction)
        moved = learner(*context, batch.x_query)[:, 0, 0] - said[name]
        keep("own_hijack", (moved / config.target).median().item())
        _, _, by_label = slopes(learner, *some.context)
        steepest = by_label[..., 0].abs().amax(1).mean().item()
        keep("predicted", [budget * steepest for budget in config.budgets])
        moved = (
            label_sweep(learner, *some.context, config.budgets) - learner(*some.context)[:, 0, 0]
        )
        worst = moved.abs().amax(1).cummax(0).values  # what a smaller budget does, a larger can do
        keep("worst", worst.mean(1).tolist())
        _, _, by_label = slopes(learner, *batch.context)
        for key, value in _flips(learner, batch, by_label[..., 0], generator).items():
            keep(key, value)
        attacks[name] = [
            gradient_attack(learner, *batch.context, **budget, steps=config.attack_steps)
            for budget in budgets
        ]
        if name == "transformer":
            everything = [
                *scaled,
                *(a.shift + said[name] for a in attacks[name]),
            ]
            largest = max(value.abs().max().item() for value in everything)
    for k, key in enumerate(("transfer_labels", "transfer")):
        direct = {name: attacks[name][k].shift for name in own}
        keep("own_shift", [direct[name].abs().mean().item() for name in own])
        rows = []
        for name in own:
            attack, row = attacks[name][k], []
            for victim, learner in own.items():
                trained = victim == name and name in other
                target = other[name] if trained else learner
                moved = target(attack.xs, attack.ys, batch.x_query) - target(*batch.context)
                meant = (moved[:, 0, 0] * attack.shift.sign()).mean()
                row.append((meant / direct[victim].abs().mean()).item())
            rows.append(row)
        keep(key, rows)
    found = {key: np.array(value) for key, value in found.items()}
    found["transfer"], found["transfer_labels"] = found["transfer"][0], found["transfer_labels"][0]
    return found | {
        "output_bound": np.array(output_bound(own["transformer"])),
        "output_largest": np.array(largest),
    }


@experiment(
    "poisoned_contexts",
    paper="anwar2024adversarial",
    chapter="mesa_optimization/surgery",
    configs={
        Scale.LESSON: PoisonedContextsConfig(),
        Scale.PAPER: PoisonedContextsConfig(
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
                seeds=(0, 1, 2),
            ),
            n_test=1000,
        ),
    },
    figure=figures.poisoned_contexts,
)
def poisoned_contexts(config: PoisonedContextsConfig) -> PoisonedContextsResult:
    """What one bad example does to one step, many steps, ridge, and models that were trained."""
    training = dataclasses.replace(config.training, seeds=config.seeds, device=config.device)
    state = clean_weights(training)
    models = {
        name: poisoned_models(training, state, kind, "clean")
        for name, kind in zip(TRAINED, KINDS, strict=True)
    }
    step = best_poisoned_step(training.d, training.n_context)
    written = {
        "one step": GradientDescent(step),
        "ten steps": GradientDescent(config.ten_steps, 10),
        "ridge": Ridge(config.penalty),
    }
    with one_thread(), torch.no_grad():
        found = []
        for i, seed in enumerate(config.seeds):
            own, other = (
                {name: group[j % len(group)] for name, group in models.items()} for j in (i, i + 1)
            )
            found.append(_one_seed(config, seed, written | own, other))
    arrays = {key: np.array([one[key] for one in found]) for key in found[0]}
    arrays["own_shift"] = arrays["own_shift"].swapaxes(0, 1)
    return PoisonedContextsResult(
        n_context=training.n_context,
        label=config.label,
        scales=np.array(config.scales, dtype=float),
        budgets=np.array(config.budgets, dtype=float),
        models=models,
        **arrays,
    )
