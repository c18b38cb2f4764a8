"""How much the order of a few demonstrations decides, and whether entropy finds good orders.

All 24 orders of four demonstrations, in accuracy, for several sets of demonstrations; the same
orders in another seed's model; and the two entropies by which Lu et al. choose orders, on inputs
that the model wrote itself [lu2022fantastically].
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.language_models.calibration import label_law
from icl_lessons.language_models.demonstration_labels import flipped
from icl_lessons.language_models.figures import prompt_entropy as figures
from icl_lessons.language_models.order import in_context_answers, some_orders
from icl_lessons.language_models.prompt_entropy import (
    best_orders,
    global_entropy,
    local_entropy,
    self_generated_probes,
)
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.zoo import State, recipe

ONE_WRONG = ", one wrong"
ASKED = (
    "topic",
    "stance",
    "kind",
    "stance contrary",
    "kind contrary",
    "stance" + ONE_WRONG,
    "kind" + ONE_WRONG,
)


@dataclass(frozen=True, kw_only=True)
class PromptEntropyConfig:
    """Settings of :func:`prompt_entropy`, all of which its figures depend on.

    Attributes:
        model, data: as in ``ICLAgainstGDConfig``.
        tasks: of the subject; the four data sets for a pretrained model if none are named. With
            ``", one wrong"`` behind its name, one demonstration has the next label.
        n_demonstrations, n_orders: of each set, and how many orders at most.
        n_queries: the same for every set.
        probes_per_order: inputs that the model tries to write after each order.
        keep: orders that a score selects.
        sets: of demonstrations, for each seed.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = ASKED
    n_demonstrations: int = 4
    n_orders: int = 24
    n_queries: int = 100
    probes_per_order: int = 3
    keep: int = 4
    sets: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_demonstrations", "n_queries", "probes_per_order", "keep", "sets"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_orders", self.n_orders, at_least=2)
        if self.model != COURSE and self.tasks == ASKED:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            plain = task.removesuffix(ONE_WRONG)
            check_choice("tasks", plain, COURSE_TASKS if self.model == COURSE else tuple(HUB))


@dataclass(frozen=True, kw_only=True)
class PromptEntropyResult:
    """Accuracy and entropy of every order of every set of demonstrations.

    Attributes:
        tasks, keep: as configured.
        accuracy: over the whole vocabulary, ``[tasks, seeds, sets, orders]``.
        elsewhere: of the same prompts in the next seed's model.
        global_entropy, local_entropy: in nats.
    """

    tasks: tuple[str, ...]
    keep: int
    accuracy: Float[np.ndarray, "tasks seeds sets orders"]
    elsewhere: Float[np.ndarray, "tasks seeds sets orders"]
    global_entropy: Float[np.ndarray, "tasks seeds sets orders"]
    local_entropy: Float[np.ndarray, "tasks seeds sets orders"]

    @property
    def spread(self) -> Float[np.ndarray, "tasks seeds sets"]:
        """Best less worst accuracy over the orders of a set."""
        return self.accuracy.max(-1) - self.accuracy.min(-1)

    def selected(self, score: str) -> Float[np.ndarray, "tasks seeds sets"]:
        """Mean accuracy of the orders that a score keeps.

        Args:
            score: ``"global_entropy"`` or ``"local_entropy"``.
        """
        check_choice("score", score, ("global_entropy", "local_entropy"))
        kept = best_orders(torch.from_numpy(getattr(self, score)), self.keep).numpy()
        return np.take_along_axis(self.accuracy, kept, -1).mean(-1)

    def summary(self) -> str:
        """Means over sets and seeds in a few lines."""
        lines = ["mean, spread over orders, kept by global and local entropy"]
        columns = (
            self.accuracy.mean(-1),
            self.spread,
            self.selected("global_entropy"),
            self.selected("local_entropy"),
        )
        for i, task in enumerate(self.tasks):
            lines.append(f"  {task:16s}" + " ".join(f"{c[i].mean():.2f}" for c in columns))
        return "\n".join(lines)


def _one(config: PromptEntropyConfig, task: str, seed: int, place: int) -> Tensor:
    """One set of demonstrations: accuracy here and elsewhere, both entropies, ``[4, orders]``."""
    here, next_seed = (subject(config.model, s, config.data) for s in (seed, seed + 1))
    draw = seed + 1000 * place
    n, generator = config.n_demonstrations, seeded(draw)
    prompts = here.prompts(task.removesuffix(ONE_WRONG), n, config.n_queries, draw)
    if task.endswith(ONE_WRONG):
        wrong = flipped(prompts, 1 / n, generator=generator)
        prompts = wrong.with_queries_of(prompts)
    orders = some_orders(n, config.n_orders, generator=generator)
    accuracies = [
        [accuracy_over_vocabulary(law, prompts.answer)
         for law in in_context_answers(who.model, prompts, orders)]
        for who in (here, next_seed)
    ]  # fmt: skip
    probes = self_generated_probes(
        here.model, prompts, orders, config.probes_per_order, generator=generator
    )
    laws = label_law(in_context_answers(here.model, probes, orders), probes.choices)
    return torch.stack(
        [*torch.tensor(accuracies), global_entropy(laws).cpu(), local_entropy(laws).cpu()]
    )


def _measure(state: State, config: PromptEntropyConfig) -> dict[str, float]:
    few = replace(config, n_orders=2, probes_per_order=20)
    with one_thread():
        again = _one(few, config.tasks[-1], config.seeds[0], 0)
    return {
        "mean accuracy": state["measures"][..., 0, :].mean().item(),
        "mean accuracy of two orders": again[0].mean().item(),
    }


@recipe("prompt_entropy", config=PromptEntropyConfig(), measure=_measure)
def prompt_entropy_measures(config: PromptEntropyConfig) -> State:
    """``measures`` ``[tasks, seeds, sets, 4, orders]``."""
    with one_thread():
        rows = [
            _one(config, task, seed, place)
            for task in config.tasks
            for seed in config.seeds
            for place in range(config.sets)
        ]
    shape = (len(config.tasks), len(config.seeds), config.sets)
    return {"measures": torch.stack(rows).unflatten(0, shape)}


@experiment(
    "prompt_entropy",
    paper="lu2022fantastically",
    chapter="language_models/demonstrations",
    configs={
        Scale.LESSON: PromptEntropyConfig(),
        Scale.PAPER: PromptEntropyConfig(model="gpt2-xl", n_queries=256),
    },
    figure=figures.prompt_entropy,
)
def prompt_entropy(config: PromptEntropyConfig) -> PromptEntropyResult:
    """Accuracy in every order of four demonstrations, and the orders that entropy chooses."""
    measures = prompt_entropy_measures(config)["measures"].double().numpy()
    accuracy, elsewhere, whole, local = np.moveaxis(measures, 3, 0)
    return PromptEntropyResult(
        tasks=config.tasks,
        keep=config.keep,
        accuracy=accuracy,
        elsewhere=elsewhere,
        global_entropy=whole,
        local_entropy=local,
    )
