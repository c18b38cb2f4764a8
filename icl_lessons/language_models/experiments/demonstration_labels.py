"""What the labels of demonstrations do: conditions, shares of wrong labels, and pretraining.

Many prompts, each with demonstrations of its own, under every condition of Min et al. and of Pan et
al. [min2022rethinking; pan2023what], with a share of the labels flipped as Wei et al. do
[wei2023larger], and with a share of them correct as Yoo et al. do [yoo2022ground]. The scale of the
papers is the number of parameters; CourseLM's is the number of steps of pretraining. The exact
Bayes filter of the text reads the same prompts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment, words
from icl_lessons.language_models.course_models import (
    CourseLMTraining,
    checkpoints,
    course_weights,
)
from icl_lessons.language_models.demonstration_labels import (
    CONDITIONS,
    answers_to,
    both_accuracies,
    conditioned,
    flipped,
    label_effect_ratio,
    next_labels,
    partly_correct,
    sensitivity_to_labels,
    switching_share,
)
from icl_lessons.language_models.figures import demonstration_labels as figures
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.subjects import COURSE, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.tasks.attribute_prompts import AttributePrompts
from icl_lessons.tasks.attribute_text import NAMES
from icl_lessons.zoo import State, recipe

LABEL_SEED = 2_202_128
OVER_SCALE = ("gold", "random", "contrary", "novel", "abstract")
FILTERED = ("gold", "random", "contrary", "novel")
Read = Callable[[Any], Tensor | None]


@dataclass(frozen=True, kw_only=True)
class DemonstrationLabelsConfig:
    """Settings of :func:`demonstration_labels`, all of which its figures depend on.

    Attributes:
        model: ``"course"``, or the name or folder of a pretrained model.
        larger: pretrained models beside it, in ascending size: the scale. CourseLM's are its
            checkpoints.
        data: for a pretrained model, a folder of files such as ``sst2.jsonl``; the hub if ``None``.
        tasks: of the subject; for a pretrained model the four data sets if none are named.
        n_demonstrations: in a prompt, ascending from 0.
        n_labels: demonstrations where labels are flipped, and over the scale.
        shares: of correct labels.
        n_prompts: for each task and seed, with demonstrations of their own.
        at_once: prompts that a model reads at once.
        seeds: of the prompts, and of CourseLM.
    """

    model: str = COURSE
    larger: tuple[str, ...] = ()
    data: str | None = None
    tasks: tuple[str, ...] = NAMES
    n_demonstrations: tuple[int, ...] = (0, 1, 2, 4, 8, 12)
    n_labels: int = 8
    shares: tuple[float | int, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    n_prompts: int = 200
    at_once: int = 200
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_labels", "n_prompts", "at_once"):
            check_integer(name, getattr(self, name), at_least=1)
        numbers = self.n_demonstrations
        if not numbers or numbers[0] != 0 or sorted(set(numbers)) != list(numbers):
            raise ValueError(f"n_demonstrations: got {numbers}; use ascending numbers from 0")
        if self.n_labels not in numbers:
            raise ValueError(f"n_labels: {self.n_labels} is not among n_demonstrations {numbers}")
        if self.model != COURSE and self.tasks == NAMES:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            check_choice("tasks", task, NAMES if self.model == COURSE else tuple(HUB))

    @property
    def scale(self) -> tuple[str, ...]:
        """What is compared along the scale; the last is the model that all else is about."""
        if self.model != COURSE:
            return (self.model, *self.larger)
        return tuple(str(steps) for steps in CourseLMTraining().checkpoints)

    @property
    def flipped(self) -> tuple[float, ...]:
        """Shares of flipped labels: all that ``n_labels`` demonstrations allow."""
        return tuple(k / self.n_labels for k in range(self.n_labels + 1))


@dataclass(frozen=True, kw_only=True)
class DemonstrationLabelsResult:
    """Accuracies under every condition; seeds come first in each array.

    Attributes:
        tasks, conditions, n_demonstrations, scale, flips, shares: names and numbers along the axes.
        n_labels: demonstrations in ``over_scale``, ``turned`` and ``correct``.
        accuracy: over the whole vocabulary, ``[seeds, tasks, conditions, numbers]``.
        among_labels: the same among the task's labels.
        filter: of the Bayes filter, ``[seeds, tasks, 4, numbers]``: gold, random, contrary, novel;
            NaN on real text.
        over_scale: ``[seeds, tasks, 5, scale]``: gold, random, contrary, novel, abstract.
        over_scale_among: the same among the task's labels.
        turned: share of answers that are the true label, and the next one, when some labels are
            flipped, ``[seeds, tasks, scale, flips, 2]``.
        filter_turned: the filter's, ``[seeds, tasks, flips, 2]``.
        correct: accuracy with a share of correct labels, ``[seeds, tasks, shares]``.
        switch: share of flipped labels at which flipped answers outnumber true ones, of the model
            and of the filter, ``[seeds, tasks, numbers above 0, 2]``; NaN where they never do.
    """

    tasks: tuple[str, ...]
    conditions: tuple[str, ...]
    n_demonstrations: tuple[int, ...]
    n_labels: int
    scale: tuple[str, ...]
    flips: tuple[float, ...]
    shares: tuple[float | int, ...]
    accuracy: Float[np.ndarray, "seeds tasks conditions numbers"]
    among_labels: Float[np.ndarray, "seeds tasks conditions numbers"]
    filter: Float[np.ndarray, "seeds tasks filtered numbers"]
    over_scale: Float[np.ndarray, "seeds tasks compared scale"]
    over_scale_among: Float[np.ndarray, "seeds tasks compared scale"]
    turned: Float[np.ndarray, "seeds tasks scale flips 2"]
    filter_turned: Float[np.ndarray, "seeds tasks flips 2"]
    correct: Float[np.ndarray, "seeds tasks shares"]
    switch: Float[np.ndarray, "seeds tasks some_numbers 2"]

    def of(
        self, condition: str, n: int | None = None, among_labels: bool = False
    ) -> Float[np.ndarray, "seeds tasks"]:
        """Accuracy under a condition with ``n`` demonstrations, ``n_labels`` of them if ``None``.

        With condition ``"none"`` there are none, whatever ``n``.
        """
        check_choice("condition", condition, self.conditions)
        number = self.n_demonstrations.index(self.n_labels if n is None else n)
        values = self.among_labels if among_labels else self.accuracy
        return values[:, :, self.conditions.index(condition), number]

    def by_scale(
        self, condition: str, among_labels: bool = False
    ) -> Float[np.ndarray, "seeds tasks scale"]:
        """Accuracy along the scale with ``n_labels`` demonstrations."""
        check_choice("condition", condition, OVER_SCALE)
        values = self.over_scale_among if among_labels else self.over_scale
        return values[:, :, OVER_SCALE.index(condition)]

    @property
    def early(self) -> int:
        """The place in the middle of the scale: 1000 steps for CourseLM."""
        return len(self.scale) // 2

    @property
    def effect_ratio(self) -> Float[np.ndarray, "seeds tasks"]:
        """Of right labels in the gain from demonstrations [yoo2022ground]."""
        rows = (self.of(name) for name in ("gold", "random", "none"))
        return np.vectorize(label_effect_ratio, otypes=[float])(*rows)

    @property
    def sensitivity(self) -> Float[np.ndarray, "seeds tasks"]:
        """Slope of accuracy on the share of correct labels [yoo2022ground]."""
        return np.apply_along_axis(
            lambda row: sensitivity_to_labels(self.shares, row.tolist()), -1, self.correct
        )

    def summary(self) -> str:
        """Every seed's accuracies in a few lines."""
        lines = [f"accuracy with {self.n_labels} demonstrations, each seed"]
        for t, task in enumerate(self.tasks):
            for condition in self.conditions:
                values = self.of(condition)[:, t]
                if not np.isnan(values).all():
                    lines.append(f"  {task:10s}{condition:16s}{words(values)}")
            lines.append(f"  {task:10s}{'effect of labels':16s}{words(self.effect_ratio[:, t])}")
            lines.append(f"  {task:10s}{'slope on labels':16s}{words(self.sensitivity[:, t])}")
        return "\n".join(lines)


# --- what is run -----------------------------------------------------------------------------


def _readers(config: DemonstrationLabelsConfig, seed: int) -> list[Subject]:
    """The model at every place of the scale."""
    if config.model != COURSE:
        return [subject(name, seed, config.data) for name in config.scale]
    who, training = subject(COURSE, seed), CourseLMTraining()
    stored = checkpoints(course_weights(training), training).values()
    return [replace(who, model=models[seed % len(models)]) for models in stored]


def _filter(prompts: Any) -> Tensor | None:
    return filter_answers(prompts) if isinstance(prompts, AttributePrompts) else None


def _turned(read: Read, prompts: Any, shares: tuple[float, ...], seed: int) -> Tensor:
    """Shares of true and of next answers for each share of flipped labels, ``[shares, 2]``."""
    truth, following, rows = prompts.answer, next_labels(prompts), []
    for share in shares:
        answers = read(flipped(prompts, share, generator=seeded(LABEL_SEED + seed)))
        if answers is None:
            return torch.full((len(shares), 2), float("nan"))
        rows.append([accuracy_over_vocabulary(answers, a) for a in (truth, following)])
    return torch.tensor(rows)


def _accuracies(read: Read, prompts: Any, condition: str, seed: int) -> list[float]:
    """Accuracy over the vocabulary and among the labels; NaN for what cannot be asked."""
    if condition == "novel" and prompts.choices.shape[-1] < 3:
        return [float("nan")] * 2
    changed = conditioned(prompts, condition, generator=seeded(LABEL_SEED + seed))
    answers = read(changed)
    return [float("nan")] * 2 if answers is None else list(both_accuracies(answers, changed))


def _cell(config: DemonstrationLabelsConfig, readers: list[Subject], task: str, seed: int) -> State:
    """All of one task and one seed."""

    def reading(who: Subject) -> Read:
        return lambda prompts: answers_to(who.model, prompts, config.at_once)

    def prompts_of(who: Subject) -> Any:
        return who.drawn(task, max(config.n_demonstrations), config.n_prompts, seed)

    read, drawn = reading(readers[-1]), prompts_of(readers[-1])
    some = [drawn.in_order(range(n)) for n in config.n_demonstrations]
    few = drawn.in_order(range(config.n_labels))
    scaled = [(reading(who), prompts_of(who).in_order(range(config.n_labels))) for who in readers]
    switches = []
    for prompts in some[1:]:
        shares = tuple(k / prompts.n for k in range(prompts.n + 1))
        both = (_turned(who, prompts, shares, seed) for who in (read, _filter))
        switches.append([switching_share(shares, *row.T.tolist()) for row in both])
    generators = [seeded(LABEL_SEED + seed) for _ in config.shares]
    return {
        "accuracy": torch.tensor(
            [[_accuracies(read, p, name, seed) for p in some] for name in CONDITIONS]
        ),
        "filter": torch.tensor(
            [[_accuracies(_filter, p, name, seed)[0] for p in some] for name in FILTERED]
        ),
        "over_scale": torch.tensor(
            [[_accuracies(*at, name, seed) for at in scaled] for name in OVER_SCALE]
        ),
        "turned": torch.stack([_turned(*at, config.flipped, seed) for at in scaled]),
        "filter_turned": _turned(_filter, few, config.flipped, seed),
        "correct": torch.tensor(
            [
                accuracy_over_vocabulary(read(partly_correct(few, share, generator=g)), few.answer)
                for share, g in zip(config.shares, generators, strict=True)
            ]
        ),
        "switch": torch.tensor(switches),
    }


def _summed(state: State, config: DemonstrationLabelsConfig) -> dict[str, float]:
    """Means of the stored figures, and one accuracy made again."""
    seed = config.seeds[0]
    who = subject(config.scale[-1] if config.model != COURSE else COURSE, seed, config.data)
    prompts = who.drawn(config.tasks[0], config.n_labels, config.n_prompts, seed)
    with one_thread():
        again = _accuracies(lambda p: answers_to(who.model, p, config.at_once), prompts, "random",
                            seed)  # fmt: skip
    return {
        "mean accuracy": state["accuracy"].nanmean().item(),
        "mean share of true and next answers": state["turned"].mean().item(),
        "random labels, first task": again[0],
    }


@recipe("demonstration_labels", config=DemonstrationLabelsConfig(), measure=_summed)
def demonstration_label_measures(config: DemonstrationLabelsConfig) -> State:
    """The arrays of the result, ``[seeds, tasks, ...]``; accuracies over vocabulary and labels."""
    rows = []
    with one_thread():
        for seed in config.seeds:
            readers = _readers(config, seed)
            rows.append([_cell(config, readers, task, seed) for task in config.tasks])
    return {
        name: torch.stack([torch.stack([cell[name] for cell in row]) for row in rows]).float()
        for name in rows[0][0]
    }


@experiment(
    "demonstration_labels",
    paper="min2022rethinking",
    chapter="language_models/demonstrations",
    configs={
        Scale.LESSON: DemonstrationLabelsConfig(),
        Scale.PAPER: DemonstrationLabelsConfig(
            model="facebook/opt-350m",
            larger=("facebook/opt-2.7b", "facebook/opt-6.7b", "facebook/opt-13b"),
            n_demonstrations=(0, 4, 8, 16),
            n_labels=16,
            at_once=4,
        ),
    },
    figure=figures.demonstration_labels,
)
def demonstration_labels(config: DemonstrationLabelsConfig) -> DemonstrationLabelsResult:
    """Random, wrong, renamed and missing labels: what in the demonstrations does the work."""
    state = {
        name: part.double().numpy() for name, part in demonstration_label_measures(config).items()
    }
    accuracy, scaled = state.pop("accuracy"), state.pop("over_scale")
    return DemonstrationLabelsResult(
        tasks=config.tasks,
        conditions=CONDITIONS,
        n_demonstrations=config.n_demonstrations,
        n_labels=config.n_labels,
        scale=config.scale,
        flips=config.flipped,
        shares=config.shares,
        accuracy=accuracy[..., 0],
        among_labels=accuracy[..., 1],
        over_scale=scaled[..., 0],
        over_scale_among=scaled[..., 1],
        **state,
    )
