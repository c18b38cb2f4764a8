"""Are the two updates alike: that of demonstrations in context and that of fine-tuning on them?

The measures of Dai et al. and their corrections by Deutch et al., for three ways to descend on keys
and values and for three models: trained, trained embeddings and norms around blocks that have
learned nothing, and untrained. A learning rate is chosen for each way, task and seed as Dai et al.
do, by how well the *trained* model answers further queries; the controls take the same one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.declare import experiment
from icl_lessons.language_models.figures import update_similarity as figures
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.function_vectors import attention_outputs
from icl_lessons.language_models.layer_causal import layer_causal_fine_tune
from icl_lessons.language_models.subjects import COURSE, COURSE_TASKS, Subject, subject
from icl_lessons.language_models.text_tasks import HUB
from icl_lessons.language_models.update_similarity import (
    KEYS_AND_VALUES,
    attention_scores,
    cosine,
    embeddings_only,
    independent_similarity,
    random_update,
    recalled,
    relative_sizes,
    score_change_similarity,
    score_similarity,
    untrained,
    update_similarity,
    weight_updates,
)
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.models.sequence import SequenceTransformer
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread, seeded
from icl_lessons.zoo import State, recipe

TRAINED, EMBEDDINGS, UNTRAINED = "trained", "embeddings only", "untrained"
MODELS = (TRAINED, EMBEDDINGS, UNTRAINED)
ONE_PASS, CAUSAL, FULL_BATCH = "one pass", "one pass, layer-causal", "full batch"
WAYS = (ONE_PASS, CAUSAL, FULL_BATCH)
DONE_BY_ALL = ("topic", "mood", "stance", "kind", "mood contrary", "stance contrary")
"""The tasks that CourseLM of every seed does in context with eight demonstrations."""
BY_BLOCK = ("raw", "normalised", "null", "random", "random_raw", "other_labels", "scores",
            "score_changes", "size", "moved")  # fmt: skip
BY_ANSWER = ("accuracy", "validated", "both", "gained")


@dataclass(frozen=True, kw_only=True)
class UpdateSimilarityConfig:
    """Settings of :func:`similarity_of_updates`, all of which its figures depend on.

    Attributes:
        model, data, tasks: as for ``icl_against_gd``.
        n: demonstrations.
        rates: learning rates among which one is chosen.
        epochs: of full-batch descent; the other ways see each demonstration once.
        n_queries: that everything is measured on, the same for every seed.
        validation: further queries, on which the learning rate is chosen.
        seeds: of the demonstrations, and of CourseLM.
    """

    model: str = COURSE
    data: str | None = None
    tasks: tuple[str, ...] = DONE_BY_ALL
    n: int = 8
    rates: tuple[float | int, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    epochs: int = 20
    n_queries: int = 100
    validation: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n", "epochs", "n_queries", "validation"):
            check_integer(name, getattr(self, name), at_least=1)
        if not self.rates or min(self.rates) <= 0:
            raise ValueError(f"rates: got {self.rates}; use one or more, all above 0")
        if self.model != COURSE and self.tasks == DONE_BY_ALL:
            object.__setattr__(self, "tasks", tuple(HUB))
        for task in self.tasks:
            check_choice("tasks", task, COURSE_TASKS if self.model == COURSE else tuple(HUB))

    def descend(self, way: str) -> Callable[..., nn.Module]:
        """``(model, inputs, labels, rate) -> tuned`` of one of :data:`WAYS`."""
        check_choice("way", way, WAYS)
        tune = layer_causal_fine_tune if way == CAUSAL else fine_tune
        size, epochs = (None, self.epochs) if way == FULL_BATCH else (1, 1)

        def descended(model: nn.Module, inputs: Tensor, labels: Tensor, rate: float | int):
            settings = FineTuning(
                learning_rate=rate, epochs=epochs, batch_size=size, parts=KEYS_AND_VALUES
            )
            return tune(model, inputs, labels, settings)

        return descended


@dataclass(frozen=True, kw_only=True)
class UpdateSimilarityResult:
    """How alike the two updates are, for each model, task, way to descend and learning rate.

    Attributes:
        tasks, rates: along the axes; models and ways are :data:`MODELS` and :data:`WAYS`.
        by_block: means over queries, ``[models, tasks, ways, rates, blocks, seeds]``: SimAOU
            ``raw`` and ``normalised``; ``null``, the normalised one that two independent updates
            of these sizes have in closed form; ``random`` and ``random_raw``, with an update as
            large as that of fine-tuning in a random direction; ``other_labels``, raw, after
            fine-tuning on the same inputs with :func:`other_labels`; ``scores``, SimAM of context
            and fine-tuned; ``score_changes``, SimAM of changes, NaN in the first block; ``size`` of
            what fine-tuning changes, ``c`` as in ``relative_sizes``; ``moved``, the length of the
            change of keys and values. Scores are NaN for a pretrained model.
        by_answer: ``[models, tasks, ways, rates, seeds]``: ``accuracy`` after fine-tuning;
            ``validated``, mean log probability of the right answer on the validation queries;
            ``gained``, queries that fine-tuning turned right, and ``both``, those of them that
            context did too.
        context: ``[models, tasks, blocks, seeds]``: ``scores``, SimAM of context and query alone;
            ``size`` of what demonstrations change.
        zero_shot, in_context: accuracy, ``[models, tasks, seeds]``.
        weights: cosine of the changes of keys and values by one pass and by layer-causal descent
            at the same learning rate, ``[models, tasks, rates, blocks, seeds]``.
    """

    tasks: tuple[str, ...]
    rates: tuple[float | int, ...]
    by_block: dict[str, Float[np.ndarray, "models tasks ways rates blocks seeds"]]
    by_answer: dict[str, Float[np.ndarray, "models tasks ways rates seeds"]]
    context: dict[str, Float[np.ndarray, "models tasks blocks seeds"]]
    zero_shot: Float[np.ndarray, "models tasks seeds"]
    in_context: Float[np.ndarray, "models tasks seeds"]
    weights: Float[np.ndarray, "models tasks rates blocks seeds"]

    def chosen(self, way: str) -> Int[np.ndarray, "tasks seeds"]:
        """Which learning rate serves the trained model best on the validation queries."""
        check_choice("way", way, WAYS)
        return self.by_answer["validated"][0, :, WAYS.index(way)].argmax(1)

    def of(self, measure: str, model: str = TRAINED, way: str = ONE_PASS) -> np.ndarray:
        """A measure at the chosen rate: ``[tasks, blocks, seeds]``, or ``[tasks, seeds]``."""
        check_choice("measure", measure, BY_BLOCK + BY_ANSWER)
        check_choice("model", model, MODELS)
        rate = self.chosen(way)
        values = self.by_block.get(measure, self.by_answer.get(measure))
        values = values[MODELS.index(model), :, WAYS.index(way)]
        places = rate[:, None, None] if values.ndim == 4 else rate[:, None]
        return np.take_along_axis(values, places, 1)[:, 0]

    def mean(
        self, measure: str, model: str = TRAINED, way: str = ONE_PASS
    ) -> Float[np.ndarray, " seeds"]:
        """The mean of :meth:`of` over tasks and blocks, for scores over all blocks but the first.

        All heads' scores of the query's own tokens are the same in the first block whatever the
        demonstrations.
        """
        values = self.of(measure, model, way)
        if measure in ("scores", "score_changes"):
            values = values[:, 1:]
        return values.reshape(-1, values.shape[-1]).mean(0)

    def scores_before(self, model: str = TRAINED) -> Float[np.ndarray, " seeds"]:
        """SimAM of context and the query alone, a mean over tasks and blocks but the first."""
        check_choice("model", model, MODELS)
        return self.context["scores"][MODELS.index(model), :, 1:].mean((0, 1))

    def recalled(self, model: str = TRAINED, way: str = ONE_PASS) -> Float[np.ndarray, "2 seeds"]:
        """``both`` and ``gained`` over all tasks: Rec2FTP is the first over the second."""
        return np.stack([self.of(name, model, way).sum(0) for name in ("both", "gained")])

    def summary(self) -> str:
        """Means over tasks and blocks, seed by seed."""
        lines = ["means over tasks and blocks, seed by seed, at the rate chosen for each task"]
        for way in WAYS:
            lines.append(f"  {way}, rates {sorted({self.rates[i] for i in self.chosen(way).flat})}")
            for model in MODELS:
                parts = [
                    f"{name} {' '.join(f'{v:.2f}' for v in self.mean(name, model, way))}"
                    for name in ("normalised", "null", "random", "raw", "scores", "score_changes")
                ]
                lines.append(f"    {model:16s}" + "; ".join(parts))
        return "\n".join(lines)


def the_models(who: Subject, seed: int) -> dict[str, nn.Module]:
    """The three models of :data:`MODELS`."""
    start = untrained(who.model, seed)
    return {TRAINED: who.model, EMBEDDINGS: embeddings_only(who.model, start), UNTRAINED: start}


def other_labels(prompts: Any) -> Int[Tensor, " n"]:
    """For the first prompt's demonstrations: the next of its choices in place of every label."""
    choices = prompts.choices if prompts.choices.ndim == 1 else prompts.choices[0]
    place = (prompts.labels[0][:, None] == choices).long().argmax(1)
    return choices[(place + 1) % len(choices)]


def _scores(model: nn.Module, tokens: Tensor, own: int) -> Tensor | None:
    return attention_scores(model, tokens, own) if isinstance(model, SequenceTransformer) else None


def _cell(config: UpdateSimilarityConfig, model: nn.Module, prompts: Any, seed: int) -> State:
    """Every measure of one model on one task's prompts."""
    count, layers = config.n_queries, len(model.blocks)
    alone, shown = prompts.query_tokens[:count], prompts.tokens[:count]
    further, right = prompts.query_tokens[count:], prompts.answer[count:]
    answer = prompts.answer[:count]
    own = alone.shape[1] - 1  # all of the query but the token that begins a document
    zero, context = (attention_outputs(model, tokens) for tokens in (alone, shown))
    zero_scores, context_scores = (_scores(model, tokens, own) for tokens in (alone, shown))
    law, context_law = (answer_law(model, tokens) for tokens in (alone, shown))
    context_size = relative_sizes(zero, context)
    nothing = torch.full((layers, count), torch.nan)

    def measured(tuned: nn.Module, misled: nn.Module) -> tuple[Tensor, Tensor]:
        after, generator = attention_outputs(tuned, alone), seeded(seed)
        drawn = random_update(zero, after, generator=generator)
        size = relative_sizes(zero, after)
        scores = changes = nothing
        if zero_scores is not None:
            tuned_scores = _scores(tuned, alone, own)
            scores = score_similarity(context_scores, tuned_scores)
            changes = score_change_similarity(zero_scores, context_scores, tuned_scores)
            changes[0] = torch.nan
        blocks = {
            "raw": update_similarity(zero, context, after, normalised=False),
            "normalised": update_similarity(zero, context, after, normalised=True),
            "null": independent_similarity(context_size, size),
            "random": update_similarity(zero, context, drawn, normalised=True),
            "random_raw": update_similarity(zero, context, drawn, normalised=False),
            "other_labels": update_similarity(
                zero, context, attention_outputs(misled, alone), normalised=False
            ),
            "scores": scores,
            "score_changes": changes,
            "size": size,
        }
        rows = {name: values.mean(1) for name, values in blocks.items()}
        rows["moved"] = weight_updates(model, tuned, layers).norm(dim=1)
        tuned_law = answer_law(tuned, alone)
        counts = recalled(law, context_law, tuned_law, answer)
        answers = {
            "accuracy": accuracy_over_vocabulary(tuned_law, answer),
            "validated": answer_law(tuned, further).gather(1, right[:, None]).log().mean().item(),
            "both": counts.both,
            "gained": counts.tuned,
        }
        return torch.stack([rows[name] for name in BY_BLOCK]), torch.tensor(
            [float(answers[name]) for name in BY_ANSWER]
        )

    inputs, labels = prompts.demonstrations(0)
    tuned, misled = (
        [[config.descend(way)(model, inputs, told, rate) for rate in config.rates] for way in WAYS]
        for told in (labels, other_labels(prompts))
    )
    found = [
        [measured(*pair) for pair in zip(*rows, strict=True)]
        for rows in zip(tuned, misled, strict=True)
    ]
    pairs = zip(tuned[WAYS.index(ONE_PASS)], tuned[WAYS.index(CAUSAL)], strict=True)
    before = nothing if zero_scores is None else score_similarity(context_scores, zero_scores)
    return {
        "by_block": torch.stack([torch.stack([each[0] for each in row]) for row in found]),
        "by_answer": torch.stack([torch.stack([each[1] for each in row]) for row in found]),
        "context": torch.stack([before.mean(1), context_size.mean(1)]),
        "accuracy": torch.tensor(
            [accuracy_over_vocabulary(each, answer) for each in (law, context_law)]
        ),
        "weights": torch.stack(
            [cosine(*(weight_updates(model, each, layers) for each in pair)) for pair in pairs]
        ),
    }


def _prompts(config: UpdateSimilarityConfig, who: Subject, task: str, seed: int) -> Any:
    return who.prompts(task, config.n, config.n_queries + config.validation, seed)


def _summed(state: State, config: UpdateSimilarityConfig) -> dict[str, float]:
    """Means of the stored figures; the size of what demonstrations change in one cell, again."""
    seed, task = config.seeds[0], config.tasks[0]
    who = subject(config.model, seed, config.data)
    prompts = _prompts(config, who, task, seed)
    with one_thread():
        states = [
            attention_outputs(who.model, tokens[: config.n_queries])
            for tokens in (prompts.query_tokens, prompts.tokens)
        ]
    means = {name: values.float().nanmean().item() for name, values in state.items()}
    return means | {"size in context, first cell": relative_sizes(*states).mean().item()}


@recipe("update_similarity", config=UpdateSimilarityConfig(), measure=_summed)
def update_similarity_measures(config: UpdateSimilarityConfig) -> State:
    """The arrays of :class:`UpdateSimilarityResult` with measures first and seeds last."""
    by_seed = []
    with one_thread():
        for seed in config.seeds:
            who = subject(config.model, seed, config.data)
            prompts = [_prompts(config, who, task, seed) for task in config.tasks]
            cells = [
                [_cell(config, model, each, seed) for each in prompts]
                for model in the_models(who, seed).values()
            ]
            by_seed.append(
                {name: torch.stack([torch.stack([cell[name] for cell in row]) for row in cells])
                 for name in cells[0][0]}
            )  # fmt: skip
    state = {name: torch.stack([one[name] for one in by_seed], -1) for name in by_seed[0]}
    state["by_block"] = state["by_block"].movedim(4, 0)
    state["by_answer"] = state["by_answer"].movedim(4, 0)
    state["context"] = state["context"].movedim(2, 0)
    state["accuracy"] = state["accuracy"].movedim(2, 0)
    return {name: values.half().contiguous() for name, values in state.items()}


@experiment(
    "update_similarity",
    paper="dai2023why",
    chapter="language_models/which_account",
    configs={
        Scale.LESSON: UpdateSimilarityConfig(),
        Scale.PAPER: UpdateSimilarityConfig(  # fairseq's model of the paper is in no known family
            model="EleutherAI/gpt-neo-1.3B", n=32, rates=(1e-4, 1e-3, 1e-2, 1e-1)
        ),
    },
    figure=figures.similarity_of_updates,
)
def similarity_of_updates(config: UpdateSimilarityConfig) -> UpdateSimilarityResult:
    """What demonstrations change in attention beside what fine-tuning on them changes."""
    state = update_similarity_measures(config)
    arrays = {name: tensor.double().numpy() for name, tensor in state.items()}
    return UpdateSimilarityResult(
        tasks=config.tasks,
        rates=config.rates,
        by_block=dict(zip(BY_BLOCK, arrays["by_block"], strict=True)),
        by_answer=dict(zip(BY_ANSWER, arrays["by_answer"], strict=True)),
        context=dict(zip(("scores", "size"), arrays["context"], strict=True)),
        zero_shot=arrays["accuracy"][0],
        in_context=arrays["accuracy"][1],
        weights=arrays["weights"],
    )
