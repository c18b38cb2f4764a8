"""What is claimed of a context as a rank-one update, layer type by layer type."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim
from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    TransformerBlock,
    block_output,
)
from icl_lessons.implicit_dynamics.rank_one_update import (
    implicit_update,
    joint_update,
    updated_output,
    without,
)
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import Scale, seeded

PAGE = "implicit_dynamics/weight_update"
DHERIN, INNOCENTI, GOLDWASER = (
    "dherin2025learning",
    "innocenti2025simple",
    "goldwaser2025equivalence",
)
THEOREM = "section 2, theorem 2.2"
BESIDE = "not in the paper; about theorem 2.2"
CASES = 20
BLOCKS = f"{CASES} blocks of random shape and weights, random contexts of 1 to 8 tokens."


class Case(NamedTuple):
    """A block of random shape in float64, two contexts for it with a query each."""

    block: AttentionBlock
    context: Tensor
    query: Tensor
    removed: list[int] | None
    generator: torch.Generator

    @property
    def kept(self) -> Tensor:
        """What is left of the context."""
        return without(self.context, self.removed)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)


def update_cases(
    count: int,
    *,
    seed: int,
    part: bool = False,
    sizes_of_context: tuple[float, ...] = (1e-3, 1.0, 1.0, 1e3),
    **shape,
) -> Iterator[Case]:
    """Blocks and contexts of random size.

    Args:
        part: remove a random part of the context, which may be none or all; otherwise all.
        sizes_of_context: of its tokens' coordinates, drawn for each case: the identity asks nothing
            of a context, so that some are tiny and some are huge.
        shape: fixes fields of the blocks' configuration.
    """
    g = seeded(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    for _ in range(count):
        sizes = {"width": draw(2, 8), "hidden": draw(2, 12), "heads": draw(1, 4), "head_width": 3}
        block = AttentionBlock(AttentionBlockConfig(**(sizes | shape)), generator=g)
        block.requires_grad_(False)
        n = draw(1, 8)
        tokens = torch.randn(2, n + 1, block.config.width, generator=g, dtype=torch.float64)
        scale = sizes_of_context[draw(0, len(sizes_of_context) - 1)]
        removed = torch.randperm(n, generator=g)[: draw(0, n)].tolist() if part else None
        yield Case(block, scale * tokens[:, :-1], tokens[:, -1], removed, g)


def identity_error(case: Case) -> float:
    """Of the changed block on what is left, against the block on the whole context."""
    update = implicit_update(case.block, case.context, case.query, case.removed)
    got = updated_output(case.block, update, case.kept, case.query)
    return relative_error(got, block_output(case.block, case.context, case.query))


def worst_case(
    check: Callable[[Case], float], *, seed: int, bound: float = 1e-12, note: str = "", **options
) -> Evidence:
    """Evidence of an identity: the largest error over :func:`update_cases`."""
    worst = max(check(case) for case in update_cases(CASES, seed=seed, **options))
    return Evidence(
        measured=worst, bound=bound, unit=RELATIVE_ERROR, note=f"{note} {BLOCKS}".strip()
    )


# --- the theorem for each layer type --------------------------------------------------------------

ATTENTION_ALONE = {"reads": "attention", "skip": False}
# Name, paper, where it stands, what is claimed, and the block's configuration.
LAYER_TYPES = (
    (
        "dherin2025-softmax-heads",
        DHERIN,
        THEOREM,
        "A context is worth a rank-one change of the matrix that reads softmax attention.",
        ATTENTION_ALONE,
    ),
    (
        "dherin2025-one-head",
        DHERIN,
        THEOREM,
        "The same for a single head of softmax attention.",
        {**ATTENTION_ALONE, "heads": 1},
    ),
    (
        "dherin2025-linear-attention",
        DHERIN,
        THEOREM,
        "The same for linear attention.",
        {**ATTENTION_ALONE, "attention": "linear"},
    ),
    (
        "dherin2025-skip",
        DHERIN,
        "appendix A",
        "With a skip connection around the MLP the output's bias changes as well, by what the "
        "context adds to attention.",
        {"reads": "attention", "skip": True},
    ),
    (
        "innocenti2025-residual-stream",
        INNOCENTI,
        "main result, without norm",
        "The same where the MLP reads the residual stream, as in a transformer.",
        {},
    ),
    (
        "innocenti2025-layer-norm",
        INNOCENTI,
        "main result, with norm",
        "The same in a block with layer norm before attention and MLP.",
        {"norm": "layer"},
    ),
    (
        "survey-update-rms-norm",
        INNOCENTI,
        "not in the paper; about its result with norm",
        "The same in a block with RMS norm before attention and MLP.",
        {"norm": "rms"},
    ),
    (
        "survey-update-layer-norm-after",
        INNOCENTI,
        "not in the paper; about its result with norm",
        "The same with layer norm after each sum, the changed bias inside the last.",
        {"norm": "layer", "norm_place": "post"},
    ),
    (
        "survey-update-rms-norm-after",
        INNOCENTI,
        "not in the paper; about its result with norm",
        "The same with RMS norm after each sum.",
        {"norm": "rms", "norm_place": "post"},
    ),
    (
        "goldwaser2025-gated",
        GOLDWASER,
        "abstract: gated layers",
        "In a gated MLP gate and value take one rank-one change each, with the same right vector.",
        {"norm": "rms", "gated": True},
    ),
)


def _declare_layer_type(i: int, name: str, paper: str, where: str, says: str, shape: dict) -> None:
    @claim(name, paper=paper, where=where, kind="identity", says=says, chapter=PAGE)
    def holds(scale: Scale) -> Evidence:
        return worst_case(identity_error, seed=700 + i, **shape)


for _i, _layer_type in enumerate(LAYER_TYPES):
    _declare_layer_type(_i, *_layer_type)


def _claim(name: str, says: str, *, where: str = THEOREM, kind: str = "identity"):
    own = "survey-update" if where == BESIDE else "dherin2025"
    return claim(
        f"{own}-{name}", paper=DHERIN, where=where, kind=kind, says=says, chapter=PAGE
    )  # fmt: skip


@_claim("any-part", "Any part of the context may be taken in, and the rest left as context.")
def any_part(scale: Scale) -> Evidence:
    checks = [
        worst_case(
            identity_error,
            seed=800 + i,
            part=True,
            note=f"The worst of {len(LAYER_TYPES)} types of layer, for each",
            **shape,
        )
        for i, (*_, shape) in enumerate(LAYER_TYPES)
    ]
    return max(checks, key=lambda evidence: evidence.measured)


@_claim("course-transformer", "The same for a block of this course's transformers.", where=BESIDE)
def course_transformer(scale: Scale) -> Evidence:
    shape = TransformerConfig(d=3, width=16, layers=4, heads=4)
    model = Transformer(shape, generator=seeded(723)).double().requires_grad_(False)
    tokens = torch.randn(8, 10, 16, generator=seeded(724), dtype=torch.float64)
    context, query, worst = tokens[:, :-1], tokens[:, -1], 0.0
    mask = torch.ones(10, 10, dtype=torch.bool).tril()
    for block in map(TransformerBlock, model.blocks):
        update = implicit_update(block, context, query)
        got = updated_output(block, update, context[:, :0], query)
        worst = max(worst, relative_error(got, block.block(tokens, mask)[:, -1]))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note="Against the output of the transformer's own blocks; four blocks, eight contexts.",
    )


# --- what the update is ---------------------------------------------------------------------------


@_claim("update-rank-one", "The change has rank one.")
def rank_one(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        weight = implicit_update(case.block, case.context, case.query).weight
        singular = torch.linalg.svdvals(weight)
        return (singular[:, 1] / singular[:, 0]).max().item()

    evidence = worst_case(check, seed=730)
    return Evidence(
        measured=evidence.measured,
        bound=1e-12,
        unit="second singular value over the first, float64",
        note=BLOCKS,
    )


@_claim("update-rank-zero", "Where no token is taken in, the change is 0.")
def rank_zero(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        update = implicit_update(case.block, case.context, case.query, [])
        return max(update.weight.abs().max().item(), update.bias.abs().max().item())

    return worst_case(check, seed=731)


@_claim("size", "Its size is |W d| / |a|: its one singular value.", where=BESIDE)
def size(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        block, query = case.block, case.query
        update = implicit_update(block, case.context, query)
        a = block.read(case.context[:, :0], query).dense_input
        d = block.read(case.context, query).dense_input - a
        expected = (d @ block.dense_weight.mT).norm(dim=-1) / a.norm(dim=-1)
        return relative_error(torch.linalg.svdvals(update.weight)[:, 0] / expected, a.new_ones(2))

    return worst_case(check, seed=732)


@_claim(
    "least-norm",
    "Of all changes of the matrix that do the same for the query, this is the smallest.",
    where=BESIDE,
)
def least_norm(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        block, query = case.block, case.query
        update = implicit_update(block, case.context, query)
        a = block.read(case.context[:, :0], query).dense_input
        d = block.read(case.context, query).dense_input - a
        pinv = torch.linalg.pinv(a[:, :, None])
        return relative_error(update.weight, (d @ block.dense_weight.mT)[:, :, None] * pinv)

    return worst_case(check, seed=733, note="Against the pseudo-inverse, the least-norm solution.")


@_claim(
    "alone-is-linear",
    "A token alone is read linearly: with one token to attend to, softmax attention is a matrix.",
    where="section 2, definition of A(x)",
)
def alone_is_linear(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        block, other = case.block, case.normal(*case.query.shape)
        nothing = case.context[:, :0]
        matrix = torch.einsum("hok,hkw->ow", block.projection, block.w_value)
        mixed = block.attend(nothing, 2 * case.query - 3 * other)
        return relative_error(mixed, (2 * case.query - 3 * other) @ matrix.mT)

    return worst_case(check, seed=734, **ATTENTION_ALONE)


@_claim("nothing-to-act-on", "Where A(x) = 0 there is no such change: none has any effect.")
def nothing_to_act_on(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        block, nothing = case.block, case.context[:, :0]
        try:
            implicit_update(block, case.context, case.query)
        except ValueError:
            pass
        else:
            return float("inf")  # a change was made up where there is none
        before = block_output(block, nothing, case.query)
        block.read_in += case.normal(*block.read_in.shape)
        return relative_error(block_output(block, nothing, case.query), before)

    return worst_case(
        check,
        seed=735,
        note="A query that may not attend to itself; it is refused.",
        query_is_key=False,
        **ATTENTION_ALONE,
    )


def _queries(case: Case, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries for the case's contexts, and what each is read as without and with the context."""
    queries = case.normal(2, count, case.block.config.width)
    nothing = case.context[:, :0]
    alone, whole = (
        torch.stack([case.block.read(c, queries[:, j]).dense_input for j in range(count)], 1)
        for c in (nothing, case.context)
    )
    return queries, alone, whole


def _joint_error(case: Case, count: int) -> float:
    queries, alone, whole = _queries(case, count)
    change = joint_update(case.block, case.context, queries)
    weight = case.block.dense_weight
    return relative_error(alone @ (weight + change).mT, whole @ weight.mT)


@_claim(
    "several-queries",
    "One change serves as many queries as the layer has inputs, and then has their number as rank.",
    where=BESIDE,
)
def several_queries(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        width = case.block.config.width
        count = int(torch.randint(1, width + 1, (), generator=case.generator))
        change = joint_update(case.block, case.context, _queries(case, count)[0])
        rank = torch.linalg.matrix_rank(change, rtol=1e-9).max().item()
        return _joint_error(case, count) if rank <= count else float("inf")

    return worst_case(check, seed=736, bound=1e-10, note="As many queries as inputs, or fewer.")


@_claim(
    "one-query-too-many",
    "One change serves any number of queries.",
    where=BESIDE,
    kind="dispute",
)
def one_query_too_many(scale: Scale) -> Evidence:
    errors = []
    for case in update_cases(CASES, seed=737, hidden=10):
        _, alone, whole = _queries(case, case.block.config.width + 1)
        weight = case.block.dense_weight
        wanted = (whole - alone) @ weight.mT
        best = alone @ torch.linalg.lstsq(alone, wanted).solution
        errors.append(((best - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))).min().item())
    return Evidence(
        measured=sorted(errors)[len(errors) // 2],
        bound=1e-10,
        unit="least squares' error over what the context adds, one query more than inputs, median",
        note=f"The smallest of them is {min(errors):.1e}. {BLOCKS}",
    )
