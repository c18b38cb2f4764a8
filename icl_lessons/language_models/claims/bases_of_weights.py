"""What is claimed of the construction's zeros, of bases that hide them, and of ranks, exactly."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence
from icl_lessons.language_models.claims.weights_and_ability import OWN, shen_claim
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

CASES = 10


def _drawn(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


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
