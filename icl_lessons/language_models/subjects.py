"""Who is asked what: a model and its tasks, CourseLM or any model of Hugging Face.

A study asks for prompts by the name of a task. On CourseLM a task is an attribute and a mapping,
such as ``"stance"`` or ``"stance contrary"``; on a pretrained model one of the four data sets of
Shen et al. Either way a seed draws the demonstrations, and the queries are the same for every
method and every seed, so that all differences are the methods' own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from icl_lessons.language_models.course_models import course_models
from icl_lessons.language_models.text_tasks import (
    HUB,
    TEMPLATES,
    Example,
    TextTask,
    hub_examples,
    read_examples,
)
from icl_lessons.models.pretrained import PretrainedLM, load_pretrained
from icl_lessons.runtime import check_choice, check_integer, seeded
from icl_lessons.tasks.attribute_prompts import attribute_prompts
from icl_lessons.tasks.attribute_text import NAMES

COURSE = "course"
QUERY_SEED = 2_310_080
COURSE_TASKS = tuple(f"{name}{kind}" for kind in ("", " contrary") for name in NAMES)


@dataclass(frozen=True)
class Subject:
    """A model and what it can be asked.

    Attributes:
        model: a :class:`~icl_lessons.types.SequenceModel` with parameters.
        layers: its number of blocks.
        prompts: ``prompts(task, n, n_queries, seed)``: demonstrations of that seed, shared by all
            queries, before the same queries for every seed.
        drawn: ``drawn(task, n, batch_size, seed)``: prompts with demonstrations and a query of
            their own.
    """

    model: nn.Module
    layers: int
    prompts: Callable[[str, int, int, int], Any]
    drawn: Callable[[str, int, int, int], Any]


def course_prompts(task: str, n: int, n_queries: int, seed: int) -> Any:
    """Prompts of attribute text for one of :data:`COURSE_TASKS`."""
    shown = drawn_course_prompts(task, n, 1, seed)
    return shown.with_queries_of(drawn_course_prompts(task, 0, n_queries, QUERY_SEED))


def drawn_course_prompts(task: str, n: int, batch_size: int, seed: int) -> Any:
    """Prompts of attribute text, each with demonstrations and a query of its own."""
    check_choice("task", task, COURSE_TASKS)
    name, _, kind = task.partition(" ")
    mapping = kind or "canonical"
    return attribute_prompts(name, n, batch_size, generator=seeded(seed), mapping=mapping)


def course_subject(seed: int) -> Subject:
    """CourseLM as one of its three seeds trained it; a larger seed takes them in turn."""
    check_integer("seed", seed, at_least=0)
    models = course_models()
    model = models[seed % len(models)]
    return Subject(model, model.config.layers, course_prompts, drawn_course_prompts)


def _in_folder(data: Path, task: str) -> list[Example]:
    """Examples of a task; an error that says what there is if its file is missing."""
    path = data / f"{task}.jsonl"
    if not path.exists():
        there = [name for name in HUB if (data / f"{name}.jsonl").exists()]
        ask = f"ask for the tasks that are there alone (--tasks {','.join(there)})"
        raise ValueError(
            f"data: {data} has no {path.name}; write it, one object such as "
            f'{{"text": "...", "label": 0}} a line' + (f", or {ask}" if there else "")
        )
    return read_examples(path)


@cache
def pretrained_subject(name: str, data: str | None = None, author: str = "lu") -> Subject:
    """A model of the hub or of a folder, asked about the four data sets.

    Args:
        name: as :func:`~icl_lessons.models.pretrained.load_pretrained` takes it.
        data: a folder with files such as ``sst2.jsonl``; the hub if ``None``.
        author: whose templates: one of :data:`~.text_tasks.TEMPLATES`.
    """
    check_choice("author", author, tuple(TEMPLATES))
    model: PretrainedLM = load_pretrained(name)

    @cache
    def task_named(task: str) -> TextTask:
        check_choice("task", task, tuple(HUB))
        examples = hub_examples(task) if data is None else _in_folder(Path(data), task)
        return TextTask(model, examples, TEMPLATES[author][task])

    def prompts(task: str, n: int, n_queries: int, seed: int) -> Any:
        chosen = task_named(task)
        shown = chosen.prompts(n, 1, generator=seeded(seed))
        return shown.with_queries_of(chosen.prompts(0, n_queries, generator=seeded(QUERY_SEED)))

    def drawn(task: str, n: int, batch_size: int, seed: int) -> Any:
        return task_named(task).prompts(n, batch_size, generator=seeded(seed))

    return Subject(model, model.layers, prompts, drawn)


def subject(name: str, seed: int, data: str | None = None) -> Subject:
    """CourseLM under the name ``"course"``, with that seed; any other name is a pretrained model's.

    A pretrained model is the same for every seed.
    """
    return course_subject(seed) if name == COURSE else pretrained_subject(name, data)
