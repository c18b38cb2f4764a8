"""Where order sensitivity comes from: models of texts whose subject never changes, or often.

In a text that may change its subject at any sentence the last remarks tell most, and the best
possible reader weighs demonstrations by their place. In a text that never changes its subject the
best reader does not. So the same transformer is pretrained on texts with different hazards and
asked the same prompts, beside the exact Bayes filter of each text and transformers that were not
trained at all. Not in Shen et al.; a control of their figure 4 [shen2024pretrained].
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.course_models import (
    CourseLMTraining,
    checkpoints,
    course_weights,
)
from icl_lessons.language_models.figures import order_and_hazard as figures
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.order import (
    LABELS,
    in_context_answers,
    labelled_prompts,
    some_orders,
)
from icl_lessons.language_models.subjects import (
    Subject,
    course_prompts,
    drawn_course_prompts,
)
from icl_lessons.measures.distributions import accuracy_over_vocabulary, order_sensitivity
from icl_lessons.measures.prompting import nats_per_token
from icl_lessons.models.sequence import SequenceTransformer
from icl_lessons.runtime import Scale, check_integer, one_thread, seeded
from icl_lessons.tasks.attribute_text import NAMES, AttributeText
from icl_lessons.zoo import State, recipe

TEST_SEED = 2_310_086
ORDER_SEED = 2_310_087


@dataclass(frozen=True, kw_only=True)
class HazardTraining:
    """What the weights depend on; the rest is as for CourseLM.

    Attributes:
        hazards: of the texts: probability at each sentence that the mode is drawn anew.
        layers, width, steps: of each transformer and its training.
        seeds: one model each, for every text.
    """

    hazards: tuple[float, ...] = (0.0, 0.05, 0.25)
    layers: int = 2
    width: int = 48
    steps: int = 2400
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def text(self, hazard: float) -> CourseLMTraining:
        """The training on the text of one hazard."""
        return CourseLMTraining(
            text=AttributeText(hazard=hazard),
            layers=self.layers,
            width=self.width,
            steps=self.steps,
            checkpoints=(self.steps,),
            seeds=self.seeds,
            device=self.device,
        )


def _losses(state: State, config: HazardTraining) -> dict[str, float]:
    figures_ = {}
    with one_thread():
        for hazard, models in hazard_models(state, config).items():
            text = AttributeText(hazard=hazard)
            tokens = text.sample(40, 64, generator=seeded(TEST_SEED)).tokens
            for seed, model in zip(config.seeds, models, strict=True):
                figures_[f"loss {seed}, hazard {hazard:g}"] = nats_per_token(model, tokens)
    return figures_


@recipe("hazard_language_models", config=HazardTraining(), measure=_losses)
def hazard_weights(config: HazardTraining) -> State:
    """Final weights in half precision, ``{"hazard/steps.name": [seeds, ...]}``."""
    return {
        f"{hazard:g}/{name}": tensor
        for hazard in config.hazards
        for name, tensor in course_weights(config.text(hazard)).items()
    }


def hazard_models(state: State, config: HazardTraining) -> dict[float, list[SequenceTransformer]]:
    """``{hazard: [a model for each seed]}`` from stored weights."""
    models = {}
    for hazard in config.hazards:
        start = f"{hazard:g}/"
        own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        training = config.text(hazard)
        models[hazard] = checkpoints(own, training)[config.steps]
    return models


@dataclass(frozen=True, kw_only=True)
class OrderAndHazardConfig(HazardTraining):
    """The models, and what they are asked.

    Attributes:
        tasks: attributes, with their canonical labels.
        n: demonstrations.
        n_orders, n_queries: orders of each, and queries.
        n_sets: sets of demonstrations for each seed and task, over which figures are averaged.
    """

    tasks: tuple[str, ...] = NAMES
    n: int = 8
    n_orders: int = 10
    n_queries: int = 40
    n_sets: int = 3

    def __post_init__(self):
        for name in ("n_queries", "n_sets"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_orders", self.n_orders, at_least=2)
        if self.n < 4 or self.n % 4:
            raise ValueError(f"n: got {self.n}; a quarter of the labels is wrong, use 4, 8, 12 ...")

    @property
    def training(self) -> HazardTraining:
        """What the weights depend on."""
        names = HazardTraining.__dataclass_fields__
        return HazardTraining(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class OrderAndHazardResult:
    """How far answers move when the demonstrations change their order.

    Attributes:
        hazards: of the texts.
        labels: what the demonstrations' labels are.
        tasks: of the queries.
        sensitivity: ``sum_v std_r p_r(v)`` of in-context learning, mean over queries and sets, of
            models of each text and, last, untrained ones, ``[texts + 1, labels, tasks, seeds]``.
        exact: the same of the Bayes filter of each text, ``[texts, labels, tasks, seeds]``.
        accuracy: of in-context learning with right labels, ``[texts + 1, tasks, seeds]``.
    """

    hazards: tuple[float, ...]
    labels: tuple[str, ...]
    tasks: tuple[str, ...]
    sensitivity: Float[np.ndarray, "texts_plus_1 labels tasks seeds"]
    exact: Float[np.ndarray, "texts labels tasks seeds"]
    accuracy: Float[np.ndarray, "texts_plus_1 tasks seeds"]

    def by_seed(self, labels: str, hazard: float | None) -> Float[np.ndarray, " seeds"]:
        """Sensitivity of the models of one text, mean over tasks; untrained ones for ``None``."""
        row = -1 if hazard is None else self.hazards.index(hazard)
        return self.sensitivity[row, self.labels.index(labels)].mean(0)

    def summary(self) -> str:
        """Means over tasks in a few lines."""
        lines = ["order sensitivity in context by seed | of the exact filter, mean"]
        for name in self.labels:
            lines.append(f"  labels {name}")
            for hazard in (*self.hazards, None):
                values = self.by_seed(name, hazard)
                row = f"    {'untrained' if hazard is None else f'hazard {hazard:g}':<14}"
                row += " ".join(f"{value:.4f}" for value in values)
                if hazard is not None:
                    place = self.hazards.index(hazard), self.labels.index(name)
                    row += f" | {self.exact[place].mean():.4f}"
                lines.append(row)
        return "\n".join(lines)


def _cell(
    config: OrderAndHazardConfig, models: list[SequenceTransformer], task: str, labels: str,
    seed: int,
) -> Tensor:  # fmt: skip
    """Sensitivity of each model and of each text's filter, and each model's accuracy, in a row."""
    who = Subject(models[0], config.layers, course_prompts, drawn_course_prompts)
    rows = []
    for which in range(config.n_sets):
        drawn = seed + 1000 * which
        prompts = labelled_prompts(who, task, labels, config.n, config.n_queries, drawn)
        orders = some_orders(config.n, config.n_orders, generator=seeded(ORDER_SEED + drawn))
        answers = [in_context_answers(model, prompts, orders) for model in models]
        exact = [
            torch.stack(
                [filter_answers(prompts.in_order(o), AttributeText(hazard=h)) for o in orders]
            )
            for h in config.hazards
        ]
        moved = [order_sensitivity(a).mean() for a in (*answers, *exact)]
        right = [accuracy_over_vocabulary(a[0], prompts.answer) for a in answers]
        rows.append(torch.tensor([*moved, *right]))
    return torch.stack(rows).mean(0)


def _asked(config: OrderAndHazardConfig) -> list[list[SequenceTransformer]]:
    """For each seed, a model of each text and an untrained one."""
    trained = hazard_models(hazard_weights(config.training), config.training)
    plain = [config.text(0.0).build(seeded(seed)).eval() for seed in config.seeds]
    return [list(models) for models in zip(*trained.values(), plain, strict=True)]


def _again(state: State, config: OrderAndHazardConfig) -> dict[str, float]:
    """The mean of the stored figures, and one cell of them measured again."""
    with one_thread():
        cell = _cell(config, _asked(config)[0], config.tasks[0], LABELS[1], config.seeds[0])
    texts = len(config.hazards)
    return {
        "mean sensitivity": state["measures"][..., : texts + 1].mean().item(),
        "of the first cell, trained": cell[:texts].mean().item(),
        "of the first cell, filters": cell[texts + 1 : 2 * texts + 1].mean().item(),
    }


@recipe("order_and_hazard", config=OrderAndHazardConfig(), measure=_again)
def order_and_hazard_measures(config: OrderAndHazardConfig) -> State:
    """``measures`` ``[labels, tasks, seeds, 3 texts + 2]``."""
    with one_thread():
        asked = _asked(config)
        cells = [
            [
                [_cell(config, models, task, labels, seed)
                 for seed, models in zip(config.seeds, asked, strict=True)]
                for task in config.tasks
            ]
            for labels in LABELS
        ]  # fmt: skip
    return {"measures": torch.stack([torch.stack([torch.stack(t) for t in ls]) for ls in cells])}


@experiment(
    "order_and_hazard",
    paper="shen2024pretrained",
    chapter="language_models/order",
    configs={
        Scale.LESSON: OrderAndHazardConfig(),
        Scale.PAPER: OrderAndHazardConfig(
            layers=3, width=64, steps=6000, n_orders=24, n_queries=200
        ),
    },
    figure=figures.order_and_hazard,
)
def order_and_hazard(config: OrderAndHazardConfig) -> OrderAndHazardResult:
    """Order sensitivity of models of texts that change their subject never, seldom or often."""
    values = order_and_hazard_measures(config)["measures"].double().numpy()
    values, texts = np.moveaxis(values, -1, 0), len(config.hazards)
    return OrderAndHazardResult(
        hazards=config.hazards,
        labels=LABELS,
        tasks=config.tasks,
        sensitivity=values[: texts + 1],
        exact=values[texts + 1 : 2 * texts + 1],
        accuracy=values[2 * texts + 1 :, LABELS.index("gold")],
    )
