"""Task vectors by block: put in a state's place or added, and against other demonstrations.

For every task the vector is taken from prompts with dummy queries and tested on others, beside the
accuracy without demonstrations and with them [hendel2023task, section 3]. Two more questions are
asked of the same vectors: what they do to a prompt that demonstrates another task (section 5), and
what a vector knows that was taken from demonstrations with random labels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.figures import task_vectors as figures
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.task_vectors import (
    held_apart,
    patched_answers,
    task_vectors,
    whose_query_is_answered,
)
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.zoo import State, recipe

WAYS = ("replace", "add")
OTHER_SET = 1000  # seeds of further demonstrations are so far apart
PAIRS = tuple(
    (shown, injected)
    for first, second in (("topic", "mood"), ("topic", "stance"), ("mood", "kind"))
    for shown, injected in ((first, second), (second, first))
)


@dataclass(frozen=True, kw_only=True)
class TaskVectorsConfig:
    """Settings of :func:`task_vectors_by_block`, all of which its figures depend on.

    Attributes:
        model, data, tasks: as for ``icl_against_gd``.
        pairs: task demonstrated and task injected, which must share their queries; for a pretrained
            model none, since its data sets do not.
        n: demonstrations in a prompt.
        sets: of demonstrations for each seed; blocks are chosen on the first.
        dummies: queries that a vector is averaged over.
        n_queries: that it is tested on, less those among the dummies.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = COURSE_TASKS
    pairs: tuple[tuple[str, str], ...] = PAIRS
    n: int = 8
    sets: int = 3
    dummies: int = 20
    n_queries: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n", "dummies", "n_queries"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("sets", self.sets, at_least=2)
        if self.model != COURSE and self.tasks == COURSE_TASKS:
            object.__setattr__(self, "tasks", tuple(HUB))
        if self.model != COURSE:
            object.__setattr__(self, "pairs", ())
        for task in self.tasks:
            check_choice("tasks", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))
        for task in {task for pair in self.pairs for task in pair}:
            check_choice("pairs", task, self.tasks)


@dataclass(frozen=True, kw_only=True)
class TaskVectorsResult:
    """Accuracy over the whole vocabulary with and without vectors.

    Attributes:
        tasks, ways, pairs: names along the axes.
        zero_shot, in_context: without a vector, ``[tasks, sets, seeds]``.
        random_context: in context, labels of the demonstrations drawn at random among the task's.
        patched: queries alone with the vector, ``[tasks, ways, blocks, sets, seeds]``.
        random_patched: the same, the vector from demonstrations with random labels.
        read: shares of prompts answered for their own query and for the donor's when last states
            are swapped after a block, ``[tasks, blocks, 2, seeds]``.
        before, injected: prompts that demonstrate the first task of a pair, without and with the
            second one's vector: accuracy at the first and at the second where these differ,
            ``[pairs, 2, seeds]`` and ``[pairs, ways, blocks, 2, seeds]``.
    """

    tasks: tuple[str, ...]
    ways: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    zero_shot: Float[np.ndarray, "tasks sets seeds"]
    in_context: Float[np.ndarray, "tasks sets seeds"]
    random_context: Float[np.ndarray, "tasks sets seeds"]
    patched: Float[np.ndarray, "tasks ways blocks sets seeds"]
    random_patched: Float[np.ndarray, "tasks ways blocks sets seeds"]
    read: Float[np.ndarray, "tasks blocks two seeds"]
    before: Float[np.ndarray, "pairs two seeds"]
    injected: Float[np.ndarray, "pairs ways blocks two seeds"]

    def rows(self, *tasks: str) -> list[int]:
        """Places of some tasks on the first axis."""
        for task in tasks:
            check_choice("tasks", task, self.tasks)
        return [self.tasks.index(task) for task in tasks]

    def best(self, way: str) -> Float[np.ndarray, "tasks seeds"]:
        """Accuracy after the block that the first set of demonstrations chose, on the others."""
        check_choice("way", way, self.ways)
        values = self.patched[:, self.ways.index(way)]
        block = values[:, :, 0].argmax(1)
        chosen = np.take_along_axis(values, block[:, None, None, :], 1)[:, 0]
        return chosen[:, 1:].mean(1)

    def summary(self) -> str:
        """Means over sets, for each seed."""
        lines = ["accuracy by seed: alone, in context; after each block, replaced and added"]
        for i, task in enumerate(self.tasks):
            for seed in range(self.zero_shot.shape[-1]):
                by_way = [
                    " ".join(f"{v:.2f}" for v in self.patched[i, way, :, :, seed].mean(-1))
                    for way in range(len(self.ways))
                ]
                alone, context = (
                    f"{values[i, :, seed].mean():.2f}"
                    for values in (self.zero_shot, self.in_context)
                )
                lines.append(f"  {task:16s}{seed}  {alone} {context}   " + "   ".join(by_way))
        return "\n".join(lines)


def _patched(who: Subject, vectors_from: object, tokens: Tensor) -> Tensor:
    """Answers with the vector in every way after every block, ``[ways, blocks, batch, words]``."""
    laws = []
    for way in WAYS:
        vectors = task_vectors(who.model, vectors_from, way)
        laws.append([patched_answers(who.model, tokens, b, v, way) for b, v in enumerate(vectors)])
    return torch.stack([torch.stack(by_block) for by_block in laws])


def _accuracies(laws: Tensor, answer: Tensor) -> Tensor:
    return (laws.argmax(-1) == answer).double().mean(-1)


def _one(config: TaskVectorsConfig, who: Subject, task: str, seed: int, place: int) -> State:
    """Every accuracy on one task with one set of demonstrations."""
    seed = seed + OTHER_SET * place
    prompts = who.prompts(task, config.n, config.dummies + config.n_queries, seed)
    drawn = torch.randint(prompts.choices.shape[-1], (1, config.n), generator=seeded(seed))
    random = prompts.with_labels(prompts.choices[drawn].expand_as(prompts.labels))
    (dummies, asked), (lost, blurred) = (
        held_apart(each, config.dummies) for each in (prompts, random)
    )
    plain = (asked.query_tokens, asked.tokens, blurred.tokens)
    zero, context, noise = (
        accuracy_over_vocabulary(answer_law(who.model, tokens), asked.answer) for tokens in plain
    )
    return {
        "zero_shot": torch.tensor(zero),
        "in_context": torch.tensor(context),
        "random_context": torch.tensor(noise),
        "patched": _accuracies(_patched(who, dummies, asked.query_tokens), asked.answer),
        "random_patched": _accuracies(_patched(who, lost, asked.query_tokens), asked.answer),
    }


def _read(config: TaskVectorsConfig, who: Subject, task: str, seed: int) -> Tensor:
    prompts = who.prompts(task, config.n, config.n_queries, seed)
    tokens, answer = prompts.tokens, prompts.answer
    return torch.tensor(
        [whose_query_is_answered(who.model, tokens, answer, b) for b in range(who.layers)]
    )


def _overriding(
    config: TaskVectorsConfig, who: Subject, pair: tuple[str, str], seed: int
) -> tuple[Tensor, Tensor]:
    """Accuracy at both tasks of a pair before and after the second one's vector is injected."""
    count = config.dummies + config.n_queries
    (_, shown), (dummies, other) = (
        held_apart(who.prompts(task, config.n, count, seed), config.dummies) for task in pair
    )
    differ = shown.answer != other.answer
    tokens, truths = shown.tokens[differ], (shown.answer[differ], other.answer[differ])
    before = answer_law(who.model, tokens)
    after = _patched(who, dummies, tokens)
    return tuple(
        torch.stack([_accuracies(laws, truth) for truth in truths], -1) for laws in (before, after)
    )


def _summed(state: State, config: TaskVectorsConfig) -> dict[str, float]:
    """Mean accuracies of the stored figures, and the first cell of them made again."""
    who = subject(config.model, config.seeds[0], config.data)
    with one_thread():
        again = _one(config, who, config.tasks[0], config.seeds[0], 0)
    return {
        "mean accuracy with a vector": state["patched"].mean().item(),
        "the same of the first cell": again["patched"].mean().item(),
    }


@recipe("task_vectors", config=TaskVectorsConfig(), measure=_summed)
def task_vector_measures(config: TaskVectorsConfig) -> State:
    """The arrays of :class:`TaskVectorsResult`."""
    subjects = [subject(config.model, seed, config.data) for seed in config.seeds]
    asked = list(zip(subjects, config.seeds, strict=True))
    with one_thread():
        cells = [
            [[_one(config, who, task, seed, place) for who, seed in asked]
             for place in range(config.sets)]
            for task in config.tasks
        ]  # fmt: skip
        read = [[_read(config, who, task, seed) for who, seed in asked] for task in config.tasks]
        pairs = [[_overriding(config, who, p, seed) for who, seed in asked] for p in config.pairs]

    def stacked(name: str) -> Tensor:  # [tasks, sets, seeds, ...] -> sets and seeds last
        rows = [torch.stack([torch.stack([c[name] for c in s]) for s in t]) for t in cells]
        return torch.stack(rows).movedim((1, 2), (-2, -1))

    layers, seeds = subjects[0].layers, len(config.seeds)
    before = torch.zeros(0, 2, seeds)
    injected = torch.zeros(0, len(WAYS), layers, 2, seeds)
    if pairs:
        before, injected = (
            torch.stack([torch.stack([cell[i] for cell in row], -1) for row in pairs])
            for i in (0, 1)
        )
    arrays = {name: stacked(name) for name in cells[0][0][0]} | {
        "read": torch.stack([torch.stack(row, -1) for row in read]),
        "before": before,
        "injected": injected,
    }
    return {name: array.float().contiguous() for name, array in arrays.items()}


@experiment(
    "task_vectors",
    paper="hendel2023task",
    chapter="language_models/demonstrations",
    configs={
        Scale.LESSON: TaskVectorsConfig(),
        Scale.PAPER: TaskVectorsConfig(model="huggyllama/llama-7b", sets=5, dummies=2),
    },
    figure=figures.task_vectors_by_block,
)
def task_vectors_by_block(config: TaskVectorsConfig) -> TaskVectorsResult:
    """One state in place of the demonstrations: accuracy by block, replaced and added."""
    state = task_vector_measures(config)
    return TaskVectorsResult(
        tasks=config.tasks,
        ways=WAYS,
        pairs=config.pairs,
        **{name: array.double().numpy() for name, array in state.items()},
    )
