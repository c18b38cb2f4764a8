"""Answers to a few queries after the same four demonstrations in every order, by every learner.

What the explorable of *Order, and the whole distribution* shows: in-context learning, full-batch
descent, descent on one demonstration at a time, and the exact Bayes filter, in all 24 orders. The
two descents take two minutes for three models, so their answers are stored
[shen2024pretrained, section 4.1, with a set small enough to look at every order].
"""

import base64
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.language_models.course_models import course_models
from icl_lessons.language_models.fine_tuning import FineTuning
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.order import Order, fine_tuned_answers, in_context_answers
from icl_lessons.language_models.subjects import course_prompts
from icl_lessons.measures.distributions import order_sensitivity
from icl_lessons.runtime import check_choice, one_thread
from icl_lessons.tasks.attribute_prompts import AttributePrompts
from icl_lessons.tasks.attribute_text import NAMES, attribute_named, words
from icl_lessons.zoo import State, recipe

LEARNERS = ("in_context", "one_by_one", "full_batch", "filter")
UNIT = 10_000  # probabilities are kept to four decimals
ASKED = 100  # queries of which the first of each right answer is taken


@dataclass(frozen=True)
class DemonstrationSet:
    """Four demonstrations on attribute text.

    Attributes:
        name: as the reader chooses it.
        attribute: what their labels are about.
        seed: that draws them: the first whose four demonstrations show every label.
        wrong: a demonstration whose label is the next one instead; none if ``None``.
    """

    name: str
    attribute: str
    seed: int
    wrong: int | None = None

    def prompts(self, n_queries: int) -> AttributePrompts:
        """The demonstrations before one query for each of the first label words."""
        labels = attribute_named(self.attribute).labels
        drawn = course_prompts(self.attribute, 4, ASKED, self.seed)
        rows = [int((drawn.answer == label).nonzero()[0]) for label in labels[:n_queries]]
        batched = ("sentences", "values", "labels", "answer", "separators")
        prompts = replace(drawn, **{name: getattr(drawn, name)[rows] for name in batched})
        if self.wrong is None:
            return prompts
        told = prompts.labels.clone()
        place = labels.index(int(told[0, self.wrong]))
        told[:, self.wrong] = labels[(place + 1) % len(labels)]
        return prompts.with_labels(told)


@dataclass(frozen=True, kw_only=True)
class OrderTableConfig:
    """What the stored answers depend on.

    Attributes:
        sets: of demonstrations.
        rates: of both descents.
        passes: over the demonstrations: full-batch descent takes one step in each, descent on one
            demonstration at a time takes four.
        n_queries: for each set, one for each of the first label words.
        seeds: of CourseLM; the demonstrations are the same for every model.
    """

    sets: tuple[DemonstrationSet, ...] = (
        DemonstrationSet("topic", "topic", 3),
        DemonstrationSet("stance", "stance", 2),
        DemonstrationSet("stance, one label wrong", "stance", 2, wrong=0),
    )
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    passes: int = 10
    n_queries: int = 3
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Answers:
    """One learner's answers in every order.

    Attributes:
        laws: probabilities of the label words. An axis along which nothing changes has length 1:
            the filter knows no model, and full-batch descent knows no order.
        sensitivity: how far they move with the order, over the whole vocabulary
            (:func:`~icl_lessons.measures.distributions.order_sensitivity`).
    """

    laws: Float[Tensor, "models rates orders queries labels"]
    sensitivity: Float[Tensor, "models rates queries"]

    def payload(self) -> dict[str, Any]:
        """Shape, whole numbers of 1/10000 as two bytes each in base 64, and sensitivities."""
        whole = (self.laws * UNIT).round().numpy().astype("<u2")
        return {
            "shape": list(whole.shape),
            "laws": base64.b64encode(whole.tobytes()).decode("ascii"),
            "sensitivity": np.round(self.sensitivity.double().numpy(), 6).tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class OrderTable:
    """Everything that is known of one set of demonstrations.

    Attributes:
        chosen: the demonstrations.
        prompts: with the queries, in the first order.
        answers: of each of :data:`LEARNERS`.
        config: rates, passes and models.
    """

    chosen: DemonstrationSet
    prompts: AttributePrompts
    answers: dict[str, Answers]
    config: OrderTableConfig

    @property
    def orders(self) -> list[tuple[int, ...]]:
        """Every order, as the axis of the answers has them: from first to last by their digits."""
        return list(itertools.permutations(range(self.prompts.n)))

    def payload(self) -> dict[str, Any]:
        """What the explorable :class:`DemonstrationOrderExplorer` takes, as plain JSON."""
        labels = attribute_named(self.chosen.attribute).labels
        right = self.prompts.values[0, :, NAMES.index(self.chosen.attribute)].tolist()
        shown = zip(self.prompts.sentences[0], self.prompts.labels[0], right, strict=False)
        asked = zip(self.prompts.sentences[:, -1], self.prompts.answer, strict=True)
        return {
            "name": self.chosen.name,
            "labels": [words(torch.tensor([label])) for label in labels],
            "demonstrations": [
                {"text": words(sentence), "label": labels.index(int(label)), "right": value}
                for sentence, label, value in shown
            ],
            "queries": [
                {"text": words(sentence), "right": labels.index(int(answer))}
                for sentence, answer in asked
            ],
            "models": [f"CourseLM, seed {seed}" for seed in self.config.seeds],
            "rates": list(self.config.rates),
            "passes": self.config.passes,
            "learners": {name: one.payload() for name, one in self.answers.items()},
        }


def _kept(
    answers: Float[Tensor, "orders queries vocabulary"], prompts: AttributePrompts
) -> tuple[Tensor, Tensor]:
    """Probabilities of the label words, and order sensitivity over the whole vocabulary."""
    return answers[..., prompts.choices], order_sensitivity(answers)


def _descents(
    config: OrderTableConfig, chosen: DemonstrationSet, seed: int, rate: float,
    orders: Sequence[Order],
) -> dict[str, tuple[Tensor, Tensor]]:  # fmt: skip
    """Both descents at one rate from one model.

    Full-batch descent is run in the first order and in the last, whose difference is what is left
    of its order sensitivity: rounding.
    """
    prompts, model = chosen.prompts(config.n_queries), course_models()[seed]
    found = {}
    for name, batch, some in (
        ("one_by_one", 1, orders), ("full_batch", None, [orders[0], orders[-1]])
    ):  # fmt: skip
        settings = FineTuning(learning_rate=rate, epochs=config.passes, batch_size=batch)
        answers = fine_tuned_answers(model, prompts, some, settings, every=config.passes)
        laws, sensitivity = _kept(answers[config.passes], prompts)
        found[name] = laws[: len(some) if batch else 1], sensitivity
    return found


def _measured(state: State, config: OrderTableConfig) -> dict[str, float]:
    """A mean of what is stored, and the first set's first figures in two orders, made again."""
    with one_thread():
        orders = [(0, 1, 2, 3), (3, 2, 1, 0)]
        again = _descents(config, config.sets[0], config.seeds[0], config.rates[0], orders)
    return {
        "mean probability": state["0.one_by_one.laws"].mean().item(),
        "again, one by one": again["one_by_one"][0][..., 0].mean().item(),
        "again, full batch": again["full_batch"][0][..., 0].mean().item(),
    }


@recipe("demonstration_orders", config=OrderTableConfig(), measure=_measured)
def descent_answers(config: OrderTableConfig) -> State:
    """Laws and sensitivities of both descents for every set, as :class:`Answers` has them."""
    orders = list(itertools.permutations(range(4)))
    state: State = {}
    with one_thread():
        for place, chosen in enumerate(config.sets):
            cells = [
                [_descents(config, chosen, seed, rate, orders) for rate in config.rates]
                for seed in config.seeds
            ]
            for name in ("one_by_one", "full_batch"):
                for i, part in enumerate(("laws", "sensitivity")):
                    rows = [torch.stack([cell[name][i] for cell in row]) for row in cells]
                    state[f"{place}.{name}.{part}"] = torch.stack(rows)
    return state


def order_table(name: str, config: OrderTableConfig | None = None) -> OrderTable:
    """Every learner's answers after one set of demonstrations, in all 24 orders.

    In-context learning and the filter are computed now, the descents stored for the default
    configuration.

    Args:
        name: of one of the configuration's sets.
        config: rates, passes, models, sets.

    Raises:
        ValueError: no such set.
    """
    config = OrderTableConfig() if config is None else config
    names = tuple(chosen.name for chosen in config.sets)
    check_choice("name", name, names)
    place = names.index(name)
    prompts = config.sets[place].prompts(config.n_queries)
    orders = list(itertools.permutations(range(prompts.n)))
    models = course_models()
    with one_thread():
        by_model = [
            _kept(in_context_answers(models[seed], prompts, orders), prompts)
            for seed in config.seeds
        ]
    context = Answers(*(torch.stack(part)[:, None] for part in zip(*by_model, strict=True)))
    filtered = _kept(torch.stack([filter_answers(prompts.in_order(o)) for o in orders]), prompts)
    state = descent_answers(config)
    descents = {
        kind: Answers(state[f"{place}.{kind}.laws"], state[f"{place}.{kind}.sensitivity"])
        for kind in ("one_by_one", "full_batch")
    }
    return OrderTable(
        chosen=config.sets[place],
        prompts=prompts,
        answers={
            "in_context": context,
            **descents,
            "filter": Answers(*(part[None, None] for part in filtered)),
        },
        config=config,
    )
