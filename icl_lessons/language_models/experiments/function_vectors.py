"""Which heads carry a task, and what the sum of their mean outputs does to a query.

The heads' average indirect effect is taken over prompts with corrupted labels, the heads are ranked
by it, and the function vector of the first few is added to queries without demonstrations and to
the corrupted prompts [todd2024function, sections 2 and 3]. Labels are corrupted in two ways.
*Shuffled* within a prompt, as in the paper; where label words belong to one task alone that hides
nothing of which task it is. *Any label*: drawn among the label words of all tasks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.figures import function_vectors as figures
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.function_vectors import (
    causal_indirect_effects,
    function_vector,
    head_outputs,
    top_heads,
)
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.task_vectors import Asked, held_apart, patched_answers
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.tasks.attribute_text import FIRST_FILLER, FIRST_LABEL, NAMES
from icl_lessons.zoo import State, recipe

SHUFFLED, ANY_LABEL = "shuffled", "any label"
OTHER_SET, OTHER_CHANCE = 1000, 500  # seeds of demonstrations and of corruption are so far apart


@dataclass(frozen=True, kw_only=True)
class FunctionVectorsConfig:
    """Settings of :func:`function_vectors_by_head`, all of which its figures depend on.

    Attributes:
        model, data, tasks: as for ``icl_against_gd``.
        averaged: tasks over which a head's effect is averaged before heads are ranked.
        corruptions: ways to corrupt labels: ``"shuffled"`` and, for CourseLM, ``"any label"``.
        n: demonstrations in a prompt.
        sets: of demonstrations for each seed, over which head outputs and effects are averaged.
        dummies: queries of each set that they are averaged over.
        n_queries: that vectors are tested on, less those among the dummies.
        counts: of heads in a function vector.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = COURSE_TASKS
    averaged: tuple[str, ...] = NAMES
    corruptions: tuple[str, ...] = (SHUFFLED, ANY_LABEL)
    n: int = 8
    sets: int = 3
    dummies: int = 20
    n_queries: int = 100
    counts: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("sets", "dummies", "n_queries"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n", self.n, at_least=2)
        if self.model != COURSE:
            if self.tasks == COURSE_TASKS:
                object.__setattr__(self, "tasks", tuple(HUB))
            if self.averaged == NAMES:
                object.__setattr__(self, "averaged", self.tasks)
            object.__setattr__(self, "corruptions", (SHUFFLED,))
        for task in self.tasks:
            check_choice("tasks", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))
        for task in self.averaged:
            check_choice("averaged", task, self.tasks)
        for way in self.corruptions:
            check_choice("corruptions", way, (SHUFFLED, ANY_LABEL))


@dataclass(frozen=True, kw_only=True)
class FunctionVectorsResult:
    """Effects of heads, and accuracy over the whole vocabulary with function vectors.

    Attributes:
        tasks, averaged, corruptions, counts: names and numbers along the axes.
        effects: indirect effect of each head, averaged over prompts,
            ``[corruptions, tasks, layers, heads, seeds]``.
        zero_shot, in_context: accuracy without a vector, ``[tasks, seeds]``.
        corrupted: in context with corrupted labels, ``[corruptions, tasks, seeds]``.
        added: queries alone, with the function vector of so many heads, ranked by their effect
            under a corruption, added after a block:
            ``[corruptions, tasks, blocks, counts, seeds]``.
        added_corrupted: the same vectors in prompts with corrupted labels.
        random: queries alone, with random directions of the vectors' lengths.
    """

    tasks: tuple[str, ...]
    averaged: tuple[str, ...]
    corruptions: tuple[str, ...]
    counts: tuple[int, ...]
    effects: Float[np.ndarray, "corruptions tasks layers heads seeds"]
    zero_shot: Float[np.ndarray, "tasks seeds"]
    in_context: Float[np.ndarray, "tasks seeds"]
    corrupted: Float[np.ndarray, "corruptions tasks seeds"]
    added: Float[np.ndarray, "corruptions tasks blocks counts seeds"]
    added_corrupted: Float[np.ndarray, "corruptions tasks blocks counts seeds"]
    random: Float[np.ndarray, "corruptions tasks blocks counts seeds"]

    def rows(self, *tasks: str) -> list[int]:
        """Places of some tasks on their axis."""
        for task in tasks:
            check_choice("tasks", task, self.tasks)
        return [self.tasks.index(task) for task in tasks]

    def average_effects(self, corruption: str) -> Float[np.ndarray, "layers heads seeds"]:
        """The average indirect effect, over prompts and :attr:`averaged` tasks."""
        check_choice("corruption", corruption, self.corruptions)
        return self.effects[self.corruptions.index(corruption), self.rows(*self.averaged)].mean(0)

    def of(self, measure: str, corruption: str, count: int) -> Float[np.ndarray, "tasks b seeds"]:
        """``added``, ``added_corrupted`` or ``random`` with so many heads, by block."""
        check_choice("measure", measure, ("added", "added_corrupted", "random"))
        check_choice("corruption", corruption, self.corruptions)
        if count not in self.counts:
            raise ValueError(f"count: got {count}; use one of {self.counts}")
        values = getattr(self, measure)[self.corruptions.index(corruption)]
        return values[:, :, self.counts.index(count)]

    def summary(self) -> str:
        """For each seed: accuracy by number of heads, added after the first block."""
        way = self.corruptions[-1]
        lines = [
            f"heads ranked under corruption {way!r}; accuracy alone, in context, and with "
            f"{', '.join(map(str, self.counts))} heads added after block 0"
        ]
        for i, task in enumerate(self.tasks):
            for seed in range(self.zero_shot.shape[-1]):
                values = " ".join(f"{v:.2f}" for v in self.added[-1, i, 0, :, seed])
                without = f"{self.zero_shot[i, seed]:.2f} {self.in_context[i, seed]:.2f}"
                lines.append(f"  {task:16s}{seed}  {without}   {values}")
        return "\n".join(lines)


def corrupted_labels(prompts: Any, way: str, generator: torch.Generator) -> Int[Tensor, "batch n"]:
    """Other labels for each prompt's demonstrations.

    Args:
        way: ``"shuffled"``: the prompt's own in another order; ``"any label"``: drawn among all
            label words of attribute text.
    """
    shape = prompts.labels.shape
    if way == SHUFFLED:
        return prompts.labels.gather(1, torch.rand(shape, generator=generator).argsort(1))
    return torch.randint(FIRST_LABEL, FIRST_FILLER, shape, generator=generator)


def _sets(config: FunctionVectorsConfig, who: Subject, task: str, seed: int) -> list[Any]:
    """Prompts of every set of demonstrations, before the same queries."""
    count = config.dummies + config.n_queries
    seeds = [seed + OTHER_SET * place for place in range(config.sets)]
    return [who.prompts(task, config.n, count, each) for each in seeds]


def _corrupt(config: FunctionVectorsConfig, prompts: list[Any], way: str) -> list[Any]:
    generator = seeded(OTHER_CHANCE)
    return [each.with_labels(corrupted_labels(each, way, generator)) for each in prompts]


def _means(config: FunctionVectorsConfig, who: Subject, prompts: list[Any]) -> Tensor:
    shown = [held_apart(each, config.dummies)[0].tokens for each in prompts]
    return torch.stack([head_outputs(who.model, tokens).mean(2) for tokens in shown]).mean(0)


def _effects(
    config: FunctionVectorsConfig, who: Subject, prompts: list[Any], way: str, means: Tensor
) -> Tensor:
    """The indirect effect of every head on one task, averaged over prompts."""
    found = []
    for each in _corrupt(config, prompts, way):
        asked = held_apart(each, config.dummies)[0]
        effects = causal_indirect_effects(who.model, asked.tokens, asked.answer, means)
        found.append(effects.mean(2))
    return torch.stack(found).mean(0)


def _with_vectors(
    who: Subject, tokens: Tensor, answer: Tensor, vectors: Tensor
) -> Float[Tensor, "blocks counts"]:
    """Accuracy with each of some vectors added after each block."""
    return torch.tensor(
        [
            [
                accuracy_over_vocabulary(patched_answers(who.model, tokens, b, v, "add"), answer)
                for v in vectors
            ]
            for b in range(who.layers)
        ]
    )


def _one(config: FunctionVectorsConfig, who: Subject, seed: int) -> State:
    """Every array of the result for one seed."""
    prompts = {task: _sets(config, who, task, seed) for task in config.tasks}
    means = {task: _means(config, who, prompts[task]) for task in config.tasks}
    effects = torch.stack(
        [
            torch.stack([_effects(config, who, prompts[t], way, means[t]) for t in config.tasks])
            for way in config.corruptions
        ]
    )
    rows = [config.tasks.index(task) for task in config.averaged]
    tests = {task: held_apart(prompts[task][0], config.dummies)[1] for task in config.tasks}
    generator = seeded(seed)
    blurred, added, rescued, lost = [], [], [], []
    for place, way in enumerate(config.corruptions):
        average = effects[place, rows].mean(0)
        for task in config.tasks:
            test: Asked = tests[task]
            bad = held_apart(_corrupt(config, prompts[task][:1], way)[0], config.dummies)[1]
            chosen = [top_heads(average, min(k, average.numel())) for k in config.counts]
            vectors = torch.stack([function_vector(means[task], heads) for heads in chosen])
            drawn = torch.randn(vectors.shape, generator=generator)
            drawn = drawn * (vectors.norm(dim=1) / drawn.norm(dim=1))[:, None]
            blurred.append(accuracy_over_vocabulary(answer_law(who.model, bad.tokens), bad.answer))
            added.append(_with_vectors(who, test.query_tokens, test.answer, vectors))
            lost.append(_with_vectors(who, test.query_tokens, test.answer, drawn))
            rescued.append(_with_vectors(who, bad.tokens, bad.answer, vectors))

    shape = (len(config.corruptions), len(config.tasks))
    return {
        "effects": effects,
        "zero_shot": _plain(who, tests, "query_tokens"),
        "in_context": _plain(who, tests, "tokens"),
        "corrupted": torch.tensor(blurred).view(shape),
        "added": torch.stack(added).unflatten(0, shape),
        "added_corrupted": torch.stack(rescued).unflatten(0, shape),
        "random": torch.stack(lost).unflatten(0, shape),
    }


def _plain(who: Subject, tests: dict[str, Asked], tokens: str) -> Tensor:
    laws = [(answer_law(who.model, getattr(test, tokens)), test.answer) for test in tests.values()]
    return torch.tensor([accuracy_over_vocabulary(*pair) for pair in laws])


def _summed(state: State, config: FunctionVectorsConfig) -> dict[str, float]:
    """Means of the stored figures, and the effects of the first task made again."""
    who, task = subject(config.model, config.seeds[0], config.data), config.tasks[0]
    with one_thread():
        prompts = _sets(config, who, task, config.seeds[0])
        means = _means(config, who, prompts)
        again = _effects(config, who, prompts, config.corruptions[0], means)
    return {
        "mean accuracy with a function vector": state["added"].mean().item(),
        "largest effect on the first task": again.max().item(),
    }


@recipe("function_vectors", config=FunctionVectorsConfig(), measure=_summed)
def function_vector_measures(config: FunctionVectorsConfig) -> State:
    """The arrays of :class:`FunctionVectorsResult`."""
    with one_thread():
        by_seed = [
            _one(config, subject(config.model, seed, config.data), seed) for seed in config.seeds
        ]
    return {
        name: torch.stack([arrays[name] for arrays in by_seed], -1).float().contiguous()
        for name in by_seed[0]
    }


@experiment(
    "function_vectors",
    paper="todd2024function",
    chapter="language_models/demonstrations",
    configs={
        Scale.LESSON: FunctionVectorsConfig(),
        Scale.PAPER: FunctionVectorsConfig(
            model="EleutherAI/gpt-j-6b", n=10, sets=25, counts=(1, 5, 10, 20, 40)
        ),
    },
    figure=figures.function_vectors_by_head,
)
def function_vectors_by_head(config: FunctionVectorsConfig) -> FunctionVectorsResult:
    """The heads that carry a task, and the sum of their mean outputs in place of demonstrations."""
    state = function_vector_measures(config)
    return FunctionVectorsResult(
        tasks=config.tasks,
        averaged=config.averaged,
        corruptions=config.corruptions,
        counts=config.counts,
        **{name: array.double().numpy() for name, array in state.items()},
    )
