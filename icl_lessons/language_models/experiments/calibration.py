"""What answers lean to whatever is asked, and what calibration does about it.

Zhao et al. name three leans of a few-shot classifier: towards the label that most demonstrations
have, towards the label of the last one, and towards words that are common in text; and divide them
out by the answers to an input without content [zhao2021calibrate]. Measured here on each set of
demonstrations: the first two leans, and accuracy among the label words as the model answers, as
calibrated on inputs without content, and as calibrated on the mean answer to unlabelled inputs.
Then the same with a lean that is put in by hand, so that there is something to take out.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.calibration import (
    calibrated,
    content_free_law,
    content_free_prompts,
    label_law,
)
from icl_lessons.language_models.figures import calibration as figures
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread
from icl_lessons.tasks.attribute_text import NAMES
from icl_lessons.zoo import State, recipe

METHODS = ("as answered", "no content", "unlabelled inputs")
LEANS = ("majority", "recency")


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Settings of :func:`calibration`, all of which its figures depend on.

    Attributes:
        model, data: as in ``ICLAgainstGDConfig``.
        tasks: of the subject; the four data sets for a pretrained model if none are named.
        n_demonstrations: in a prompt; at least one.
        bias: added to the logit of the first label word, for a lean that is known.
        n_queries: the same for every set.
        sets: of demonstrations, for each seed.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = NAMES
    n_demonstrations: tuple[int, ...] = (1, 4, 8)
    bias: float = 4.0
    n_queries: int = 100
    sets: int = 7
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_queries", "sets"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_demonstrations", min(self.n_demonstrations), at_least=1)
        if self.model != COURSE and self.tasks == NAMES:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            check_choice("tasks", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """Accuracy among the label words with and without calibration, and the two leans.

    Attributes:
        tasks, n_demonstrations: as configured.
        methods: ``METHODS``.
        accuracy: ``[biased, methods, tasks, numbers, seeds, sets]``; ``biased`` 0 as the model is,
            1 with the lean put in by hand.
        majority: mean probability of the label that most demonstrations have, less its share of
            the queries; ``[tasks, numbers, seeds, sets]``.
        recency: mean probability of the last demonstration's label less that of the first one's,
            both less their shares of the queries; NaN where they are the same label.
        least_content_free: lowest probability of a label without content, less ``1 / m``: 0 if the
            input is neutral.
    """

    tasks: tuple[str, ...]
    n_demonstrations: tuple[int, ...]
    methods: tuple[str, ...]
    accuracy: Float[np.ndarray, "2 methods tasks numbers seeds sets"]
    majority: Float[np.ndarray, "tasks numbers seeds sets"]
    recency: Float[np.ndarray, "tasks numbers seeds sets"]
    least_content_free: Float[np.ndarray, "tasks numbers seeds sets"]

    def summary(self) -> str:
        """Means over sets and seeds in a few lines."""
        lines = []
        for biased, title in enumerate(("as it is", "with a lean put in")):
            lines.append(f"{title}: {', '.join(self.methods)}")
            for i, task in enumerate(self.tasks):
                for j, n in enumerate(self.n_demonstrations):
                    row = self.accuracy[biased, :, i, j].mean((1, 2))
                    lines.append(f"  {task:10s}{n:3d}  " + " ".join(f"{v:.2f}" for v in row))
        return "\n".join(lines)


def _accuracy(law: Tensor, prompts) -> Tensor:
    right = prompts.choices[law.argmax(-1)] == prompts.answer
    return right.double().mean()


def _one(config: CalibrationConfig, who: Subject, task: str, n: int, draw: int) -> Tensor:
    """One set of demonstrations: six accuracies, two leans and the least content-free label."""
    prompts = who.prompts(task, n, config.n_queries, draw)
    answers = answer_law(who.model, prompts.tokens).double()
    empty = answer_law(who.model, content_free_prompts(prompts).tokens).double()
    choices, labels = prompts.choices, prompts.labels[0]
    lean = torch.zeros(answers.shape[-1], dtype=answers.dtype)
    lean[choices[0]] = config.bias
    accuracies = []
    for factor in (torch.ones_like(lean), lean.exp()):
        law = label_law(answers * factor, choices)
        free = [content_free_law(some * factor, choices) for some in (empty, answers)]
        accuracies += [
            _accuracy(chosen, prompts)
            for chosen in (law, calibrated(law, free[0]), calibrated(law, free[1]))
        ]
    counts = (choices[:, None] == labels).sum(1)
    share = (choices[:, None] == prompts.answer).double().mean(1)
    over = label_law(answers, choices).mean(0) - share
    place = {int(token): i for i, token in enumerate(choices)}
    first, last = place[int(labels[0])], place[int(labels[-1])]
    recency = over[last] - over[first] if first != last else over.new_tensor(torch.nan)
    neutral = content_free_law(empty, choices).min() - 1 / len(choices)
    return torch.stack([*accuracies, over[counts.argmax()], recency, neutral])


def _measure(state: State, config: CalibrationConfig) -> dict[str, float]:
    with one_thread():
        who = subject(config.model, config.seeds[0], config.data)
        again = _one(config, who, config.tasks[0], config.n_demonstrations[0], config.seeds[0])
    return {
        "mean accuracy": state["measures"][..., 0].mean().item(),
        "mean accuracy of the first cell": again[:6].mean().item(),
    }


@recipe("calibration", config=CalibrationConfig(), measure=_measure)
def calibration_measures(config: CalibrationConfig) -> State:
    """``measures`` ``[tasks, numbers, seeds, sets, 9]``."""
    with one_thread():
        rows = [
            _one(config, subject(config.model, seed, config.data), task, n, seed + 1000 * place)
            for task in config.tasks
            for n in config.n_demonstrations
            for seed in config.seeds
            for place in range(config.sets)
        ]
    sizes = (config.tasks, config.n_demonstrations, config.seeds)
    shape = (*map(len, sizes), config.sets)
    return {"measures": torch.stack(rows).unflatten(0, shape)}


@experiment(
    "calibration",
    paper="zhao2021calibrate",
    chapter="language_models/demonstrations",
    configs={
        Scale.LESSON: CalibrationConfig(),
        Scale.PAPER: replace(CalibrationConfig(), model="gpt2-xl", tasks=tuple(HUB), sets=5),
    },
    figure=figures.calibration,
)
def calibration(config: CalibrationConfig) -> CalibrationResult:
    """Leans of few-shot answers, and accuracy with and without dividing them out."""
    measures = calibration_measures(config)["measures"].double().numpy()
    *accuracies, majority, recency, neutral = np.moveaxis(measures, -1, 0)
    methods = len(METHODS)
    return CalibrationResult(
        tasks=config.tasks,
        n_demonstrations=config.n_demonstrations,
        methods=METHODS,
        accuracy=np.stack(accuracies).reshape(2, methods, *majority.shape),
        majority=majority,
        recency=recency,
        least_content_free=neutral,
    )
