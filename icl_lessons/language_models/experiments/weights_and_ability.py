"""The assumptions of the constructions, looked at in trained weights: sparsity, and exact values.

The first experiment counts small entries and measures ranks, in CourseLM through its training or in
any pretrained model. The second follows CourseLM's abilities while its weights move, and asks what
a corpus without coherent documents would have given.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.declare import experiment
from icl_lessons.language_models.course_models import (
    CourseLMTraining,
    checkpoints,
    course_weights,
)
from icl_lessons.language_models.figures import weights_and_ability as figures
from icl_lessons.language_models.subjects import COURSE, pretrained_subject
from icl_lessons.language_models.weights_and_ability import (
    ABILITIES,
    INCOHERENT,
    MATRICES,
    PRODUCTS,
    PROMPT_SEED,
    Projections,
    ability,
    head_products,
    incoherent_weights,
    projections,
)
from icl_lessons.measures.weights import (
    effective_rank,
    parameter_change,
    sparsity_of_construction,
    sparsity_ratio,
)
from icl_lessons.runtime import Scale, check_choice, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.attribute_text import NAMES
from icl_lessons.zoo import State, recipe

GAUSSIAN_SEED = 2_310_089
GAUSSIAN = "Gaussian"


def _matrices(model: nn.Module) -> tuple[list[Projections], int]:
    """The matrices of every block, and the number of heads."""
    layers, heads = len(model.blocks), getattr(model, "heads", None) or model.config.heads
    with torch.no_grad():
        return [projections(model, block) for block in range(layers)], heads


# --- sparsity -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WeightSparsityConfig:
    """Settings of :func:`weight_sparsity`.

    Attributes:
        model: ``"course"``, or the name or folder of a pretrained model.
        training: of CourseLM.
        thresholds: entries below these in size are small.
        seeds: of CourseLM; a pretrained model is the same for every seed.
    """

    model: str = COURSE
    training: CourseLMTraining = CourseLMTraining()
    thresholds: tuple[float, ...] = (1e-3, 1e-2)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for threshold in self.thresholds:
            check_number("thresholds", threshold, positive=True)
        for seed in self.seeds:
            check_integer("seeds", seed, at_least=0)


@dataclass(frozen=True, kw_only=True)
class WeightSparsityResult:
    """Shares of small entries and effective ranks, of every matrix, layer by layer.

    Attributes:
        stages: numbers of steps, or the name of a pretrained model; last a Gaussian matrix with the
            standard deviation of each matrix of the last model.
        thresholds: of the shares.
        ratio: sparsity ratio of ``W_Q``, ``W_K``, ``W_V``,
            ``[stages, seeds, layers, 3, thresholds]``.
        rank: effective rank of ``W_Q``, ``W_K``, ``W_V``, ``W_K^T W_Q``, ``W_O W_V``, of the two
            products the mean over heads, ``[stages, seeds, layers, 5]``.
        construction: sparsity ratios of the construction of the same width, one target.
        width, head_width: of the tokens and of a head: the largest rank there can be.
    """

    stages: tuple[str, ...]
    thresholds: tuple[float, ...]
    ratio: Float[np.ndarray, "stages seeds layers matrices thresholds"]
    rank: Float[np.ndarray, "stages seeds layers kinds"]
    construction: tuple[float, float, float]
    width: int
    head_width: int

    @property
    def trained(self) -> int:
        """The stage of the trained model."""
        return len(self.stages) - 2

    def summary(self) -> str:
        """Means over seeds and layers in a few lines."""
        lines = [f"construction, width {self.width}: zeros " + _row(self.construction, 5)]
        for i, stage in enumerate(self.stages):
            shares = self.ratio[i].mean((0, 1)).T.ravel()
            lines.append(f"  {stage:>10}: " + _row(shares, 4) + " | " + _row(self.ranks(i), 1))
        head = f"shares of {', '.join(MATRICES)} below {', '.join(map(str, self.thresholds))}"
        return "\n".join([head + f" | ranks, then {', '.join(PRODUCTS)}", *lines])

    def ranks(self, stage: int) -> Float[np.ndarray, " kinds"]:
        """Effective ranks of a stage, means over seeds and layers."""
        return self.rank[stage].mean((0, 1))


def _gaussian(matrices: Projections, generator: torch.Generator) -> Projections:
    return Projections(*(torch.randn(m.shape, generator=generator) * m.std() for m in matrices))


def _row(values, digits: int) -> str:
    return " ".join(f"{v:.{digits}f}" for v in values)


def _looked_at(
    matrices: list[Projections], heads: int, thresholds: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Shares ``[layers, 3, thresholds]`` and ranks ``[layers, 5]``."""
    shares, ranks = [], []
    for of_block in matrices:
        shares.append([[sparsity_ratio(m, t) for t in thresholds] for m in of_block[:3]])
        products = head_products(of_block, heads)
        by_head = [np.mean([effective_rank(m) for m in product]) for product in products]
        ranks.append([effective_rank(m) for m in of_block[:3]] + by_head)
    return torch.tensor(shares), torch.tensor(ranks)


@experiment(
    "weight_sparsity",
    paper="shen2024pretrained",
    chapter="language_models/gradient_descent",
    configs={
        Scale.LESSON: WeightSparsityConfig(),
        Scale.PAPER: WeightSparsityConfig(model="huggyllama/llama-7b", seeds=(0,)),
    },
    figure=figures.weight_sparsity,
)
def weight_sparsity(config: WeightSparsityConfig) -> WeightSparsityResult:
    """Shares of small weights and effective ranks, of a trained model and of the construction."""
    if config.model == COURSE:
        kept = checkpoints(course_weights(config.training), config.training)
        stages = {str(steps): models for steps, models in kept.items()}
    else:
        stages = {config.model: [pretrained_subject(config.model).model]}
    generator = seeded(GAUSSIAN_SEED)
    shares, ranks = [], []
    with one_thread():
        for stage in (*stages, GAUSSIAN):
            models = stages[stage if stage != GAUSSIAN else list(stages)[-1]]
            of_stage = []
            for seed in config.seeds:
                matrices, heads = _matrices(models[seed % len(models)])
                if stage == GAUSSIAN:
                    matrices = [
                        Projections(
                            *(torch.randn(m.shape, generator=generator) * m.std() for m in p)
                        )
                        for p in matrices
                    ]
                of_stage.append(_looked_at(matrices, heads, config.thresholds))
            shares.append(torch.stack([share for share, _ in of_stage]))
            ranks.append(torch.stack([rank for _, rank in of_stage]))
    rows, width = matrices[0].query.shape
    zeros = sparsity_of_construction(width - 1, 1)
    return WeightSparsityResult(
        stages=(*stages, GAUSSIAN),
        thresholds=config.thresholds,
        ratio=torch.stack(shares).double().numpy(),
        rank=torch.stack(ranks).double().numpy(),
        construction=tuple(zeros[name] for name in MATRICES),
        width=width,
        head_width=rows // heads,
    )


# --- abilities while weights move -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WeightsAndAbilityConfig:
    """Settings of :func:`weights_and_ability`.

    Attributes:
        training: of CourseLM, with the checkpoints that are looked at.
        control: a training whose last models are asked the same.
        n: most demonstrations in a prompt.
        n_prompts: for each task and seed, each with demonstrations of its own.
        seeds: of CourseLM, and of the prompts.
    """

    training: CourseLMTraining = CourseLMTraining()
    control: CourseLMTraining = INCOHERENT
    n: int = 8
    n_prompts: int = 200
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n", "n_prompts"):
            check_integer(name, getattr(self, name), at_least=1)
        known = set(self.training.seeds) & set(self.control.seeds)
        if not set(self.seeds) <= known:
            raise ValueError(f"seeds: got {self.seeds}; trained are {tuple(sorted(known))}")


@dataclass(frozen=True, kw_only=True)
class WeightsAndAbilityResult:
    """Abilities at every checkpoint, and how far weights are from one checkpoint to another.

    Attributes:
        steps: of the checkpoints.
        accuracy: over the whole vocabulary after 0, 1, ..., n demonstrations, of
            :data:`~icl_lessons.language_models.weights_and_ability.ABILITIES`,
            ``[steps, abilities, seeds, n + 1]``.
        among_labels: the same when only the task's labels may be said.
        control, control_among_labels: of the control, ``[abilities, seeds, n + 1]``.
        change: from each checkpoint (row) to each (column), over ``W_Q``, ``W_K`` and ``W_V`` of
            all layers: mean absolute change, norm over that of the column, cosine,
            ``[steps, steps, seeds, 3]``.
    """

    steps: tuple[int, ...]
    accuracy: Float[np.ndarray, "steps abilities seeds numbers"]
    among_labels: Float[np.ndarray, "steps abilities seeds numbers"]
    control: Float[np.ndarray, "abilities seeds numbers"]
    control_among_labels: Float[np.ndarray, "abilities seeds numbers"]
    change: Float[np.ndarray, "steps steps seeds 3"]

    def of(self, task: str, n: int = -1) -> Float[np.ndarray, "steps seeds"]:
        """Accuracy over the whole vocabulary with ``n`` demonstrations, the most if not given."""
        check_choice("task", task, ABILITIES)
        return self.accuracy[:, ABILITIES.index(task), :, n]

    def canonical(self) -> Float[np.ndarray, "steps seeds"]:
        """The mean of :meth:`of` over the four attributes with right labels."""
        return np.mean([self.of(name) for name in NAMES], 0)

    def to_last(self) -> Float[np.ndarray, "steps seeds 3"]:
        """The change from every checkpoint to the last."""
        return self.change[:, -1]

    def pairs(
        self, ability: Float[np.ndarray, "steps seeds"], start: int = 0
    ) -> Float[np.ndarray, "3 pairs seeds"]:
        """Gaps of steps, of parameters (mean absolute) and of an ability, for pairs of checkpoints.

        Args:
            ability: one number for each checkpoint and seed.
            start: leave out checkpoints of fewer steps.
        """
        late = [i for i, steps in enumerate(self.steps) if steps >= start]
        rows = []
        for i, j in combinations(late, 2):
            gap = np.full(ability.shape[1], float(self.steps[j] - self.steps[i]))
            rows.append([gap, self.change[i, j, :, 0], np.abs(ability[j] - ability[i])])
        return np.array(rows).transpose(1, 0, 2)

    def first_step(self, task: str, level: float = 0.8) -> Float[np.ndarray, " seeds"]:
        """Steps of the first checkpoint with that accuracy; infinite if there is none."""
        reached = self.of(task) >= level
        return np.where(reached.any(0), np.array(self.steps)[reached.argmax(0)], np.inf)

    def summary(self) -> str:
        """Accuracies with the most demonstrations, seed by seed."""
        lines = [f"steps {self.steps}; each seed: accuracy with {self.accuracy.shape[-1] - 1}"]
        for task in ABILITIES:
            rows = "   ".join(_row(row, 2) for row in self.of(task).T)
            lines.append(f"  {task:22} {rows}")
        names = ("mean absolute", "relative", "cosine")
        for i, name in enumerate(names):
            rows = "   ".join(_row(row, 3) for row in self.to_last()[..., i].T)
            lines.append(f"  {name:22} {rows}")
        for task, rows in zip(NAMES, self.control, strict=False):
            shown = "   ".join(_row(row, 2) for row in rows)
            lines.append(f"  incoherent, {task:10} {shown}")
        return "\n".join(lines)


def _abilities(config: WeightsAndAbilityConfig, models: list[nn.Module]) -> Tensor:
    """``[abilities, seeds, 2, n + 1]``."""
    cells = []
    for task in ABILITIES:
        row = []
        for seed, model in zip(config.seeds, models, strict=True):
            draw = seeded(PROMPT_SEED + seed)
            found = ability(model, task, config.n, config.n_prompts, generator=draw)
            row.append(torch.stack(found))
        cells.append(torch.stack(row))
    return torch.stack(cells)


def _chosen(config: WeightsAndAbilityConfig, training: CourseLMTraining, models) -> list[nn.Module]:
    return [models[training.seeds.index(seed)] for seed in config.seeds]


def _summed(state: State, config: WeightsAndAbilityConfig) -> dict[str, float]:
    """The mean of the stored figures, and one cell of them made again."""
    model = checkpoints(course_weights(config.training), config.training)[config.training.steps][
        config.training.seeds.index(config.seeds[0])
    ]
    draw = seeded(PROMPT_SEED + config.seeds[0])
    with one_thread():
        again = ability(model, ABILITIES[0], config.n, config.n_prompts, generator=draw)
    return {
        "mean accuracy": state["accuracy"][..., 0, :].mean().item(),
        "mean accuracy of the control": state["control"][..., 0, :].mean().item(),
        f"accuracy on {ABILITIES[0]} again": again.accuracy.mean().item(),
    }


@recipe("weights_and_ability", config=WeightsAndAbilityConfig(), measure=_summed)
def ability_measures(config: WeightsAndAbilityConfig) -> State:
    """``accuracy`` ``[steps, abilities, seeds, 2, n + 1]``, and ``control`` without the steps.

    Of the two, the first is over the whole vocabulary, the second among the task's labels.
    """
    kept = checkpoints(course_weights(config.training), config.training)
    control = checkpoints(incoherent_weights(config.control), config.control)
    last = control[config.control.steps]
    with one_thread():
        rows = [
            _abilities(config, _chosen(config, config.training, models)) for models in kept.values()
        ]
        without = _abilities(config, _chosen(config, config.control, last))
    return {"accuracy": torch.stack(rows).float(), "control": without.float()}


@experiment(
    "weights_and_ability",
    paper="shen2024pretrained",
    chapter="language_models/gradient_descent",
    configs={
        Scale.LESSON: WeightsAndAbilityConfig(),
        Scale.PAPER: WeightsAndAbilityConfig(n_prompts=1000),
    },
    figure=figures.weights_and_ability,
)
def weights_and_ability(config: WeightsAndAbilityConfig) -> WeightsAndAbilityResult:
    """What emerges when, and what the weights do meanwhile, checkpoint by checkpoint.

    The paper looks at GPT-J between 310 000 and 380 000 steps, whose weights are not on the hub;
    the larger scale here asks CourseLM with more prompts.
    """
    kept = checkpoints(course_weights(config.training), config.training)
    flat = [
        [[m for p in _matrices(model)[0] for m in p[:3]]
         for model in _chosen(config, config.training, models)]
        for models in kept.values()
    ]  # fmt: skip
    change = [
        [[parameter_change(a, b) for a, b in zip(one, two, strict=True)] for two in flat]
        for one in flat
    ]
    state = {name: part.double().numpy() for name, part in ability_measures(config).items()}
    return WeightsAndAbilityResult(
        steps=tuple(kept),
        accuracy=state["accuracy"][..., 0, :],
        among_labels=state["accuracy"][..., 1, :],
        control=state["control"][..., 0, :],
        control_among_labels=state["control"][..., 1, :],
        change=np.array(change),
    )
