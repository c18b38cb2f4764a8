"""What does gradient descent make of many demonstrations, more than a prompt could hold?

Shen et al. give descent 8 and 512 [shen2024pretrained, table 1]. Two things that a table of
accuracies does not show are kept beside it. Label words that no demonstration has told put a
ceiling on what descent can reach. And with many demonstrations some test inputs are among them, so
that the accuracy on the others is counted apart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.figures import many_demonstrations as figures
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.models.pretrained import PADDING
from icl_lessons.runtime import Scale, check_choice, check_integer, check_number, one_thread
from icl_lessons.zoo import State, recipe

ASKED_OF_COURSE = ("topic", "stance", "mood", "kind", "stance contrary")
COUNTED = ("all queries", "queries not among the demonstrations", "demonstrations")


@dataclass(frozen=True, kw_only=True)
class ManyDemonstrationsConfig:
    """Settings of :func:`many_demonstrations`.

    Attributes:
        model, data, tasks: who is asked what, as in
            :class:`~icl_lessons.language_models.experiments.icl_against_gd.ICLAgainstGDConfig`.
        n_demonstrations: given to descent; ``n_in_context`` to the prompt beside it.
        learning_rate, epochs: of full-batch descent on the whole model.
        every: epochs between two looks.
        n_queries: the same for every seed.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = ASKED_OF_COURSE
    n_demonstrations: tuple[int, ...] = (8, 64, 512)
    n_in_context: int = 8
    learning_rate: float | int = 0.03
    epochs: int = 100
    every: int = 20
    n_queries: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_in_context", "epochs", "every", "n_queries"):
            check_integer(name, getattr(self, name), at_least=1)
        for n in self.n_demonstrations:
            check_integer("n_demonstrations", n, at_least=1)
        check_number("learning_rate", self.learning_rate, positive=True)
        if self.epochs % self.every:
            raise ValueError(f"every: {self.every} does not divide epochs = {self.epochs}")
        if self.model != COURSE and self.tasks == ASKED_OF_COURSE:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            check_choice("tasks", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))

    @property
    def settings(self) -> FineTuning:
        """Of descent."""
        return FineTuning(learning_rate=self.learning_rate, epochs=self.epochs)


@dataclass(frozen=True, kw_only=True)
class ManyDemonstrationsResult:
    """Accuracies over the whole vocabulary.

    Attributes:
        tasks, n_demonstrations, epochs: names and numbers along the axes.
        counted: what the accuracies of the last axis are of: all queries, the queries that no
            demonstration asks, and the demonstrations themselves.
        descent: ``[tasks, numbers, seeds, epochs, counted]``; NaN where every query was told.
        n_in_context: demonstrations in the prompts.
        in_context: of prompts, ``[tasks, seeds]``; ``alone`` without demonstrations.
        told: share of queries that are among the demonstrations, ``[tasks, numbers, seeds]``.
        ceiling: share of queries whose label some demonstration has, ``[tasks, numbers, seeds]``.
    """

    tasks: tuple[str, ...]
    n_demonstrations: tuple[int, ...]
    epochs: tuple[int, ...]
    counted: tuple[str, ...]
    descent: Float[np.ndarray, "tasks numbers seeds epochs counted"]
    n_in_context: int
    in_context: Float[np.ndarray, "tasks seeds"]
    alone: Float[np.ndarray, "tasks seeds"]
    told: Float[np.ndarray, "tasks numbers seeds"]
    ceiling: Float[np.ndarray, "tasks numbers seeds"]

    def last(self, counted: str = COUNTED[0]) -> Float[np.ndarray, "tasks numbers seeds"]:
        """Accuracy of descent after the last epoch."""
        check_choice("counted", counted, self.counted)
        return self.descent[..., -1, self.counted.index(counted)]

    def summary(self) -> str:
        """Means over the seeds in a few lines."""
        numbers = ", ".join(map(str, self.n_demonstrations))
        lines = [f"accuracy of descent with {numbers}; in context with {self.n_in_context}"]
        for i, task in enumerate(self.tasks):
            row = " ".join(f"{v:.2f}" for v in self.last()[i].mean(-1))
            lines.append(f"  {task:18s}{row}    {self.in_context[i].mean():.2f}")
        return "\n".join(lines)


def _rows(tokens: Tensor) -> list[tuple[int, ...]]:
    """Prompts without their padding, to be compared."""
    return [tuple(t for t in row if t != PADDING) for row in tokens.tolist()]


def cell_accuracies(
    config: ManyDemonstrationsConfig, who: Subject, task: str, n: int, seed: int
) -> tuple[Float[Tensor, "epochs counted"], float, float]:
    """Descent on ``n`` demonstrations, by epoch; the share of queries told; the ceiling."""
    prompts = who.prompts(task, n, config.n_queries, seed)
    inputs, labels = prompts.demonstrations(0)
    shown = set(_rows(inputs))
    fresh = torch.tensor([row not in shown for row in _rows(prompts.query_tokens)])
    looks: list[list[float]] = []

    def watch(epoch: int, tuned: torch.nn.Module) -> None:
        law = answer_law(tuned, prompts.query_tokens)
        looks.append(
            [
                accuracy_over_vocabulary(law, prompts.answer),
                accuracy_over_vocabulary(law[fresh], prompts.answer[fresh])
                if fresh.any()
                else torch.nan,
                accuracy_over_vocabulary(answer_law(tuned, inputs), labels),
            ]
        )

    fine_tune(who.model, inputs, labels, config.settings, watch=watch, every=config.every)
    told = 1 - fresh.double().mean().item()
    ceiling = torch.isin(prompts.answer, labels).double().mean().item()
    return torch.tensor(looks), told, ceiling


def _prompted(config: ManyDemonstrationsConfig, task: str, seed: int) -> list[float]:
    """Accuracy in context, and without demonstrations."""
    who = subject(config.model, seed, config.data)
    prompts = who.prompts(task, config.n_in_context, config.n_queries, seed)
    return [
        accuracy_over_vocabulary(answer_law(who.model, tokens), prompts.answer)
        for tokens in (prompts.tokens, prompts.query_tokens)
    ]


def _summed(state: State, config: ManyDemonstrationsConfig) -> dict[str, float]:
    """Means of the stored figures, and two cells of them made again."""
    task, n, seed = config.tasks[0], min(config.n_demonstrations), config.seeds[0]
    with one_thread():
        again, _, _ = cell_accuracies(
            config, subject(config.model, seed, config.data), task, n, seed
        )
        prompted = _prompted(config, task, seed)
    return {
        "mean accuracy of descent": state["descent"][..., 0].mean().item(),
        "accuracy in context": state["prompted"][..., 0].mean().item(),
        "first cell of descent": again[..., 0].mean().item(),
        "first cell in context": prompted[0],
    }


@recipe("many_demonstrations", config=ManyDemonstrationsConfig(), measure=_summed)
def many_demonstrations_measures(config: ManyDemonstrationsConfig) -> State:
    """``descent`` ``[tasks, numbers, seeds, epochs, counted]``, ``shares`` ``[..., 2]`` of queries
    told and of queries under the ceiling, ``prompted`` ``[tasks, seeds, 2]``."""
    descent, shares, prompted = [], [], []
    with one_thread():
        for task in config.tasks:
            for n in config.n_demonstrations:
                for seed in config.seeds:
                    who = subject(config.model, seed, config.data)
                    looks, told, ceiling = cell_accuracies(config, who, task, n, seed)
                    descent.append(looks)
                    shares.append(torch.tensor([told, ceiling]))
            prompted += [torch.tensor(_prompted(config, task, seed)) for seed in config.seeds]
    tasks, seeds = len(config.tasks), len(config.seeds)
    cells = (tasks, len(config.n_demonstrations), seeds)
    return {
        "descent": torch.stack(descent).unflatten(0, cells),
        "shares": torch.stack(shares).unflatten(0, cells),
        "prompted": torch.stack(prompted).unflatten(0, (tasks, seeds)),
    }


@experiment(
    "many_demonstrations",
    paper="shen2024pretrained",
    chapter="language_models/gradient_descent",
    configs={
        Scale.LESSON: ManyDemonstrationsConfig(),
        Scale.PAPER: ManyDemonstrationsConfig(
            model="huggyllama/llama-7b",
            n_demonstrations=(8, 512),
            learning_rate=1e-4,
            epochs=200,
        ),
    },
    figure=figures.many_demonstrations,
)
def many_demonstrations(config: ManyDemonstrationsConfig) -> ManyDemonstrationsResult:
    """Descent on 8, 64 and 512 demonstrations: the counterpart of table 1."""
    state = {k: v.double().numpy() for k, v in many_demonstrations_measures(config).items()}
    return ManyDemonstrationsResult(
        tasks=config.tasks,
        n_demonstrations=config.n_demonstrations,
        epochs=tuple(range(0, config.epochs + 1, config.every)),
        counted=COUNTED,
        descent=state["descent"],
        n_in_context=config.n_in_context,
        in_context=state["prompted"][..., 0],
        alone=state["prompted"][..., 1],
        told=state["shares"][..., 0],
        ceiling=state["shares"][..., 1],
    )
