"""What is claimed of sparse and exact weights, and of abilities while weights move."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.language_models.weights_and_ability import (
    Projections,
    construction,
    head_products,
    projections,
    rescaled,
    rotated,
    rotations,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.measures.weights import sparsity_of_construction, sparsity_ratio
from icl_lessons.models.attention import context_mask, linear_attention
from icl_lessons.models.sequence import SequenceTransformer, SequenceTransformerConfig
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.attribute_text import NAMES

PAPER, PAGE = "shen2024pretrained", "language_models/gradient_descent"
SPARSE, DRIFT = "section 3.2, figures 2 and 10", "section 3.2, figures 3 and 9"
OWN = "not in the paper; "
CASES = 10


def shen_claim(name: str, says: str, *, where: str, kind: str = "experiment"):
    """Declare a claim about the assumptions that Shen et al. name."""
    return claim(f"shen2024-{name}", paper=PAPER, where=where, kind=kind, says=says, chapter=PAGE)


def _drawn(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


# --- changes of basis -----------------------------------------------------------------------------


def _models(seed: int) -> Iterator[tuple[SequenceTransformer, Tensor, torch.Generator]]:
    """Transformers of random shape in float64 with all parameters drawn, and tokens for them."""
    g = seeded(seed)
    for _ in range(CASES):
        heads = _drawn(1, 4, g)
        shape = SequenceTransformerConfig(
            vocabulary=11,
            width=heads * _drawn(2, 6, g),
            layers=_drawn(1, 3, g),
            heads=heads,
            positions=("alibi", "learned", None)[_drawn(0, 2, g)],
        )
        model = SequenceTransformer(shape, generator=g).double().requires_grad_(False)
        tokens = torch.randint(11, (3, _drawn(2, 12, g)), generator=g)
        yield model, tokens, g


def _small(model: SequenceTransformer, threshold: float) -> float:
    return sparsity_ratio(torch.cat([m.flatten() for m in projections(model, 0)[:3]]), threshold)


@shen_claim(
    "rescaled-heads",
    "Queries times c and keys over c leave every answer as it is; the share of small weights "
    "follows c.",
    where=OWN + "about section 3.2",
    kind="identity",
)
def rescaled_heads(scale: Scale) -> Evidence:
    worst, shares = 0.0, []
    for model, tokens, g in _models(900):
        factor = 10.0 ** (4 * torch.rand((), generator=g).item() - 2)
        changed = rescaled(model, factor)
        worst = max(worst, relative_error(changed(tokens), model(tokens)))
        largest = rescaled(model, 1e-6)
        worst = max(worst, relative_error(largest(tokens), model(tokens)))
        shares.append([_small(model, 1e-2), _small(largest, 1e-2)])
    before, after = np.mean(shares, 0)
    return Evidence(
        measured=worst if after > before + 0.2 else float("inf"),
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note=f"{CASES} random transformers, c from 0.01 to 100 and one millionth. The latter takes "
        f"the share of entries below 0.01 from {before:.2f} to {after:.2f}: all queries count as "
        "zeros, and no answer changes.",
    )


@shen_claim(
    "rotated-heads",
    "A rotation inside each head leaves every answer as it is.",
    where=OWN + "about section 3.2",
    kind="identity",
)
def rotated_heads(scale: Scale) -> Evidence:
    worst = 0.0
    for model, tokens, g in _models(901):
        changed = rotated(model, generator=g)
        if torch.equal(projections(changed, 0).query, projections(model, 0).query):
            worst = float("inf")
        worst = max(worst, relative_error(changed(tokens), model(tokens)))
        before, after = (head_products(projections(m, 0), m.config.heads) for m in (model, changed))
        worst = max(worst, *map(relative_error, after, before))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note=f"{CASES} random transformers; the products of each head are left as they are too. "
        "Rotary positions would not allow it.",
    )


def _step(weights: Projections, tokens: Tensor) -> Tensor:
    """The query token after one head of linear attention over the others."""
    mask = context_mask(tokens.shape[1] - 1)
    return linear_attention(tokens, *(m[None] for m in weights), mask)[:, -1]


def _constructions(seed: int) -> Iterator[tuple[Projections, Tensor, Tensor, Tensor]]:
    """The construction at random sizes, tokens with a query at the end, ``W_0`` and the rate."""
    g = seeded(seed)
    for _ in range(CASES):
        n_x, n_y, n = _drawn(2, 12, g), _drawn(1, 6, g), _drawn(1, 10, g)
        reference = torch.randn(n_y, n_x, generator=g, dtype=torch.float64)
        rate = torch.rand((), generator=g, dtype=torch.float64) + 0.1
        tokens = torch.randn(2, n + 1, n_x + n_y, generator=g, dtype=torch.float64)
        yield construction(reference, rate.item(), n), tokens, reference, rate


@shen_claim(
    "dense-construction",
    "The construction with its queries, keys and values rotated takes the same step of gradient "
    "descent, and no entry that acts is 0.",
    where=OWN + "about section 3.2",
    kind="identity",
)
def dense_construction(scale: Scale) -> Evidence:
    worst, shares, g = 0.0, [], seeded(902)
    for weights, tokens, reference, rate in _constructions(903):
        n_y, n_x = reference.shape
        turn, other = rotations(2, n_x + n_y, generator=g)
        dense = Projections(
            turn @ weights.query, turn @ weights.key, other @ weights.value,
            weights.output @ other.mT,
        )  # fmt: skip
        xs, ys = tokens[:, :-1, :n_x], tokens[:, :-1, n_x:]
        errors = xs @ reference.mT - ys
        change = -rate / xs.shape[1] * errors.mT @ xs
        expected = tokens[:, -1].clone()
        # The query's last coordinates hold minus its prediction, as in proposition 1.
        expected[:, n_x:] -= (change @ tokens[:, -1, :n_x, None])[..., 0]
        for form in (weights, dense):
            worst = max(worst, relative_error(_step(form, tokens), expected))
        acting = dense.query[:, :n_x], dense.key[:, :n_x], dense.value
        shares.append([
            np.mean([sparsity_ratio(m, 1e-9) for m in weights[:3]]),
            max(sparsity_ratio(m, 1e-9) for m in acting),
        ])  # fmt: skip
    before, after = np.array(shares).T
    return Evidence(
        measured=worst if after.max() == 0 else float("inf"),
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note=f"{CASES} sizes; against the step written out. Zeros before: {before.min():.2f} to "
        f"{before.max():.2f} of all entries; after: none, but for the columns of keys and queries "
        "that belong to y, which nothing reads.",
    )


@shen_claim(
    "sparsity-of-construction",
    "In the construction 1 - N_x / d^2 of the entries of keys and of queries are 0, and "
    "1 - (N_x N_y + N_y) / d^2 of those of values.",
    where="section 3.2",
    kind="identity",
)
def sparsity_in_closed_form(scale: Scale) -> Evidence:
    worst = 0.0
    for weights, _, reference, _ in _constructions(904):
        n_y, n_x = reference.shape
        starts = (weights, construction(torch.zeros_like(reference), 1.0, 1))
        for form, zero in zip(starts, (False, True), strict=True):
            told = sparsity_of_construction(n_x, n_y, zero_start=zero)
            for name in ("query", "key", "value"):
                counted = sparsity_ratio(getattr(form, name), 1e-12)
                worst = max(worst, abs(counted - told[name]))
    large = sparsity_of_construction(4095, 1)["key"]
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit="largest difference of a share counted from the share in closed form",
        note=f"{CASES} sizes, W_0 drawn or 0. With one target {large:.6f} for LLaMA-7B's 4096 "
        "coordinates.",
    )


@shen_claim(
    "ranks-of-construction",
    "What no change of basis hides is the rank: in the construction W_K^T W_Q has rank N_x and "
    "W_O W_V rank N_y.",
    where=OWN + "about section 3.2",
    kind="identity",
)
def ranks_of_construction(scale: Scale) -> Evidence:
    worst, g = 0, seeded(905)
    for weights, _, reference, _ in _constructions(906):
        turn, other = rotations(2, len(weights.query), generator=g)
        dense = Projections(
            turn @ weights.query, turn @ weights.key, other @ weights.value,
            weights.output @ other.mT,
        )  # fmt: skip
        for form in (weights, dense):
            ranks = [int(torch.linalg.matrix_rank(m)) for m in head_products(form, 1)]
            n_y, n_x = reference.shape
            worst = max(worst, abs(ranks[0] - n_x), abs(ranks[1] - n_y))
    return Evidence(
        measured=worst,
        bound=0,
        unit="largest difference of a rank from the one claimed",
        note=f"{CASES} sizes, sparse and rotated.",
    )


# --- trained weights ------------------------------------------------------------------------------


def _sparsity(scale: Scale):
    return result_of("weight_sparsity", scale)


@shen_claim(
    "weights-not-sparse",
    "Trained weights have far fewer small entries than the construction has zeros.",
    where=SPARSE,
)
def weights_not_sparse(scale: Scale) -> Evidence:
    result = _sparsity(scale)
    shares = result.ratio[result.trained, ..., 0]  # [seeds, layers, 3]
    worst = shares.max((1, 2))
    return Evidence(
        measured=worst.max().item(),
        bound=0.1,
        unit=f"share of entries below {result.thresholds[0]:g}, largest of all matrices and seeds",
        samples=passed(worst <= 0.1),
        note=f"In the construction of this width {result.construction[0]:.3f}. Below "
        f"{result.thresholds[1]:g}: {result.ratio[result.trained, ..., 1].max():.2f} at most. The "
        "paper's threshold and figures cannot be read from its text.",
    )


@shen_claim(
    "sparsity-says-little",
    "The share of small entries is the same before training, after it and in a Gaussian matrix.",
    where=OWN + "control of figure 2",
)
def sparsity_says_little(scale: Scale) -> Evidence:
    result = _sparsity(scale)
    trained = result.ratio[result.trained]
    gaps = [np.abs(trained - result.ratio[stage]).max((1, 2, 3)) for stage in (0, -1)]
    return Evidence(
        measured=np.max(gaps).item(),
        bound=0.02,
        unit="largest difference of a share, both thresholds, all matrices, layers and seeds",
        samples=passed(np.max(gaps, 0) <= 0.02),
        note="Means below "
        + ", ".join(
            f"{t:g}: trained {trained[..., i].mean():.4f}, at the start "
            f"{result.ratio[0, ..., i].mean():.4f}, Gaussian {result.ratio[-1, ..., i].mean():.4f}"
            for i, t in enumerate(result.thresholds)
        )
        + ". Whatever in-context learning rests on, these shares do not show it.",
    )


@shen_claim(
    "ranks-fall",
    "Training lowers the effective rank of every kind of matrix by a quarter or more.",
    where=OWN + "control of figure 2",
)
def ranks_fall(scale: Scale) -> Evidence:
    result = _sparsity(scale)
    left = (result.rank[result.trained] / result.rank[0]).mean(1)  # [seeds, kinds]
    first, last = result.ranks(0), result.ranks(result.trained)
    return Evidence(
        measured=left.max().item(),
        bound=0.75,
        unit="effective rank after training over that before, mean of layers, largest of "
        "kinds and seeds",
        samples=passed(left.max(1) <= 0.75),
        note="Queries, keys, values, W_K^T W_Q and W_O W_V of a head: from "
        + ", ".join(f"{v:.1f}" for v in first)
        + " to "
        + ", ".join(f"{v:.1f}" for v in last)
        + ".",
    )


# --- abilities while weights move -----------------------------------------------------------------


def _abilities(scale: Scale):
    return result_of("weights_and_ability", scale)


@shen_claim(
    "ability-stays",
    "Accuracy with right labels stays while the weights move by much.",
    where=DRIFT,
)
def ability_stays(scale: Scale) -> Evidence:
    result = _abilities(scale)
    late = result.steps.index(1000)
    canonical = result.canonical()[late:]
    gap = canonical.max(0) - canonical.min(0)
    moved = result.to_last()[late, :, 1]
    return Evidence(
        measured=gap.max().item(),
        bound=0.1,
        unit="largest less least mean accuracy of four attributes from step 1000 on, worst seed",
        samples=passed((gap <= 0.1) & (moved >= 0.2)),
        note=f"Meanwhile the weights of attention move by {words(moved)} of their size.",
    )


@shen_claim(
    "pairs-of-checkpoints",
    "Two checkpoints differ in their weights and not in what they do in context.",
    where="appendix B, figure 9",
)
def pairs_of_checkpoints(scale: Scale) -> Evidence:
    result = _abilities(scale)
    worst, told = [], []
    for name in NAMES:
        _, parameters, gap = result.pairs(result.of(name), 1000)
        worst.append(gap.max(0))
        told.append(f"{name} {words(gap.max(0))}")
    worst = np.max(worst, 0)
    return Evidence(
        measured=worst.max().item(),
        bound=0.1,
        partial_bound=0.2,
        unit="largest gap of accuracy between two checkpoints from step 1000 on, any attribute",
        samples=passed(worst <= 0.1),
        note=f"Right labels, by seed: {'; '.join(told)}. Mean changes of an entry up to "
        f"{parameters.max():.3f}.",
    )


@shen_claim(
    "contrary-does-not-stay",
    "Another ability does not stay: over the same checkpoints the model begins to follow contrary "
    "labels.",
    where=OWN + "control of figure 3",
)
def contrary_does_not_stay(scale: Scale) -> Evidence:
    result = _abilities(scale)
    late, contrary = result.steps.index(1000), result.of("stance contrary")
    gained = contrary[-1] - contrary[late]
    left = result.to_last()[result.steps.index(2000), :, 1]
    return Evidence(
        measured=gained.min().item(),
        bound=0.5,
        comparison="at least",
        unit="accuracy on contrary stance at the end less after 1000 steps, least of the seeds",
        samples=passed(gained >= 0.5),
        note=f"By seed at {', '.join(map(str, result.steps[late:]))} steps: "
        + "; ".join(words(row) for row in contrary[late:].T)
        + f". After 2000 steps the weights still lie {words(left)} of their size from the last.",
    )


@shen_claim(
    "recognition-before-mapping",
    "A model recognises which attribute is meant before it takes the mapping from the "
    "demonstrations.",
    where=OWN + "what emerges when",
)
def recognition_first(scale: Scale) -> Evidence:
    result = _abilities(scale)
    right, contrary = (result.first_step(task) for task in ("stance", "stance contrary"))
    gap = contrary - right
    return Evidence(
        measured=gap.min().item(),
        bound=500,
        comparison="at least",
        unit="steps from the first checkpoint at 0.8 with right labels to the first with contrary "
        "ones, stance, least of the seeds",
        samples=passed(gap >= 500),
        note="Right labels by "
        + ", ".join(f"{s:.0f}" for s in right)
        + ", contrary by "
        + ", ".join(f"{s:.0f}" for s in contrary)
        + " steps.",
    )


@shen_claim(
    "labels-begin-to-matter",
    "Random labels in the demonstrations hurt a trained model just where it has acquired the "
    "contrary mapping.",
    where=OWN + "what emerges when",
)
def labels_begin_to_matter(scale: Scale) -> Evidence:
    result = _abilities(scale)
    acquired, hurt, early = [], [], []
    for name in NAMES:
        cost = result.of(name) - result.of(f"{name} random labels")
        acquired.append(result.of(f"{name} contrary")[-1] >= 0.8)
        hurt.append(cost[-1] >= 0.2)
        early.append(cost[result.steps.index(1000)])
    same = np.array(acquired) == np.array(hurt)
    return Evidence(
        measured=same.mean().item(),
        bound=1.0,
        comparison="at least",
        unit="share of attributes and seeds where both or neither hold, at the last checkpoint",
        samples=passed(same),
        note=f"Acquired: contrary accuracy 0.8; hurt: random labels cost 0.2. Both hold for "
        f"{int(np.sum(np.array(acquired) & np.array(hurt)))} of {same.size}. After 1000 steps "
        f"random labels cost {np.max(early):.2f} at most.",
    )


@shen_claim(
    "no-coherence-no-icl",
    "A corpus whose documents do not keep to one attribute gives a model that knows the attributes "
    "and does not learn in context which is meant.",
    where=OWN + "control of emergence",
)
def no_coherence_no_icl(scale: Scale) -> Evidence:
    result = _abilities(scale)
    rows = [NAMES.index("topic"), NAMES.index("mood")]
    gain = (result.control[rows, :, 1:].max(-1) - result.control[rows, :, 0]).max(0)
    knows = result.control_among_labels[rows, :, 0].min(0)
    course = result.accuracy[result.steps.index(1000)][rows, :, 1:].min((0, 2))
    return Evidence(
        measured=gain.max().item(),
        bound=0.15,
        unit="accuracy with demonstrations, best of 1 to 8, less that without, topic and mood, "
        "worst seed",
        samples=passed((gain <= 0.15) & (knows >= 0.9)),
        note=f"Among the labels alone it is right {words(knows)} of the time without "
        "demonstrations. CourseLM after as many steps has an accuracy of "
        f"{words(course)} or more on both from one demonstration on.",
    )
