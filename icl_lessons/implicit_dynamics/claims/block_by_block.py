"""What is claimed of updates at every position and in every block, each claim with a check."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, error_size, passed, result_of, words
from icl_lessons.implicit_dynamics.block_by_block import (
    last_with_others,
    pairs,
    reference_update,
    run_updated,
    run_visible,
    stack_streams,
    stack_update,
    updates_at,
)
from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    block_output,
)
from icl_lessons.implicit_dynamics.experiments.block_by_block import BlockByBlockResult
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update, updated_output
from icl_lessons.implicit_dynamics.scale_update import (
    NormedGatedBlock,
    run_rescaled,
    scale_updates,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.runtime import Scale, seeded

PAGE = "implicit_dynamics/token_by_token"
PAPER = "innocenti2025simple"
OURS = "the measurement is ours"
FORMS = [
    {"attention": attention, "norm": norm, "norm_place": place, "gated": gated}
    for attention, (norm, place), gated in itertools.product(
        ("softmax", "linear"),
        ((None, "pre"), ("layer", "pre"), ("rms", "pre"), ("layer", "post"), ("rms", "post")),
        (False, True),
    )
]


class Case(NamedTuple):
    """A stack of random size with a sequence of random tokens in float64."""

    blocks: list[AttentionBlock]
    tokens: Tensor
    generator: torch.Generator

    @property
    def n(self) -> int:
        """The position of the last token, the query."""
        return self.tokens.shape[1] - 1

    def integer(self, high: int) -> int:
        """From 0 to below ``high``."""
        return int(torch.randint(high, (), generator=self.generator))


def _cases(*, seed: int, layers: int = 4) -> Iterator[Case]:
    """One for each form of block; up to ``layers`` blocks and 7 tokens."""
    g = seeded(seed)
    for form in FORMS:
        width, hidden, depth, n = (
            int(torch.randint(2, k, (), generator=g)) for k in (9, 12, layers + 1, 8)
        )
        config = AttentionBlockConfig(width=width, hidden=hidden, head_width=3, **form)
        blocks = [AttentionBlock(config, generator=g).requires_grad_(False) for _ in range(depth)]
        yield Case(blocks, torch.randn(3, n, width, generator=g, dtype=torch.float64), g)


def _identity(name: str, says: str, *, where: str, paper: str = PAPER, key: str = "innocenti2025"):
    return claim(
        f"{key}-{name}", paper=paper, where=where, kind="identity", says=says, chapter=PAGE
    )


def _worst(errors: list[float], note: str, bound: float = 1e-12) -> Evidence:
    return Evidence(measured=max(errors), bound=bound, unit=RELATIVE_ERROR, note=note)


@_identity(
    "stack",
    "One rank-one update and one added vector for each block take the context's place in a stack.",
    where="the induction over blocks",
)
def stack(scale: Scale) -> Evidence:
    errors = []
    for blocks, tokens, _ in _cases(seed=1211):
        changes = stack_update(blocks, tokens[:, :-1], tokens[:, -1])
        got = run_updated(blocks, changes, tokens[:, -1])
        errors.append(relative_error(got, stack_streams(blocks, tokens)[:, :, -1]))
    return _worst(
        errors,
        f"{len(errors)} stacks of 2 to 4 blocks, one of each form: softmax and linear attention, "
        "no norm, layer norm or RMS before or after, plain and gated; every stream compared.",
    )


@_identity(
    "any-position",
    "A block with the update of a position makes of one reference token what it made there.",
    where="the updates of every position",
)
def any_position(scale: Scale) -> Evidence:
    errors = []
    for case in _cases(seed=1212):
        streams = stack_streams(case.blocks, case.tokens)
        nothing = case.tokens[:, :0]
        for layer, block in enumerate(case.blocks):
            below, position = streams[:, layer], case.integer(case.n + 1)
            causal = bool(case.integer(2))
            reference = below[:, case.n]
            update = reference_update(block, below, position, reference, causal=causal)
            seen = [i for i in range(case.n + 1) if i < position or (i > position and not causal)]
            expected = block_output(block, below[:, seen], below[:, position])
            errors.append(
                relative_error(updated_output(block, update, nothing, reference), expected)
            )
    return _worst(errors, "A random position in every block of 20 stacks, causal or not; the "
                  "query is the reference.")  # fmt: skip


@_identity(
    "query-position",
    "At the query's own position the update of any position is Dherin et al.'s.",
    where="the updates of every position, at the last",
)
def query_position(scale: Scale) -> Evidence:
    errors = []
    for case in _cases(seed=1213):
        block, query = case.blocks[0], case.tokens[:, -1]
        ours = reference_update(block, case.tokens, case.n, query)
        theirs = implicit_update(block, case.tokens[:, :-1], query)
        errors.append(relative_error(ours.weight, theirs.weight))
        errors.append(relative_error(ours.bias, theirs.bias))
    return _worst(errors, "Weight change and added vector of 20 blocks.")


@_identity(
    "rank-of-sum",
    "The updates of all positions share the reference's direction: their sum has rank one.",
    where="the rank of the sum of updates",
)
def rank_of_sum(scale: Scale) -> Evidence:
    ratios = []
    for case in _cases(seed=1214):
        query = case.tokens[:, -1]
        updates = [
            reference_update(case.blocks[0], case.tokens, i, query) for i in range(case.n + 1)
        ]
        values = torch.linalg.svdvals(sum(update.weight for update in updates))
        ratios.append((values[:, 1] / values[:, 0]).max().item())
    return Evidence(
        measured=max(ratios),
        bound=1e-12,
        unit="second singular value over the first, float64",
        note="20 blocks. So the rank says nothing about what the positions have in common; it "
        "would with another reference for each.",
    )


@_identity(
    "tokens-left",
    "Tokens may stay visible in a stack if each keeps the updates of its own position.",
    where="the induction over blocks, at every position",
)
def tokens_left(scale: Scale) -> Evidence:
    errors = []
    for case in _cases(seed=1215):
        streams = stack_streams(case.blocks, case.tokens)
        kept = 1 + case.integer(case.n)
        changes = [
            updates_at(case.blocks, streams, i, range(kept)) for i in range(kept, case.n + 1)
        ]
        got = run_visible(case.blocks, changes, case.tokens[:, kept:])
        errors.append(relative_error(got, streams[:, :, kept:]))
    return _worst(errors, "A random share of the sequence removed from the front of 20 stacks.")


@_identity(
    "stack",
    "Gated blocks without biases: four in a row need no context with two rank-one updates and "
    "changed scales in each.",
    where="the claim for whole models; the construction re-derived",
    paper="goldwaser2025equivalence",
    key="goldwaser2025",
)
def gated_stack(scale: Scale) -> Evidence:
    g, errors, sizes = seeded(1216), [], []
    for _ in range(20):
        width, hidden, n = (int(torch.randint(2, k, (), generator=g)) for k in (9, 12, 7))
        blocks = [
            NormedGatedBlock(width, hidden, generator=g).requires_grad_(False) for _ in range(4)
        ]
        tokens = torch.randn(3, n + 1, width, generator=g, dtype=torch.float64)
        changes, expected = scale_updates(blocks, tokens[:, :-1], tokens[:, -1])
        errors.append(relative_error(run_rescaled(blocks, changes, tokens[:, -1]), expected))
        sizes += [
            (change.scales.norm(dim=-1) / block.scales[3].norm()).median().item()
            for block, change in zip(blocks, changes, strict=True)
        ]
    note = f"20 stacks; the scales change by {np.median(sizes):.1f} of their size in the median."
    return _worst(errors, note, bound=1e-10)


# --- trained stacks, beside the same stacks before training -------------------------------------


def _experiment(name: str, says: str, *, where: str = OURS, key: str = "innocenti2025",
                paper: str = PAPER):  # fmt: skip
    return claim(
        f"{key}-{name}", paper=paper, where=where, kind="experiment", says=says, chapter=PAGE
    )


def _result(scale: Scale) -> BlockByBlockResult:
    return result_of("block_by_block", scale)


@_experiment(
    "float-noise",
    "Theory and the output of a trained stack differ by the noise of float32.",
    where="the plots of the squared difference",
)
def float_noise(scale: Scale) -> Evidence:
    trained = _result(scale).trained
    return Evidence(
        measured=trained.squared_single.max(),
        bound=1e-10,
        unit="mean squared difference of what leaves the last block, float32",
        samples=passed(trained.squared_single <= 1e-10),
        note="In float64 the largest relative error of any stream is "
        f"{error_size(trained.residual.max())}, in float32 "
        f"{error_size(trained.residual_single.max())}.",
    )


@_experiment(
    "high-alignment",
    "The updates of different tokens are highly aligned.",
    where="the alignment between positions",
)
def high_alignment(scale: Scale) -> Evidence:
    result = _result(scale)
    trained, untrained = (
        pairs(m.to_query[..., :-1, :-1]).mean(1) for m in (result.trained, result.untrained)
    )
    return Evidence(
        measured=trained.mean(),
        bound=0.75,
        comparison="at least",
        unit="alignment of two examples' updates relative to the query, mean over blocks",
        samples=passed(trained >= 0.75),
        note="Half way from independent tokens, 1/2, to equal ones. Seeds: "
        f"{words(trained)}; before training {words(untrained)}.",
    )


@_experiment(
    "alignment-is-the-context",
    "The alignment of the tokens' updates comes from the context.",
    where="the alignment between positions; " + OURS,
    key="survey",
)
def alignment_is_the_context(scale: Scale) -> Evidence:
    trained = _result(scale).trained
    gained = (pairs(trained.to_query[..., :-1, :-1]) - pairs(trained.tokens_alone)).mean(1)
    return Evidence(
        measured=gained.mean(),
        bound=0.1,
        comparison="at least",
        unit="alignment of two examples' updates, less that of the same tokens without context",
        samples=passed(gained >= 0.1),
        note=f"Seeds: {words(gained)}. All updates hold minus the same reference token; that is "
        "what they share, and it is there without any context.",
    )


@_experiment(
    "last-token-outlier",
    "The query's update is an outlier among those of the tokens.",
    where="the alignment between positions, last token",
)
def last_token_outlier(scale: Scale) -> Evidence:
    result = _result(scale)
    gaps = [
        (pairs(m.to_query[..., :-1, :-1]) - last_with_others(m.to_query)).mean(1)
        for m in (result.trained, result.untrained)
    ]
    return Evidence(
        measured=gaps[0].mean(),
        bound=0.2,
        comparison="at least",
        unit="alignment of two examples less that of the query with an example, mean over blocks",
        samples=passed(gaps[0] >= 0.2),
        note=f"Seeds: {words(gaps[0])}; before training {words(gaps[1])}.",
    )


@_experiment(
    "outlier-is-the-reference",
    "The query is an outlier because it is the reference: relative to another token it is not.",
    key="survey",
)
def outlier_is_the_reference(scale: Scale) -> Evidence:
    result = _result(scale)
    gaps = [
        (pairs(m.to_first[..., :-1, :-1]) - last_with_others(m.to_first)).mean(1)
        for m in (result.trained, result.untrained)
    ]
    return Evidence(
        measured=np.abs(gaps[0]).max(),
        bound=0.1,
        unit="the same difference relative to the first example, largest of the seeds",
        samples=passed(np.abs(gaps[0]) <= 0.1),
        note=f"Seeds: {words(gaps[0])}; before training {words(gaps[1])}.",
    )


@_experiment(
    "blocks-unaligned",
    "The updates of different blocks have no direction in common.",
    key="survey",
)
def blocks_unaligned(scale: Scale) -> Evidence:
    result = _result(scale)
    largest = [
        np.abs(m.blocks - np.eye(m.blocks.shape[-1])).max((1, 2))
        for m in (result.trained, result.untrained)
    ]
    return Evidence(
        measured=largest[0].max(),
        bound=0.1,
        unit="largest mean alignment of the query's updates in two blocks",
        samples=passed(largest[0] <= 0.1),
        note=f"Seeds: {words(largest[0])}; before training {words(largest[1])}. Blocks have bases "
        "of hidden units of their own; nothing would make them agree.",
    )


def _slopes(scale: Scale, group: str) -> Evidence:
    measures = getattr(_result(scale), group)
    whole, fixed = (
        measures.slopes(increments)
        for increments in (measures.increments, measures.increments_fixed)
    )
    off = np.abs(whole + 1)
    return Evidence(
        measured=off.max(),
        bound=0.25,
        unit="largest distance of the slope of log increment on log token from -1, of all blocks",
        samples=passed(off <= 0.25),
        note=f"Means over seeds, blocks from below: {words(whole.mean(0))}; with the query's "
        f"stream below each block held fixed {words(fixed.mean(0))}.",
    )


@_experiment(
    "deeper-increments",
    "In every block of a trained stack, token i moves the update by an amount of order 1/i.",
    where="Figure 2, there of one block; " + OURS,
    paper="dherin2025learning",
    key="survey",
)
def deeper_increments(scale: Scale) -> Evidence:
    return _slopes(scale, "trained")


@_experiment(
    "deeper-increments-untrained",
    "In every block of a stack that was never trained it does so as well.",
    where="Figure 2, there of one trained block; " + OURS,
    paper="dherin2025learning",
    key="survey",
)
def deeper_increments_untrained(scale: Scale) -> Evidence:
    return _slopes(scale, "untrained")
