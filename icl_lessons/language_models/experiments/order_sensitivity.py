"""Order sensitivity of in-context learning and of optimisers, by learning rate, batch and epoch.

Shen et al. show the same demonstrations in ten orders, in a prompt and to optimisers that take them
one by one or a few at a time, and measure how far the answers move; theorem 1 says that what is
equivalent to in-context learning must move as far [shen2024pretrained, section 4.1 and figures 4,
6, 7]. Here for rates over a decade, since what an order does to stochastic descent grows with the
square of the rate.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.figures import order_sensitivity as figures
from icl_lessons.language_models.fine_tuning import FineTuning
from icl_lessons.language_models.order import (
    LABELS,
    fine_tuned_answers,
    in_context_answers,
    labelled_prompts,
    some_orders,
    theorem_gap,
)
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import accuracy_over_vocabulary, order_sensitivity
from icl_lessons.runtime import (
    Scale,
    check_choice,
    check_integer,
    check_number,
    one_thread,
    seeded,
)
from icl_lessons.zoo import State, recipe

ORDER_SEED = 2_310_088
FULL_BATCH = "descent, all at once"
CASES = (("kind", "gold"), ("stance", "a quarter wrong"))


@dataclass(frozen=True)
class Learner:
    """An optimiser with its rate, and demonstrations in a step (all if ``None``)."""

    name: str
    optimizer: str
    learning_rate: float
    batch_size: int | None = 1

    def settings(self, epochs: int) -> FineTuning:
        """For so many passes."""
        return FineTuning(
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            epochs=epochs,
            batch_size=self.batch_size,
        )


LEARNERS = (
    Learner(FULL_BATCH, "descent", 0.03, None),
    Learner("SGD, rate .003", "descent", 0.003),
    Learner("SGD, rate .01", "descent", 0.01),
    Learner("SGD, rate .03", "descent", 0.03),
    Learner("batches of 2, rate .003", "descent", 0.003, 2),
    Learner("batches of 4, rate .003", "descent", 0.003, 4),
    Learner("Adam, rate .0003", "adam", 3e-4),
    Learner("Adam, rate .001", "adam", 1e-3),
)

PAPER_RATES = (1e-4, 5e-4, 1e-5, 5e-5)
PAPER_LEARNERS = tuple(
    Learner(f"{name}, rate {rate:g}", kind, rate, size)
    for name, kind, size in (
        (FULL_BATCH, "descent", None),
        ("SGD", "descent", 1),
        ("batches of 4", "descent", 4),
        ("Adam", "adam", 1),
    )
    for rate in PAPER_RATES
)


@dataclass(frozen=True, kw_only=True)
class OrderSensitivityConfig:
    """Settings of :func:`order_sensitivity_study`.

    Attributes:
        model, data: as for ``icl_against_gd``.
        cases: task, and what the demonstrations' labels are (one of ``order.LABELS``); for a
            pretrained model right labels on the four data sets if none are named.
        n: demonstrations.
        n_orders, n_queries: orders of them, and queries, the same for every seed.
        learners: ways to fine-tune.
        epochs, every: passes over the demonstrations, and how often the answers are looked at.
        rates: of one pass of stochastic descent in float64, whose order sensitivity is compared
            with their square; with none, nothing is computed in float64.
        law_orders: orders for that.
        seeds: of the demonstrations and orders, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    cases: tuple[tuple[str, str], ...] = CASES
    n: int = 8
    n_orders: int = 10
    n_queries: int = 40
    learners: tuple[Learner, ...] = LEARNERS
    epochs: int = 40
    every: int = 5
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    law_orders: int = 6
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_queries", "epochs", "every"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("n", "n_orders", "law_orders"):
            check_integer(name, getattr(self, name), at_least=2)
        for rate in self.rates:
            check_number("rates", rate, positive=True)
        if self.epochs % self.every:
            raise ValueError(f"every: {self.every} does not divide epochs = {self.epochs}")
        if self.model != COURSE and self.cases == CASES:
            object.__setattr__(self, "cases", tuple((task, "gold") for task in HUB))
        for task, labels in self.cases:
            check_choice("cases", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))
            check_choice("cases", labels, LABELS)


@dataclass(frozen=True, kw_only=True)
class OrderSensitivityResult:
    """How far answers move with the order; ``sum_v std_r p_r(v)``, mean over queries.

    Attributes:
        cases: task and labels.
        learners: names.
        epochs: after which fine-tuned models were asked.
        context: sensitivity of in-context learning, ``[cases, seeds]``.
        tuned: of fine-tuned models, ``[cases, learners, seeds, epochs]``.
        context_accuracy: under each order, ``[cases, seeds, orders]``.
        tuned_accuracy: after the last epoch, ``[cases, learners, seeds, orders]``.
        same_answer: share of queries with the same most probable token in all orders, in context,
            ``[cases, seeds]``.
        rates: of one pass of stochastic descent, first case.
        one_pass: its sensitivity in float64, ``[seeds, rates]``.
        sides: of theorem 1 in float64, in context and after full-batch descent: the largest
            difference two orders make to a probability, ``[seeds, 2]``, or ``[seeds, 0]``.
    """

    cases: tuple[tuple[str, str], ...]
    learners: tuple[str, ...]
    epochs: tuple[int, ...]
    context: Float[np.ndarray, "cases seeds"]
    tuned: Float[np.ndarray, "cases learners seeds epochs"]
    context_accuracy: Float[np.ndarray, "cases seeds orders"]
    tuned_accuracy: Float[np.ndarray, "cases learners seeds orders"]
    same_answer: Float[np.ndarray, "cases seeds"]
    rates: tuple[float, ...]
    one_pass: Float[np.ndarray, "seeds rates"]
    sides: Float[np.ndarray, "seeds sides"]

    def of(self, learner: str) -> Float[np.ndarray, "cases seeds epochs"]:
        """One learner's sensitivity."""
        check_choice("learner", learner, self.learners)
        return self.tuned[:, self.learners.index(learner)]

    @property
    def slopes(self) -> Float[np.ndarray, " seeds"]:
        """Of log sensitivity on log rate, one pass."""
        return np.polyfit(np.log(self.rates), np.log(self.one_pass).T, 1)[0]

    def summary(self) -> str:
        """Sensitivities by seed in a few lines."""
        lines = []
        for i, (task, labels) in enumerate(self.cases):
            lines.append(f"{task}, labels {labels}: order sensitivity by seed, accuracy range")
            rows = [("in context", self.context[i], self.context_accuracy[i])]
            tuned = zip(self.learners, self.tuned[i, ..., -1], self.tuned_accuracy[i], strict=True)
            for name, values, accuracy in (*rows, *tuned):
                shown = " ".join(f"{v:8.2g}" for v in values)
                lines.append(f"  {name:<26}{shown}   {accuracy.min():.2f} to {accuracy.max():.2f}")
        if self.rates:
            lines.append("one pass of SGD, sensitivity over rate^2, mean over seeds")
            over = (self.one_pass / np.square(self.rates)).mean(0)
            pairs = zip(self.rates, over, strict=True)
            lines.append("  " + ", ".join(f"{rate:g}: {value:.0f}" for rate, value in pairs))
            lines.append("sides of theorem 1: " + ", ".join(f"{v:.1e}" for v in self.sides.flat))
        return "\n".join(lines)


def _orders(config: OrderSensitivityConfig, seed: int, count: int) -> list[tuple[int, ...]]:
    return some_orders(config.n, count, generator=seeded(ORDER_SEED + seed))


def _case(
    config: OrderSensitivityConfig, who: Subject, case: tuple[str, str], seed: int
) -> dict[str, Tensor]:
    """Every measure of one case and seed."""
    prompts = labelled_prompts(who, *case, config.n, config.n_queries, seed)
    orders = _orders(config, seed, config.n_orders)

    def accuracies(answers: Tensor) -> Tensor:
        return torch.tensor([accuracy_over_vocabulary(a, prompts.answer) for a in answers])

    context = in_context_answers(who.model, prompts, orders)
    chosen = context.argmax(-1)
    moved, right = [], []
    for learner in config.learners:
        settings = learner.settings(config.epochs)
        looks = fine_tuned_answers(who.model, prompts, orders, settings, every=config.every)
        moved.append(torch.stack([order_sensitivity(a).mean() for a in looks.values()]))
        right.append(accuracies(looks[config.epochs]))
    return {
        "context": order_sensitivity(context).mean(),
        "context_accuracy": accuracies(context),
        "same_answer": (chosen == chosen[0]).all(0).float().mean(),
        "tuned": torch.stack(moved),
        "tuned_accuracy": torch.stack(right),
    }


def _in_float64(config: OrderSensitivityConfig, who: Subject, seed: int) -> dict[str, Tensor]:
    """Sensitivity after one pass for each rate, and the two sides of theorem 1."""
    if not config.rates:
        return {"one_pass": torch.zeros(0), "sides": torch.zeros(0)}
    model = copy.deepcopy(who.model).double()
    prompts = labelled_prompts(who, *config.cases[0], config.n, config.n_queries, seed)
    orders = _orders(config, seed, config.law_orders)
    moved = []
    for rate in config.rates:
        once = FineTuning(learning_rate=rate, epochs=1, batch_size=1)
        answers = fine_tuned_answers(model, prompts, orders, once)[1]
        moved.append(order_sensitivity(answers).mean())
    full = FineTuning(epochs=20)
    return {
        "one_pass": torch.stack(moved),
        "sides": torch.tensor(theorem_gap(model, prompts, full, orders[0], orders[1]),
                              dtype=torch.float64),
    }  # fmt: skip


def _again(state: State, config: OrderSensitivityConfig) -> dict[str, float]:
    """The mean of the stored figures, and the first case measured again with one short training."""
    short = replace(config, learners=config.learners[1:2], epochs=config.every, rates=())
    with one_thread():
        who = subject(config.model, config.seeds[0], config.data)
        again = _case(short, who, config.cases[0], config.seeds[0])
    return {
        "mean sensitivity": state["tuned"].mean().item(),
        "in context, first case": again["context"].item(),
        "first training, first look": again["tuned"][0, -1].item(),
    }


@recipe("order_sensitivity", config=OrderSensitivityConfig(), measure=_again)
def order_sensitivity_measures(config: OrderSensitivityConfig) -> State:
    """Measures of every case, seeds first, then cases; those in float64 by seed alone."""
    rows = []
    with one_thread():
        for seed in config.seeds:
            who = subject(config.model, seed, config.data)
            cases = [_case(config, who, case, seed) for case in config.cases]
            row = {name: torch.stack([case[name] for case in cases]) for name in cases[0]}
            rows.append(row | _in_float64(config, who, seed))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@experiment(
    "order_sensitivity",
    paper="shen2024pretrained",
    chapter="language_models/order",
    configs={
        Scale.LESSON: OrderSensitivityConfig(),
        Scale.PAPER: OrderSensitivityConfig(
            model="huggyllama/llama-7b",
            cases=(("agnews", "gold"),),
            learners=PAPER_LEARNERS,
            epochs=200,
            every=20,
            rates=(),
        ),
    },
    figure=figures.order_sensitivity,
)
def order_sensitivity_study(config: OrderSensitivityConfig) -> OrderSensitivityResult:
    """How far answers move with the order of demonstrations: in context, and after descent."""
    state = {k: v.double().numpy() for k, v in order_sensitivity_measures(config).items()}
    return OrderSensitivityResult(
        cases=config.cases,
        learners=tuple(learner.name for learner in config.learners),
        epochs=tuple(range(0, config.epochs + 1, config.every)),
        context=state["context"].T,
        tuned=state["tuned"].transpose(1, 2, 0, 3),
        context_accuracy=state["context_accuracy"].swapaxes(0, 1),
        tuned_accuracy=state["tuned_accuracy"].transpose(1, 2, 0, 3),
        same_answer=state["same_answer"].T,
        rates=config.rates,
        one_pass=state["one_pass"],
        sides=state["sides"],
    )
