"""Which account fits in-context learning best? Distances from its answers to those of every rival.

The same model, demonstrations and queries; ``KL(in context || account)`` in nats, averaged over
queries. Where an account has settings, one is chosen for each task and seed, in two ways. By an
*oracle*, the setting that comes closest on these very queries: more than fair. *Fair*: the one that
came closest on the other seeds, whose demonstrations (and, for CourseLM, weights) are others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.accounts import (
    ACCOUNTS,
    DESCENTS,
    REORDERED,
    SOME_WRONG,
    Law,
    account_prompts,
    accounts,
    mappings_told,
)
from icl_lessons.language_models.experiments.icl_against_gd import PAPER_RIVALS, RIVALS, Rival
from icl_lessons.language_models.figures import which_account as figures
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import (
    accuracy_over_vocabulary,
    divergence,
    overlap_cosine_similarity,
)
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread
from icl_lessons.zoo import State, recipe

OWN_LABELS = ("topic", "mood", "topic contrary", "mood contrary")
SHARED_LABELS = ("stance", "kind", "stance, some wrong", "kind, some wrong", "stance contrary",
                 "kind contrary")  # fmt: skip
ASKED_OF_COURSE = OWN_LABELS + SHARED_LABELS
MEASURES = ("divergence", "reverse", "overlap_cosine", "accuracy", "same_answer")
RISING = ("overlap_cosine", "accuracy", "same_answer")  # the more, the closer


def of_whole(rivals: tuple[Rival, ...]) -> tuple[Rival, ...]:
    """Those of some ways to fine-tune that move the whole model."""
    return tuple(rival for rival in rivals if rival.part == "all")


def of_part(rivals: tuple[Rival, ...]) -> tuple[Rival, ...]:
    """Those that move a part of it."""
    return tuple(rival for rival in rivals if rival.part != "all")


@dataclass(frozen=True, kw_only=True)
class WhichAccountConfig:
    """Settings of :func:`which_account`, all of which its figures depend on.

    Attributes:
        model: ``"course"``, or the name or folder of a pretrained model.
        data: for a pretrained model, a folder of files such as ``sst2.jsonl``; the hub if ``None``.
        tasks: of the subject; with ``", some wrong"`` a quarter of the labels are wrong. For a
            pretrained model the four data sets if none are named.
        n: demonstrations.
        whole, part: ways to fine-tune the whole model, or a part of it. Layer-causal descent takes
            those of the whole model.
        epochs: after which they are looked at, ascending; each is a setting of its own.
        n_queries: answered, the same ones for every account and seed.
        dummies: further queries, of which those that are none of these make the task vectors.
        top: tokens that the overlap cosine compares.
        seeds: of the demonstrations, and of CourseLM; two or more.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = ASKED_OF_COURSE
    n: int = 8
    whole: tuple[Rival, ...] = (*of_whole(RIVALS), Rival("descent, rate .1", "descent", 0.1))
    part: tuple[Rival, ...] = of_part(RIVALS)
    epochs: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    n_queries: int = 100
    dummies: int = 40
    top: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n", "n_queries", "dummies", "top"):
            check_integer(name, getattr(self, name), at_least=1)
        if not self.epochs or self.epochs[0] < 1 or tuple(sorted(set(self.epochs))) != self.epochs:
            raise ValueError(f"epochs: got {self.epochs}; use ascending numbers from 1")
        if len(self.seeds) < 2:
            raise ValueError(f"seeds: got {self.seeds}; a fair choice needs another seed, use two")
        if self.model != COURSE and self.tasks == ASKED_OF_COURSE:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            known = COURSE_TASKS if self.model == COURSE else tuple(HUB)
            check_choice("tasks", task.removesuffix(SOME_WRONG), known)


@dataclass(frozen=True, kw_only=True)
class WhichAccountResult:
    """How far every setting of every account is from in-context learning.

    Attributes:
        tasks: along the first axis.
        measures: by account, ``[tasks, seeds, settings, measures]``, the last as :data:`MEASURES`:
            ``divergence``, KL(in context || account); ``reverse``, KL(account || in context), nats;
            overlap cosine similarity; accuracy over the vocabulary; the share of queries with the
            same most probable token.
        context: accuracy in context, ``[tasks, seeds]``.
    """

    tasks: tuple[str, ...]
    measures: dict[str, Float[np.ndarray, "tasks seeds settings measures"]]
    context: Float[np.ndarray, "tasks seeds"]

    @property
    def accounts(self) -> tuple[str, ...]:
        """Their names, in-context learning in another order first."""
        return tuple(self.measures)

    @property
    def rivals(self) -> tuple[str, ...]:
        """All accounts but in-context learning itself."""
        return tuple(name for name in self.measures if name != REORDERED)

    def rows(self, *tasks: str) -> list[int]:
        """Where those of some tasks are that were asked."""
        return [self.tasks.index(task) for task in tasks if task in self.tasks]

    def chosen(
        self, account: str, choice: Literal["oracle", "fair"] = "oracle", by: str = "divergence"
    ) -> Int[np.ndarray, "tasks seeds"]:
        """Which setting is chosen for each task and seed.

        Args:
            account: one of :attr:`accounts`.
            choice: ``"oracle"``: on these very answers. ``"fair"``: on those of the other seeds.
            by: the measure that chooses.
        """
        check_choice("account", account, self.accounts)
        check_choice("choice", choice, ("oracle", "fair"))
        check_choice("by", by, MEASURES)
        far = self.measures[account][..., MEASURES.index(by)]
        far = -far if by in RISING else far
        if choice == "fair":
            far = (far.sum(1, keepdims=True) - far) / (far.shape[1] - 1)
        return far.argmin(-1)

    def of(
        self,
        measure: str,
        account: str,
        choice: Literal["oracle", "fair"] = "oracle",
        by: str = "divergence",
    ) -> Float[np.ndarray, "tasks seeds"]:
        """A measure of an account in its chosen setting; see :meth:`chosen`."""
        check_choice("measure", measure, MEASURES)
        place = self.chosen(account, choice, by)[..., None]
        values = self.measures[account][..., MEASURES.index(measure)]
        return np.take_along_axis(values, place, -1)[..., 0]

    def descent(
        self, choice: Literal["oracle", "fair"] = "oracle"
    ) -> Float[np.ndarray, "tasks seeds"]:
        """The divergence of whichever descent is closest: whole model, one block, layer-causal."""
        return np.min([self.of("divergence", name, choice) for name in DESCENTS], 0)

    def best(
        self,
        names: Sequence[str],
        measure: str = "divergence",
        choice: Literal["oracle", "fair"] = "oracle",
    ) -> list[str]:
        """Which of some accounts is closest on each task on average over seeds.

        Settings are chosen with the same measure.
        """
        means = np.stack([self.of(measure, n, choice, measure).mean(1) for n in names])
        means = -means if measure in RISING else means
        return [names[place] for place in means.argmin(0)]

    def summary(self) -> str:
        """Mean divergence over seeds in a few lines: oracle, and fair in brackets."""
        lines = ["KL(in context || account) in nats, setting chosen by an oracle (fairly)"]
        for row, task in enumerate(self.tasks):
            lines.append(f"  {task}: in context right {self.context[row].mean():.2f}")
            for name in self.accounts:
                near, fair = (
                    self.of("divergence", name, c)[row].mean() for c in ("oracle", "fair")
                )
                lines.append(f"    {name:33s}{near:.3f} ({fair:.3f})")
        return "\n".join(lines)


def measured(context: Law, law: Law, answer: Tensor, top: int) -> list[float]:
    """:data:`MEASURES` of one account beside the answers in context."""
    return [
        divergence(context, law).mean().item(),
        divergence(law, context).mean().item(),
        overlap_cosine_similarity(context, law, top).mean().item(),
        accuracy_over_vocabulary(law, answer),
        accuracy_over_vocabulary(law, context.argmax(-1)),
    ]


def _cell(config: WhichAccountConfig, who: Subject, task: str, seed: int) -> State:
    """By account, ``[settings, measures]``; and ``context``, the accuracy in context."""
    prompts = account_prompts(who, task, config.n, config.n_queries + config.dummies, seed)
    answer = prompts.answer[: config.n_queries]
    ways = (
        {rival.name: rival.settings(who.layers, config.epochs[-1]) for rival in rivals}
        for rivals in (config.whole, config.part)
    )
    whole, part = ways
    told = mappings_told(who, config.n) if config.model == COURSE else None
    context, found = accounts(
        who.model,
        prompts,
        config.n_queries,
        whole=whole,
        part=part,
        epochs=config.epochs,
        told=told,
    )
    cell = {
        name: torch.tensor([measured(context, law, answer, config.top) for law in account.values()])
        for name, account in found.items()
    }
    return cell | {"context": torch.tensor(accuracy_over_vocabulary(context, answer))}


def _summed(state: State, config: WhichAccountConfig) -> dict[str, float]:
    """Means of the stored figures; those of in-context learning reordered in one cell, again."""
    who = subject(config.model, config.seeds[0], config.data)
    task, seed, n = config.tasks[0], config.seeds[0], config.n_queries
    with one_thread():
        prompts = account_prompts(who, task, config.n, n + config.dummies, seed)
        context, found = accounts(who.model, prompts, n, whole={}, part={}, epochs=(1,))
    again = {name: divergence(context, law).mean().item()
             for name, account in found.items() for law in account.values()}  # fmt: skip
    means = {name: values.mean().item() for name, values in state.items()}
    return means | {
        f"{name} of the first cell, last setting": value for name, value in again.items()
    }


@recipe("which_account", config=WhichAccountConfig(), measure=_summed)
def which_account_measures(config: WhichAccountConfig) -> State:
    """By account ``[tasks, seeds, settings, measures]``; ``context`` ``[tasks, seeds]``."""
    with one_thread():
        cells = [
            [_cell(config, subject(config.model, seed, config.data), task, seed)
             for seed in config.seeds]
            for task in config.tasks
        ]  # fmt: skip
    return {
        name: torch.stack([torch.stack([cell[name] for cell in row]) for row in cells])
        for name in cells[0][0]
    }


@experiment(
    "which_account",
    paper="shen2024pretrained",
    chapter="language_models/which_account",
    configs={
        Scale.LESSON: WhichAccountConfig(),
        Scale.PAPER: WhichAccountConfig(
            model="huggyllama/llama-7b",
            whole=of_whole(PAPER_RIVALS),
            part=of_part(PAPER_RIVALS),
        ),
    },
    figure=figures.which_account,
)
def which_account(config: WhichAccountConfig) -> WhichAccountResult:
    """How far answers in context are from descent, a task vector, the Bayes filter and others."""
    state = which_account_measures(config)
    values = {name: tensor.double().numpy() for name, tensor in state.items()}
    context = values.pop("context")
    order = [name for name in ACCOUNTS if name in values]
    return WhichAccountResult(
        tasks=config.tasks, measures={name: values[name] for name in order}, context=context
    )
