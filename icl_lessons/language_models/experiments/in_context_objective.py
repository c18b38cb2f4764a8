"""Two models of one architecture on the same prompts: trained on prompts, and on the next token.

Whatever is proved of models trained for in-context learning (Hypothesis 2) has to be carried over
to models that were not (Hypothesis 1). Here both can be asked the same questions: the prompts, the
prompts with other separators, code words as labels, plain text, and the demonstrations in another
order.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.declare import experiment
from icl_lessons.language_models.course_models import CourseLMTraining, course_models
from icl_lessons.language_models.figures import in_context_objective as figures
from icl_lessons.language_models.in_context_objective import (
    InContextTraining,
    in_context_models,
    with_separators,
)
from icl_lessons.language_models.order import in_context_answers, some_orders
from icl_lessons.language_models.subjects import COURSE_TASKS, course_prompts
from icl_lessons.language_models.weights_and_ability import ability
from icl_lessons.measures.distributions import order_sensitivity
from icl_lessons.measures.prompting import nats_per_token
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.tasks.attribute_text import NAMES, SEPARATORS
from icl_lessons.zoo import State, recipe

TEST_SEED = 2_310_090
LEARNERS = ("prompts alone", "CourseLM")
SEPARATED = ("its own", "others")
SEEDS_AT = {"accuracy": 3, "code": 2, "loss": 1, "sensitivity": 2}
CODE = tuple(f"{name} code" for name in NAMES)


@dataclass(frozen=True, kw_only=True)
class InContextObjectiveConfig:
    """Settings of :func:`in_context_objective`.

    Attributes:
        rival: training of the model of prompts.
        training: of CourseLM.
        n: most demonstrations in a prompt.
        n_prompts: for each task and seed, each with demonstrations of its own.
        n_orders, n_queries: for order sensitivity; one set of demonstrations for each seed.
        n_documents: of held-out text.
        seeds: of both models, and of the prompts.
    """

    rival: InContextTraining = InContextTraining()
    training: CourseLMTraining = CourseLMTraining()
    n: int = 8
    n_prompts: int = 100
    n_orders: int = 10
    n_queries: int = 40
    n_documents: int = 60
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n", "n_prompts", "n_queries", "n_documents"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_orders", self.n_orders, at_least=2)
        known = set(self.training.seeds) & set(self.rival.seeds)
        if not set(self.seeds) <= known:
            raise ValueError(f"seeds: got {self.seeds}; trained are {tuple(sorted(known))}")


@dataclass(frozen=True, kw_only=True)
class InContextObjectiveResult:
    """What each model does; the model of prompts first, CourseLM second.

    Attributes:
        tasks: names along the axes: four attributes, canonical and contrary.
        accuracy: over the whole vocabulary after 0, 1, ..., n demonstrations, with the separators
            that the model of prompts was trained on and with others,
            ``[learners, separators, tasks, seeds, n + 1]``.
        code: the same with code words as labels, ``[learners, attributes, seeds, n + 1]``.
        loss: nats for each token of held-out documents, ``[learners, seeds]``.
        uniform: nats for each token of a model that knows nothing.
        sensitivity: to the order of ``n`` demonstrations with right labels, sum of standard
            deviations, mean over queries, ``[learners, attributes, seeds]``.
    """

    tasks: tuple[str, ...]
    accuracy: Float[np.ndarray, "learners separators tasks seeds numbers"]
    code: Float[np.ndarray, "learners attributes seeds numbers"]
    loss: Float[np.ndarray, "learners seeds"]
    uniform: float
    sensitivity: Float[np.ndarray, "learners attributes seeds"]

    def of(self, learner: str, separators: str = "its own") -> Float[np.ndarray, "tasks seeds n"]:
        """Accuracy of one model: ``"prompts alone"`` or ``"CourseLM"``."""
        check_choice("learner", learner, LEARNERS)
        check_choice("separators", separators, SEPARATED)
        return self.accuracy[LEARNERS.index(learner), SEPARATED.index(separators)]

    def summary(self) -> str:
        """The result in a few lines."""

        def row(values) -> str:
            return " ".join(f"{v:.3f}" for v in values)

        lines = []
        for i, learner in enumerate(LEARNERS):
            lines.append(f"{learner}: nats for each token {row(self.loss[i])} "
                         f"(uniform {self.uniform:.2f})")  # fmt: skip
            lines.append(f"  order sensitivity, mean of tasks {row(self.sensitivity[i].mean(0))}")
            lines.append(
                f"  code words, {self.code.shape[-1] - 1} {row(self.code[i, ..., -1].max(0))}"
            )
            for j, which in enumerate(SEPARATED):
                for k, task in enumerate(self.tasks):
                    seeds = " | ".join(row(r[[0, 1, 2, 4, -1]]) for r in self.accuracy[i, j, k])
                    lines.append(f"  separators {which:8} {task:16} {seeds}")
        return "\n".join(lines)


def _learners(config: InContextObjectiveConfig, seed: int) -> list[nn.Module]:
    rivals, course = in_context_models(config.rival), course_models(config.training)
    return [
        rivals[config.rival.seeds.index(seed)],
        course[config.training.seeds.index(seed)],
    ]


def _accuracy(
    config: InContextObjectiveConfig, model: nn.Module, task: str, letters: list[int], seed: int
) -> Tensor:
    draw = seeded(TEST_SEED + seed)
    return ability(
        model, task, config.n, config.n_prompts, generator=draw, letters=letters
    ).accuracy


def _sensitivity(config: InContextObjectiveConfig, model: nn.Module, task: str, seed: int) -> float:
    prompts = course_prompts(task, config.n, config.n_queries, seed)
    prompts = with_separators(prompts, [config.rival.text.letter])
    orders = some_orders(config.n, config.n_orders, generator=seeded(seed))
    return order_sensitivity(in_context_answers(model, prompts, orders)).mean().item()


def _summed(state: State, config: InContextObjectiveConfig) -> dict[str, float]:
    """Means of the stored figures, and one cell of them made again."""
    seed = config.seeds[0]
    with one_thread():
        again = _accuracy(
            config, _learners(config, seed)[0], "topic", [config.rival.text.letter], seed
        )
    means = {f"mean {name}": part.mean().item() for name, part in state.items()}
    return means | {"accuracy on topic again": again.mean().item()}


@recipe("in_context_objective_study", config=InContextObjectiveConfig(), measure=_summed)
def in_context_objective_measures(config: InContextObjectiveConfig) -> State:
    """``accuracy``, ``code``, ``loss`` and ``sensitivity``, shaped as the result has them."""
    own = [config.rival.text.letter]
    others = [letter for letter in range(SEPARATORS) if letter not in own]
    text = config.training.text.sample(
        config.n_documents, config.training.length, generator=seeded(TEST_SEED)
    ).tokens
    found: dict[str, list[Tensor]] = {}
    with one_thread():
        for seed in config.seeds:
            models = _learners(config, seed)
            rows = {
                "accuracy": [
                    [
                        [_accuracy(config, model, task, some, seed) for task in COURSE_TASKS]
                        for some in (own, others)
                    ]
                    for model in models
                ],
                "code": [[_accuracy(config, m, task, own, seed) for task in CODE] for m in models],
                "loss": [nats_per_token(m, text) for m in models],
                "sensitivity": [
                    [_sensitivity(config, m, task, seed) for task in NAMES] for m in models
                ],
            }
            for name, values in rows.items():
                found.setdefault(name, []).append(torch.tensor(np.array(values)).float())
    return {name: torch.stack(parts, SEEDS_AT[name]) for name, parts in found.items()}


@experiment(
    "in_context_objective",
    paper="shen2024pretrained",
    chapter="language_models/gradient_descent",
    configs={
        Scale.LESSON: InContextObjectiveConfig(),
        Scale.PAPER: InContextObjectiveConfig(
            rival=replace(InContextTraining(), layers=3, steps=6000), n_prompts=1000
        ),
    },
    figure=figures.in_context_objective,
)
def in_context_objective(config: InContextObjectiveConfig) -> InContextObjectiveResult:
    """A model trained on prompts beside a language model of the same architecture."""
    state = in_context_objective_measures(config)
    measured = {name: part.double().numpy() for name, part in state.items()}
    return InContextObjectiveResult(
        tasks=COURSE_TASKS, uniform=math.log(config.training.text.vocabulary), **measured
    )
