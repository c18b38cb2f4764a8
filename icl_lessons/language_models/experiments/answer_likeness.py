"""Who answers like whom? In-context learning and descent, each held against itself and the other.

That two learners differ means little until it is known how much each differs from itself: context
in another order, descent at another rate or stopped at another epoch [shen2024pretrained, section
4.2]. Every pair is compared with token overlap and with each reading of overlap cosine similarity.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.experiments.icl_against_gd import (
    ASKED_OF_COURSE,
    IN_CONTEXT,
    REORDERED,
    RIVALS,
    ZERO_SHOT,
    Rival,
)
from icl_lessons.language_models.figures import answer_likeness as figures
from icl_lessons.language_models.fine_tuning import answer_law, fine_tune
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import VARIANTS, overlap_cosine_similarity, token_overlap
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread
from icl_lessons.zoo import State, recipe

MEASURES = ("token overlap", "token overlap of few", *VARIANTS)


@dataclass(frozen=True, kw_only=True)
class AnswerLikenessConfig:
    """Settings of :func:`answer_likeness`.

    Attributes:
        model, data, tasks: who is asked what, as in
            :class:`~icl_lessons.language_models.experiments.icl_against_gd.ICLAgainstGDConfig`.
        n_demonstrations: in every prompt.
        rivals: ways to fine-tune.
        epochs: at which their answers are kept: a number, and twice that.
        n_queries: the same for every method and seed.
        top: tokens that are compared; overlap is looked at for ``few`` as well.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = ASKED_OF_COURSE
    n_demonstrations: int = 4
    rivals: tuple[Rival, ...] = RIVALS[:3]
    epochs: tuple[int, int] = (100, 200)
    n_queries: int = 100
    top: int = 10
    few: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_demonstrations", "n_queries", "top", "few"):
            check_integer(name, getattr(self, name), at_least=1)
        early, late = self.epochs
        if early < 1 or late != 2 * early:
            raise ValueError(f"epochs: got {self.epochs}; use a number of 1 or more and its double")
        if self.model != COURSE and self.tasks == ASKED_OF_COURSE:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            check_choice("tasks", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))

    @property
    def methods(self) -> tuple[str, ...]:
        """What gives answers; a rival once for each number of epochs."""
        tuned = (f"{rival.name}, {epoch} epochs" for rival in self.rivals for epoch in self.epochs)
        return (IN_CONTEXT, REORDERED, ZERO_SHOT, *tuned)


@dataclass(frozen=True, kw_only=True)
class AnswerLikenessResult:
    """Every method against every other.

    Attributes:
        tasks, methods: names along the axes; ``rivals`` those that fine-tune, without epochs.
        n_demonstrations: in every prompt.
        likeness: mean over queries; measures are :data:`MEASURES`,
            ``[tasks, seeds, measures, methods, methods]``.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    rivals: tuple[str, ...]
    n_demonstrations: int
    likeness: Float[np.ndarray, "tasks seeds measures methods methods"]

    def of(self, measure: str, one: str, other: str) -> Float[np.ndarray, "tasks seeds"]:
        """How alike two methods are by one of :data:`MEASURES`."""
        check_choice("measure", measure, MEASURES)
        check_choice("one", one, self.methods)
        check_choice("other", other, self.methods)
        places = self.methods.index(one), self.methods.index(other)
        return self.likeness[:, :, MEASURES.index(measure)][..., *places]

    def summary(self) -> str:
        """Overlap cosine similarity of the methods, mean over tasks and seeds."""
        mean = self.likeness[:, :, MEASURES.index("paper")].mean((0, 1))
        rows = zip(self.methods, mean, strict=True)
        return "\n".join(f"{name:34s}" + " ".join(f"{v:.2f}" for v in row) for name, row in rows)


def answers_of(
    config: AnswerLikenessConfig, who: Subject, task: str, seed: int
) -> Float[Tensor, "methods queries vocabulary"]:
    """The answers of every method to the same queries."""
    prompts = who.prompts(task, config.n_demonstrations, config.n_queries, seed)
    order = list(reversed(range(config.n_demonstrations)))
    asked = (prompts.tokens, prompts.in_order(order).tokens, prompts.query_tokens)
    laws = [answer_law(who.model, tokens) for tokens in asked]
    early, late = config.epochs
    inputs, labels = prompts.demonstrations(0)

    def watch(epoch: int, tuned: torch.nn.Module) -> None:
        if epoch:
            laws.append(answer_law(tuned, prompts.query_tokens))

    for rival in config.rivals:
        settings = rival.settings(who.layers, late)
        fine_tune(who.model, inputs, labels, settings, watch=watch, every=early)
    return torch.stack(laws)


def pairwise(
    laws: Float[Tensor, "methods queries vocabulary"], top: int, few: int
) -> Float[Tensor, "measures methods methods"]:
    """Each measure of :data:`MEASURES` for each pair, mean over queries."""
    one, other = torch.broadcast_tensors(laws[:, None], laws[None])
    measured = [token_overlap(one, other, top), token_overlap(one, other, few)]
    measured += [overlap_cosine_similarity(one, other, top, variant) for variant in VARIANTS]
    return torch.stack(measured).mean(-1)


def _summed(state: State, config: AnswerLikenessConfig) -> dict[str, float]:
    """Means of the stored figures, and those of one rival in one cell made again."""
    alone = replace(config, rivals=config.rivals[:1])
    with one_thread():
        who = subject(config.model, config.seeds[0], config.data)
        again = pairwise(
            answers_of(alone, who, config.tasks[0], config.seeds[0]), config.top, config.few
        )
    return {
        "mean likeness": state["likeness"].mean().item(),
        "mean likeness of the first cell": again.mean().item(),
    }


@recipe("answer_likeness", config=AnswerLikenessConfig(), measure=_summed)
def answer_likeness_measures(config: AnswerLikenessConfig) -> State:
    """``likeness`` ``[tasks, seeds, measures, methods, methods]``."""
    with one_thread():
        cells = [
            torch.stack(
                [
                    pairwise(answers_of(config, who, task, seed), config.top, config.few)
                    for seed in config.seeds
                    for who in [subject(config.model, seed, config.data)]
                ]
            )
            for task in config.tasks
        ]
    return {"likeness": torch.stack(cells)}


@experiment(
    "answer_likeness",
    paper="shen2024pretrained",
    chapter="language_models/order",
    configs={
        Scale.LESSON: AnswerLikenessConfig(),
        Scale.PAPER: AnswerLikenessConfig(
            model="huggyllama/llama-7b",
            rivals=tuple(
                Rival(f"descent, rate {rate:g}", "descent", rate) for rate in (1e-4, 5e-4, 1e-5)
            ),
            n_queries=200,
        ),
    },
    figure=figures.answer_likeness,
)
def answer_likeness(config: AnswerLikenessConfig) -> AnswerLikenessResult:
    """Every method's answers against every other's: in context, reordered, alone, fine-tuned."""
    return AnswerLikenessResult(
        tasks=config.tasks,
        methods=config.methods,
        rivals=tuple(rival.name for rival in config.rivals),
        n_demonstrations=config.n_demonstrations,
        likeness=answer_likeness_measures(config)["likeness"].double().numpy(),
    )
