"""What is claimed of task vectors, each claim with a check."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from icl_lessons.declare import Evidence, Kind, claim, passed, result_of, words
from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.language_models.task_vectors import last_states, patched_answers
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_text import NAMES

PAGE = "language_models/demonstrations"
PROCEDURE = "the patch that it describes"
MODELS = 8
RANDOM_MODELS = f"{MODELS} transformers of random shape and weights, random prompts."
MOST = 0.83  # patched over in context: the least of the paper's seven models, to two digits
OWN_LABELS = ("topic", "mood")


def vector_claim(paper: str, name: str, says: str, *, where: str, kind: Kind = "experiment"):
    """Declare a claim of the page; ``paper`` is its key in the bibliography."""
    author = paper.removesuffix("task").removesuffix("function")
    return claim(f"{author}-{name}", paper=paper, where=where, kind=kind, says=says, chapter=PAGE)


class Case(NamedTuple):
    """A transformer of random shape in float64, and prompts for it with and without context."""

    model: SequenceTransformer
    tokens: Tensor
    query_tokens: Tensor
    generator: torch.Generator


def random_cases(seed: int) -> Iterator[Case]:
    """Models and prompts of random size."""
    g = seeded(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    for _ in range(MODELS):
        heads, words_known = draw(1, 4), draw(5, 20)
        shape = SequenceTransformerConfig(
            vocabulary=words_known, width=heads * draw(2, 5), layers=draw(1, 3), heads=heads
        )
        model = SequenceTransformer(shape, generator=g).double()
        tokens = torch.randint(words_known, (draw(2, 6), draw(4, 12)), generator=g)
        yield Case(model, tokens, tokens[:, -3:], g)


def worst_case(check: Callable[[Case], float], seed: int, note: str = "") -> Evidence:
    """Evidence of an identity: the largest error over :func:`random_cases`."""
    return Evidence(
        measured=max(check(case) for case in random_cases(seed)),
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note=f"{note} {RANDOM_MODELS}".strip(),
    )


def _claim(name: str, says: str, **options):
    return vector_claim("hendel2023task", name, says, **options)


def _result(scale: Scale) -> Any:
    return result_of("task_vectors", scale)


def acquired(result: Any) -> Bool[np.ndarray, "tasks seeds"]:
    """Contrary tasks that a model does in context more often than not, task by seed."""
    context = result.in_context
    context = context.mean(1) if context.ndim == 3 else context
    contrary = np.array([task not in NAMES for task in result.tasks])
    return (context >= 0.5) & contrary[:, None]


# --- patching -------------------------------------------------------------------------------------


@_claim(
    "own-state",
    "A prompt's own last state, put back after any block, changes no answer.",
    where=PROCEDURE,
    kind="identity",
)
def own_state(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        plain = answer_law(case.model, case.tokens)
        states = last_states(case.model, case.tokens)
        return max(
            relative_error(patched_answers(case.model, case.tokens, block, state), plain)
            for block, state in enumerate(states)
        )

    return worst_case(check, 801)


@_claim(
    "query-forgotten",
    "After the last block, one state in the place of all others makes the answer the same for "
    "every query.",
    where=PROCEDURE,
    kind="identity",
)
def query_forgotten(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        vector = last_states(case.model, case.tokens)[-1].mean(0)
        last = len(case.model.blocks) - 1
        answers = patched_answers(case.model, case.query_tokens, last, vector)
        return relative_error(answers, answers[:1].expand_as(answers))

    return worst_case(check, 802, "So the last block can recover no task in which queries differ.")


@_claim(
    "adding-is-replacing",
    "For a prompt's own query, adding the difference that demonstrations make is the same as "
    "putting in the state with demonstrations.",
    where="not in the paper; the two ways to patch",
    kind="identity",
)
def adding_is_replacing(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        model, alone = case.model, case.query_tokens
        whole, part = last_states(model, case.tokens), last_states(model, alone)
        return max(
            relative_error(
                patched_answers(model, alone, block, whole[block] - part[block], "add"),
                patched_answers(model, alone, block, whole[block]),
            )
            for block in range(len(whole))
        )

    return worst_case(check, 803, "For another query than the dummy's they differ.")


# --- what a vector does ---------------------------------------------------------------------------


@_claim(
    "replacing-recovers",
    "A state from a prompt with demonstrations, in place of that of a query alone, recovers most "
    "of the accuracy of in-context learning.",
    where="abstract; the recovered accuracy, in its released results",
)
def replacing_recovers(scale: Scale) -> Evidence:
    result = _result(scale)
    rows = [i for i, task in enumerate(result.tasks) if "contrary" not in task]
    patched, context = result.best("replace")[rows], result.in_context[rows].mean(1)
    share = patched.mean(0) / context.mean(0)
    names = [result.tasks[i] for i in rows]
    by_task = ", ".join(f"{n} {words(row)}" for n, row in zip(names, patched, strict=True))
    return Evidence(
        measured=float(share.min()),
        bound=MOST,
        partial_bound=0.5,
        comparison="at least",
        unit="accuracy patched over in context, mean over tasks, least of the seeds",
        reported=0.907,
        samples=passed(share >= MOST),
        note=f"By seed {words(share)}; accuracy patched: {by_task}. Reported: LLaMA 7B, .78 of "
        "accuracy .86, mean over 18 tasks from the released table; seven models from .83 to .91.",
    )


@_claim(
    "read-later",
    "Replacing the last state recovers a task only where the last token reads its query in a "
    "later block.",
    where="not in the paper; why a shallow model differs",
)
def read_later(scale: Scale) -> Evidence:
    result = _result(scale)
    context = result.in_context.mean(1)[:, None]
    replaced = result.patched[:, result.ways.index("replace")].mean(2)
    done = (context >= 0.5) & (replaced >= 0.75 * context)
    own = result.read[:, :, 0][done]
    read = result.read[:, :, 1] >= 0.9
    return Evidence(
        measured=float(own.min()) if own.size else float("nan"),
        bound=0.9,
        comparison="at least",
        unit="prompts answered for their own query after last states are swapped, least of cells",
        samples=passed(own >= 0.9) if own.size else None,
        note="A cell is a task, a seed and a block; replacing recovers three quarters of "
        f"in-context accuracy in {own.size} of {done.size}. Where the query had been read, it "
        f"gives {replaced[read].max():.2f} at most: a mean state of many queries holds none, and "
        "a later block may read again. Reading later is not enough: the task must be there too.",
    )


@_claim(
    "adding-recovers",
    "The difference that demonstrations make, added to the last state of a query alone, recovers "
    "in-context learning where label words belong to one task.",
    where="not in the paper; its patch as a difference",
)
def adding_recovers(scale: Scale) -> Evidence:
    result = _result(scale)
    own, shared = (
        result.best("add")[rows] / result.in_context[rows].mean(1)
        for rows in (result.rows(*OWN_LABELS), result.rows("stance", "kind"))
    )
    return Evidence(
        measured=float(own.min()),
        bound=0.9,
        comparison="at least",
        unit="accuracy patched over in context, least of topic, mood and seeds",
        samples=passed(own >= 0.9),
        note=f"Topic and mood, by seed: {words(own)}; stance and kind, which share label words: "
        f"{words(shared)}. The block is chosen on other demonstrations.",
    )


@_claim(
    "which-task-not-which-mapping",
    "The added difference tells the model which task is meant, not by which mapping: it recovers "
    "less than half where the demonstrated labels are contrary.",
    where="not in the paper; about what a task vector holds",
)
def not_the_mapping(scale: Scale) -> Evidence:
    result = _result(scale)
    cells = acquired(result)
    added = result.best("add")[cells] / result.in_context.mean(1)[cells]
    replaced = result.best("replace")[cells]
    names = [f"{result.tasks[i]} {seed}" for i, seed in np.argwhere(cells)]
    return Evidence(
        measured=float(added.max()),
        bound=0.5,
        unit="accuracy patched over in context, largest of contrary tasks and seeds",
        samples=passed(added <= 0.5),
        note="Contrary tasks that a seed's model does in context: "
        + ", ".join(f"{name}: {value:.2f}" for name, value in zip(names, added, strict=True))
        + f". Accuracy with the state replaced: {words(replaced)}.",
    )


@_claim(
    "overriding",
    "A task vector put into a prompt that demonstrates another task wins over the demonstrations.",
    where="the results on overriding, in its released results",
)
def overriding(scale: Scale) -> Evidence:
    result = _result(scale)
    values = result.injected[:, result.ways.index("replace"), -2]
    gap = values[:, 1] - values[:, 0]
    added = result.injected[:, result.ways.index("add"), -2]
    return Evidence(
        measured=float(gap.min()),
        bound=0.0,
        comparison="at least",
        unit="accuracy at the injected task less that at the demonstrated one, least of pairs, "
        "seeds",
        reported=0.67,
        samples=passed(gap > 0),
        note="State replaced after the last block but one. Injected "
        f"{values[:, 1].mean():.2f} and demonstrated {values[:, 0].mean():.2f} on average; before, "
        f"{result.before[:, 1].mean():.2f} and {result.before[:, 0].mean():.2f}. Much of it is "
        "erasing: where the query is erased too, the injected task gets its most common label. "
        f"Added instead, the injected task wins {passed(added[:, 1] > added[:, 0])[0]} of "
        f"{gap.size} times. Reported: .77 less .10, one pair of tasks, LLaMA 13B.",
    )


@_claim(
    "random-labels",
    "Where label words belong to one task, demonstrations with random labels give as good a "
    "vector.",
    where="not in the paper; control of what a vector holds",
)
def random_labels(scale: Scale) -> Evidence:
    result = _result(scale)
    rows, way = result.rows(*OWN_LABELS), result.ways.index("add")
    right, random = (
        values[rows, way].mean(2).max(1) for values in (result.patched, result.random_patched)
    )
    context = result.random_context[rows].mean(1)
    return Evidence(
        measured=float((random / right).min()),
        bound=0.9,
        comparison="at least",
        unit="accuracy with the vector of random labels over that of right ones, topic and mood, "
        "least of seeds",
        samples=passed(random >= 0.9 * right),
        note=f"Best block. Random labels: {words(random)}; right ones: {words(right)}; random "
        f"labels in context: {words(context)}.",
    )
