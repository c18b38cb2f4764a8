"""Does fine-tuning look at the same tokens as attention to demonstrations does?

The fourth measure of Dai et al. ranks the demonstrations' tokens twice: by the attention that the
query's last token pays to them in context, and by how near its query is to theirs while they were
trained on. Kendall's rank correlation says whether the two orders agree. The controls: the same
without any fine-tuning at all; after fine-tuning on other labels; within tokens of one kind (nouns
among nouns), so that the kind alone cannot make the orders agree; and untrained models.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.declare import experiment
from icl_lessons.language_models.experiments.update_similarity import (
    CAUSAL,
    MODELS,
    ONE_PASS,
    TRAINED,
    UpdateSimilarityConfig,
    other_labels,
    similarity_of_updates,
    the_models,
)
from icl_lessons.language_models.figures import attention_ranks as figures
from icl_lessons.language_models.subjects import COURSE, subject
from icl_lessons.language_models.update_similarity import (
    attention_queries,
    attention_to,
    attention_while_training,
    kendall_rank_correlation,
)
from icl_lessons.runtime import Scale, check_choice, one_thread
from icl_lessons.tasks.attribute_prompts import AttributePrompts
from icl_lessons.zoo import State, recipe

NO_DESCENT, OTHER_LABELS = "no fine-tuning", "one pass, other labels"
RANKED = (NO_DESCENT, ONE_PASS, CAUSAL, OTHER_LABELS)
ALL, WITHIN = "all tokens", "within kinds"
AMONG = (ALL, WITHIN)
KINDS = 3  # of tokens of a demonstration that are ranked: noun, predicate, separator


@dataclass(frozen=True, kw_only=True)
class AttentionRanksConfig:
    """Settings of :func:`attention_ranks`, all of which its figures depend on.

    Attributes:
        similarity: of the study whose tasks, demonstrations, queries and seeds these are, and whose
            learning rate of one pass is taken for each task and seed.
        seeds: some of that study's; all by default.
    """

    similarity: UpdateSimilarityConfig = UpdateSimilarityConfig()
    seeds: tuple[int, ...] = UpdateSimilarityConfig().seeds
    device: str = "cpu"

    def __post_init__(self):
        if self.similarity.model != COURSE:
            raise ValueError(
                f"similarity: got the model {self.similarity.model!r}; queries are read from "
                f"{COURSE!r} alone"
            )
        if self.similarity.n < 2:
            raise ValueError(f"similarity: got n={self.similarity.n}; ranks take 2 demonstrations")
        if not self.seeds or not set(self.seeds) <= set(self.similarity.seeds):
            raise ValueError(f"seeds: got {self.seeds}; use some of {self.similarity.seeds}")


@dataclass(frozen=True, kw_only=True)
class AttentionRanksResult:
    """How far the two orders of the demonstrations' tokens agree.

    Attributes:
        tasks: along the axis; models are those of ``update_similarity``.
        tau: Kendall's, means over queries, ``[models, tasks, ranked, among, blocks, seeds]`` with
            :data:`RANKED` ways to train and among :data:`AMONG` tokens.
        recency: the same of attention in context and of how late in the prompt a token stands,
            ``[models, tasks, among, blocks, seeds]``.
    """

    tasks: tuple[str, ...]
    tau: Float[np.ndarray, "models tasks ranked among blocks seeds"]
    recency: Float[np.ndarray, "models tasks among blocks seeds"]

    def of(self, model: str = TRAINED, way: str = ONE_PASS, among: str = ALL) -> np.ndarray:
        """Kendall's tau of one model and one way: ``[tasks, blocks, seeds]``."""
        check_choice("model", model, MODELS)
        check_choice("way", way, RANKED)
        check_choice("among", among, AMONG)
        return self.tau[MODELS.index(model), :, RANKED.index(way), AMONG.index(among)]

    def mean(self, *which: str) -> Float[np.ndarray, " seeds"]:
        """The mean of :meth:`of` over tasks and blocks."""
        return self.of(*which).mean((0, 1))

    def late(self, model: str = TRAINED, among: str = ALL) -> Float[np.ndarray, " seeds"]:
        """The mean over tasks and blocks of ``recency``."""
        check_choice("model", model, MODELS)
        check_choice("among", among, AMONG)
        return self.recency[MODELS.index(model), :, AMONG.index(among)].mean((0, 1))

    def summary(self) -> str:
        """Means over tasks and blocks, seed by seed."""
        lines = ["Kendall's tau, means over tasks and blocks, seed by seed"]
        for among in AMONG:
            for model in MODELS:
                parts = [(way, self.mean(model, way, among)) for way in RANKED]
                parts.append(("lateness", self.late(model, among)))
                said = "; ".join(f"{n} {' '.join(f'{v:.2f}' for v in vs)}" for n, vs in parts)
                lines.append(f"  {among}, {model}: {said}")
        return "\n".join(lines)


def ranked_places(n: int) -> Int[Tensor, "n 3"]:
    """Where noun, predicate and separator of each demonstration stand in a prompt, ``[n, 3]``.

    A demonstration takes five tokens, after the one that begins the document. The label and what
    ends it have no place in a training example, whose last token is the separator.
    """
    return 1 + 5 * torch.arange(n)[:, None] + torch.arange(KINDS)


def _both(
    first: Float[Tensor, "layers batch m"], second: Float[Tensor, "*rows m"]
) -> Float[Tensor, "among layers"]:
    """Rank correlation among all tokens, and the mean of those within each kind."""
    second = second.expand_as(first)
    kinds = [row.unflatten(-1, (-1, KINDS)).mT for row in (first, second)]
    rows = [kendall_rank_correlation(first, second), kendall_rank_correlation(*kinds).mean(-1)]
    return torch.stack(rows).mean(-1)


def _cell(
    config: UpdateSimilarityConfig, model: nn.Module, prompts: AttributePrompts, rate: float | int
) -> State:
    """Rank correlations of one model on one task's prompts."""
    places, count = ranked_places(config.n).flatten(), config.n_queries
    shown = attention_to(model, prompts.tokens[:count], places)
    inputs, labels = prompts.demonstrations(0)

    def compared(way: str | None, told: Tensor) -> Tensor:
        """One example at a time; each one's queries are those just before its own step."""
        seen, tuned = [], model
        for some, label in zip(inputs.split(1), told.split(1), strict=True):
            seen.append(attention_queries(tuned, some)[:, :, 0, -KINDS:])
            if way is not None:
                tuned = config.descend(way)(tuned, some, label, rate)
        query = attention_queries(tuned, prompts.query_tokens[:count])[..., -1, :]
        return _both(shown, attention_while_training(torch.cat(seen, 2), query))

    trained = {
        NO_DESCENT: compared(None, labels),
        ONE_PASS: compared(ONE_PASS, labels),
        CAUSAL: compared(CAUSAL, labels),
        OTHER_LABELS: compared(ONE_PASS, other_labels(prompts)),
    }
    return {
        "tau": torch.stack([trained[way] for way in RANKED]),
        "recency": _both(shown, places.float()),
    }


def _drawn(config: UpdateSimilarityConfig, task: str, seed: int) -> AttributePrompts:
    who = subject(config.model, seed)
    return who.prompts(task, config.n, config.n_queries + config.validation, seed)


def _summed(state: State, config: AttentionRanksConfig) -> dict[str, float]:
    """Means of the stored figures; attention to demonstrations in one cell, again."""
    study = config.similarity
    seed = config.seeds[0]
    tokens = _drawn(study, study.tasks[0], seed).tokens[: study.n_queries]
    with one_thread():
        paid = attention_to(
            subject(study.model, seed).model, tokens, ranked_places(study.n).flatten()
        )
    means = {name: values.float().mean().item() for name, values in state.items()}
    return means | {"attention, first cell": paid.mean().item()}


@recipe("attention_ranks", config=AttentionRanksConfig(), measure=_summed)
def attention_ranks_measures(config: AttentionRanksConfig) -> State:
    """The arrays of :class:`AttentionRanksResult`."""
    study = config.similarity
    chosen = similarity_of_updates(study).chosen(ONE_PASS)
    by_seed = []
    with one_thread():
        for seed in config.seeds:
            prompts = [_drawn(study, task, seed) for task in study.tasks]
            rates = [study.rates[place] for place in chosen[:, study.seeds.index(seed)]]
            cells = [
                [_cell(study, model, *each) for each in zip(prompts, rates, strict=True)]
                for model in the_models(subject(study.model, seed), seed).values()
            ]
            by_seed.append(
                {name: torch.stack([torch.stack([cell[name] for cell in row]) for row in cells])
                 for name in cells[0][0]}
            )  # fmt: skip
    return {
        name: torch.stack([one[name] for one in by_seed], -1).half().contiguous()
        for name in by_seed[0]
    }


@experiment(
    "attention_ranks",
    paper="dai2023why",
    chapter="language_models/which_account",
    configs={
        Scale.LESSON: AttentionRanksConfig(),
        Scale.PAPER: AttentionRanksConfig(  # the number of demonstrations; of attribute text
            similarity=UpdateSimilarityConfig(n=32, n_queries=500)
        ),
    },
    figure=figures.attention_ranks,
)
def attention_ranks(config: AttentionRanksConfig) -> AttentionRanksResult:
    """Attention to demonstrations in context beside what stands in for it in fine-tuning."""
    state = attention_ranks_measures(config)
    arrays = {name: tensor.double().numpy() for name, tensor in state.items()}
    return AttentionRanksResult(
        tasks=config.similarity.tasks, tau=arrays["tau"], recency=arrays["recency"]
    )
