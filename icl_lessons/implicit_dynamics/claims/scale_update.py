"""What is claimed of blocks without biases: the context as a change of a norm's scales."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed
from icl_lessons.implicit_dynamics.claims.rank_one_update import CASES, GOLDWASER, PAGE
from icl_lessons.implicit_dynamics.contextual_blocks import block_output
from icl_lessons.implicit_dynamics.rank_one_update import without
from icl_lessons.implicit_dynamics.scale_update import (
    NormedGatedBlock,
    rescaled_output,
    scale_update,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.runtime import Scale, seeded

BLOCKS = f"{CASES} blocks of random shape and weights with four RMS norms and no bias."


def _cases(seed: int) -> Iterator[tuple[NormedGatedBlock, Tensor, Tensor, torch.Generator]]:
    """Blocks of random size, two contexts for each and a query after each context."""
    g = seeded(seed)
    for _ in range(CASES):
        width, hidden, n = (int(torch.randint(2, k, (), generator=g)) for k in (9, 13, 9))
        block = NormedGatedBlock(width, hidden, generator=g).requires_grad_(False)
        tokens = torch.randn(2, n + 1, width, generator=g, dtype=torch.float64)
        yield block, tokens[:, :-1], tokens[:, -1], g


def _worst(check: Callable[..., float], *, seed: int, bound: float = 1e-12) -> Evidence:
    worst = max(check(*case) for case in _cases(seed))
    return Evidence(measured=worst, bound=bound, unit=RELATIVE_ERROR, note=BLOCKS)


def _claim(name: str, says: str, *, kind: str = "identity", where: str = "abstract"):
    own = "survey-scales" if where.startswith("not in") else "goldwaser2025"
    return claim(
        f"{own}-{name}", paper=GOLDWASER, where=where, kind=kind, says=says, chapter=PAGE
    )  # fmt: skip


@_claim(
    "scales-for-a-bias",
    "A block without biases can take in its context: rank-one changes of gate and value, and a "
    "change of the last norm's scales.",
)
def scales_for_a_bias(scale: Scale) -> Evidence:
    def check(block, context, query, _) -> float:
        changes = scale_update(block, context, query)
        got = rescaled_output(block, changes, context[:, :0], query)
        return relative_error(got, block_output(block, context, query))

    return _worst(check, seed=760)


@_claim("scales-any-part", "So it can any part of its context.")
def scales_any_part(scale: Scale) -> Evidence:
    def check(block, context, query, g) -> float:
        n = context.shape[1]
        removed = torch.randperm(n, generator=g)[: int(torch.randint(0, n + 1, (), generator=g))]
        changes = scale_update(block, context, query, removed.tolist())
        got = rescaled_output(block, changes, without(context, removed.tolist()), query)
        return relative_error(got, block_output(block, context, query))

    return _worst(check, seed=761)


@_claim(
    "one-right-vector",
    "Gate and value share the right vector of their changes: each is the matrix times the same "
    "matrix of rank one.",
)
def one_right_vector(scale: Scale) -> Evidence:
    def check(block, context, query, _) -> float:
        update = scale_update(block, context, query).update
        full, alone = (block.read(c, query).dense_input for c in (context, context[:, :0]))
        shared = (full - alone)[:, :, None] * alone[:, None] / alone.square().sum(-1)[:, None, None]
        gate, value = block.dense_weight.chunk(2)
        return relative_error(update.weight, torch.cat([gate @ shared, value @ shared], 1))

    return _worst(check, seed=762)


@_claim(
    "small-change",
    "The change of the scales is small beside the scales.",
    kind="dispute",
    where="not in the paper; about its construction",
)
def small_change(scale: Scale) -> Evidence:
    block = NormedGatedBlock(16, 32, generator=seeded(764)).requires_grad_(False)
    tokens = torch.randn(200, 6, 16, generator=seeded(765), dtype=torch.float64)
    changes = scale_update(block, tokens[:, :-1], tokens[:, -1])
    share = changes.scales.norm(dim=-1) / block.scales[3].norm()
    low, high = share.quantile(share.new_tensor([0.05, 0.95])).tolist()
    return Evidence(
        measured=share.median().item(),
        bound=0.1,
        unit="size of the change over that of the scales, median of 200 contexts",
        samples=passed(share <= 0.1),
        note=f"Nine of ten are from {low:.2g} to {high:.2g}: small entries of the MLP's output are "
        "divided by. The change of gate and value is "
        f"{changes.update.relative_size.median():.2g} of theirs.",
    )


@_claim(
    "nothing-to-scale",
    "Where an entry of the MLP's output is 0 no scale can do it.",
    where="not in the paper; about its construction",
)
def nothing_to_scale(scale: Scale) -> Evidence:
    def check(block, context, query, g) -> float:
        entry = int(torch.randint(0, query.shape[1], (), generator=g))
        block.write[entry] = 0
        try:
            scale_update(block, context, query)
        except ValueError:
            pass
        else:
            return float("inf")  # a change was made up where there is none
        nothing = context[:, :0]
        before = block_output(block, nothing, query)
        block.scales[3][entry] += 7.0
        return relative_error(block_output(block, nothing, query), before)

    return _worst(check, seed=766)
