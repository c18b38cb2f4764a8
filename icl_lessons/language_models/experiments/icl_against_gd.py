"""In-context learning against gradient descent on the same demonstrations: the study itself.

Shen et al. give a model demonstrations as a prompt, or fine-tune it on them and ask without, and
compare the answers: how often they are right, how many of the top tokens they share, how alike the
probabilities of these are [shen2024pretrained, section 4]. Descent moves the whole model, or a
deep or middle block, or the values of a deep block. In-context learning in another order, and the
model without demonstrations, are what these figures have to be held against.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.figures import icl_against_gd as figures
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import (
    accuracy_over_vocabulary,
    overlap_cosine_similarity,
    token_overlap,
)
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.zoo import State, recipe

IN_CONTEXT, REORDERED, ZERO_SHOT = "in context", "in context, reordered", "no demonstrations"
MEASURES = ("accuracy", "token_overlap", "overlap_cosine")


@dataclass(frozen=True)
class Rival:
    """A way to fine-tune; its part is named by depth, so that it fits a model of any size.

    Attributes:
        name: as figures and tables show it.
        optimizer, learning_rate: as :class:`~icl_lessons.language_models.fine_tuning.FineTuning`.
        part: ``"all"``, ``"deep block"`` (the last), ``"middle block"`` or ``"deep values"``.
    """

    name: str
    optimizer: str
    learning_rate: float
    part: str = "all"

    def settings(self, layers: int, epochs: int) -> FineTuning:
        """For a model of so many blocks."""
        deep, middle = layers - 1, layers // 2
        parts = {
            "all": "all",
            "deep block": f"block:{deep}",
            "middle block": f"block:{middle}",
            "deep values": f"value:{deep}",
        }
        check_choice("part", self.part, tuple(parts))
        return FineTuning(
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            epochs=epochs,
            parts=parts[self.part],
        )


RIVALS = (
    Rival("descent, rate .003", "descent", 0.003),
    Rival("descent, rate .03", "descent", 0.03),
    Rival("Adam, rate .001", "adam", 0.001),
    Rival("descent, deep block", "descent", 0.03, "deep block"),
    Rival("descent, middle block", "descent", 0.03, "middle block"),
    Rival("descent, deep values", "descent", 0.03, "deep values"),
)

PAPER_RIVALS = tuple(
    Rival(f"descent, {part}, rate {rate:g}", "descent", rate, part)
    for part in ("all", "deep values", "middle block")
    for rate in (1e-4, 5e-4, 1e-5, 5e-5)
)


ASKED_OF_COURSE = ("topic", "stance", "kind", "stance contrary")


@dataclass(frozen=True, kw_only=True)
class ICLAgainstGDConfig:
    """Settings of :func:`icl_against_gd`, all of which its figures depend on.

    Attributes:
        model: ``"course"``, or the name or folder of a pretrained model.
        data: for a pretrained model, a folder of files such as ``sst2.jsonl``; the hub if ``None``.
        tasks: of the subject; for a pretrained model the four data sets if none are named.
        n_demonstrations: in a prompt.
        rivals: ways to fine-tune.
        epochs, every: passes over the demonstrations, and how often the answers are looked at.
        n_queries: the same for every method and seed.
        top: tokens that are compared.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = ASKED_OF_COURSE
    n_demonstrations: tuple[int, ...] = (1, 2, 4, 8)
    rivals: tuple[Rival, ...] = RIVALS
    epochs: int = 200
    every: int = 40
    n_queries: int = 100
    top: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("epochs", "every", "n_queries", "top"):
            check_integer(name, getattr(self, name), at_least=1)
        if self.epochs % self.every:
            raise ValueError(f"every: {self.every} does not divide epochs = {self.epochs}")
        if self.model != COURSE and self.tasks == ASKED_OF_COURSE:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            check_choice("tasks", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))

    @property
    def methods(self) -> tuple[str, ...]:
        """What gives answers, in the order of the results."""
        return (IN_CONTEXT, REORDERED, ZERO_SHOT, *(rival.name for rival in self.rivals))


@dataclass(frozen=True, kw_only=True)
class ICLAgainstGDResult:
    """Accuracy, and likeness to in-context learning, of every method.

    Attributes:
        tasks, methods, n_demonstrations: names and numbers along the axes.
        epochs: of the last axis; methods without training repeat their figure along it.
        accuracy: over the whole vocabulary, ``[tasks, methods, numbers, seeds, epochs]``.
        token_overlap: share of the top tokens shared with in-context learning.
        overlap_cosine: overlap cosine similarity with it.
        labels: label words of each task, for the accuracy of a constant answer.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    n_demonstrations: tuple[int, ...]
    epochs: tuple[int, ...]
    accuracy: Float[np.ndarray, "tasks methods numbers seeds epochs"]
    token_overlap: Float[np.ndarray, "tasks methods numbers seeds epochs"]
    overlap_cosine: Float[np.ndarray, "tasks methods numbers seeds epochs"]
    labels: tuple[int, ...]

    def last(self, measure: str, method: str) -> Float[np.ndarray, "tasks numbers seeds"]:
        """A measure of one method after the last epoch."""
        check_choice("measure", measure, MEASURES)
        check_choice("method", method, self.methods)
        return getattr(self, measure)[:, self.methods.index(method), :, :, -1]

    @property
    def rivals(self) -> tuple[str, ...]:
        """The methods that fine-tune."""
        return self.methods[3:]

    def summary(self) -> str:
        """Means over the seeds in a few lines."""
        lines = []
        for measure in ("accuracy", "overlap_cosine"):
            lines.append(f"{measure}, for {', '.join(map(str, self.n_demonstrations))}")
            for i, task in enumerate(self.tasks):
                for method in self.methods:
                    row = self.last(measure, method)[i].mean(-1)
                    lines.append(f"  {task:16s}{method:28s}" + " ".join(f"{v:.2f}" for v in row))
        return "\n".join(lines)


def _measured(
    answers: Tensor, reference: Tensor, truth: Tensor, top: int
) -> tuple[float, float, float]:
    return (
        accuracy_over_vocabulary(answers, truth),
        token_overlap(reference, answers, top).mean().item(),
        overlap_cosine_similarity(reference, answers, top).mean().item(),
    )


def cell_measures(
    config: ICLAgainstGDConfig, who: Subject, task: str, n: int, seed: int
) -> Float[Tensor, "methods epochs measures"]:
    """Accuracy, token overlap and overlap cosine of every method, by epoch; 0 is before the first.

    Args:
        config: rivals, epochs, queries and top tokens; its model and tasks are not looked at.
        who: the model that is asked, and its prompts.
        task, n, seed: the demonstrations.
    """
    prompts = who.prompts(task, n, config.n_queries, seed)
    context = answer_law(who.model, prompts.tokens)
    order = torch.randperm(n, generator=seeded(seed + 1)).tolist()
    if n > 1 and order == list(range(n)):
        order = order[1:] + order[:1]
    looks = config.epochs // config.every + 1
    laws = [context, answer_law(who.model, prompts.in_order(order).tokens)]
    laws.append(answer_law(who.model, prompts.query_tokens))
    rows = [[_measured(law, context, prompts.answer, config.top)] * looks for law in laws]
    inputs, labels = prompts.demonstrations(0)
    for rival in config.rivals:
        row: list[tuple[float, float, float]] = []

        def watch(epoch: int, tuned: torch.nn.Module, row=row) -> None:
            law = answer_law(tuned, prompts.query_tokens)
            row.append(_measured(law, context, prompts.answer, config.top))

        settings = rival.settings(who.layers, config.epochs)
        fine_tune(who.model, inputs, labels, settings, watch=watch, every=config.every)
        rows.append(row)
    return torch.tensor(rows)


def _summed(state: State, config: ICLAgainstGDConfig) -> dict[str, float]:
    """Accuracy of the stored figures, and the first rival's first cell of them made again."""
    who = subject(config.model, config.seeds[0], config.data)
    alone = replace(config, rivals=config.rivals[:1])
    with one_thread():
        again = cell_measures(
            alone, who, config.tasks[0], config.n_demonstrations[0], config.seeds[0]
        )
    return {
        "mean accuracy": state["measures"][..., 0].mean().item(),
        "mean overlap cosine of the first cell": again[..., 2].mean().item(),
    }


@recipe("icl_against_gd", config=ICLAgainstGDConfig(), measure=_summed)
def icl_against_gd_measures(config: ICLAgainstGDConfig) -> State:
    """``measures`` ``[tasks, numbers, seeds, methods, epochs, 3]`` and ``labels`` ``[tasks]``."""
    with one_thread():
        cells = [
            [
                [cell_measures(config, subject(config.model, seed, config.data), task, n, seed)
                 for seed in config.seeds]
                for n in config.n_demonstrations
            ]
            for task in config.tasks
        ]  # fmt: skip
        first = subject(config.model, config.seeds[0], config.data)
        counts = [first.prompts(task, 1, 1, 0).choices.shape[-1] for task in config.tasks]
    measures = torch.stack([torch.stack([torch.stack(by_n) for by_n in t]) for t in cells])
    return {"measures": measures, "labels": torch.tensor(counts)}


@experiment(
    "icl_against_gd",
    paper="shen2024pretrained",
    chapter="language_models/gradient_descent",
    configs={
        Scale.LESSON: ICLAgainstGDConfig(),
        Scale.PAPER: ICLAgainstGDConfig(
            model="huggyllama/llama-7b",
            rivals=PAPER_RIVALS,
            every=20,
            n_queries=200,
        ),
    },
    figure=figures.icl_against_gd,
)
def icl_against_gd(config: ICLAgainstGDConfig) -> ICLAgainstGDResult:
    """The same demonstrations in a prompt and in gradient steps: accuracy, likeness of answers."""
    state = icl_against_gd_measures(config)
    # [tasks, numbers, seeds, methods, epochs, measures] -> measures first, methods after tasks
    values = state["measures"].permute(5, 0, 3, 1, 2, 4).double().numpy()
    return ICLAgainstGDResult(
        tasks=config.tasks,
        methods=config.methods,
        n_demonstrations=config.n_demonstrations,
        epochs=tuple(range(0, config.epochs + 1, config.every)),
        labels=tuple(state["labels"].tolist()),
        **dict(zip(MEASURES, values, strict=True)),
    )
