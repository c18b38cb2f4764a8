"""What is claimed of the path that the weights take token by token, each claim with a check."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, error_size, passed, words
from icl_lessons.implicit_dynamics.block_by_block import regression_stack
from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    block_output,
)
from icl_lessons.implicit_dynamics.rank_one_update import implicit_update
from icl_lessons.implicit_dynamics.token_path import TokenPath, factorised_path, token_path
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.models.transformer import Transformer, TransformerConfig
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.regression import LinearRegression

PAGE = "implicit_dynamics/token_by_token"
PAPER = "dherin2025learning"
PROPOSITION, APPENDIX = "section 3, proposition 3.1", "appendix B"
BESIDE = "not in the paper; about proposition 3.1"
CASES = 16
BLOCKS = f"{CASES} untrained blocks of random shape, contexts of 1 to 8 tokens."


class Case(NamedTuple):
    """A block of random shape in float64, two contexts for it with a query each, and their path."""

    block: AttentionBlock
    context: Tensor
    query: Tensor
    path: TokenPath
    generator: torch.Generator

    @property
    def n(self) -> int:
        """Tokens of the context."""
        return self.context.shape[1]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)


def path_cases(count: int, *, seed: int, **shape) -> Iterator[Case]:
    """Blocks and contexts of random size; ``shape`` fixes fields of the blocks' configuration."""
    g = seeded(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    for _ in range(count):
        width = draw(3, 7)
        drawn = {
            "reads": ("attention", "stream")[draw(0, 1)],
            "skip": bool(draw(0, 1)),
            "norm": (None, "layer", "rms")[draw(0, 2)],
            "attention": ("softmax", "linear")[draw(0, 1)],
            "gated": bool(draw(0, 1)),
        }
        config = AttentionBlockConfig(
            width=width, hidden=draw(3, 9), heads=draw(1, 3), head_width=3, **(drawn | shape)
        )
        block = AttentionBlock(config, generator=g).requires_grad_(False)
        tokens = torch.randn(2, draw(2, 9), width, generator=g, dtype=torch.float64)
        context, query = tokens[:, :-1], tokens[:, -1]
        yield Case(block, context, query, token_path(block, context, query), g)


def worst_case(
    check: Callable[[Case], float], *, seed: int, bound: float = 1e-12, note: str = "", **shape
) -> Evidence:
    """Evidence of an identity: the largest error over :func:`path_cases`."""
    worst = max(check(case) for case in path_cases(CASES, seed=seed, **shape))
    return Evidence(
        measured=worst,
        bound=bound,
        unit=RELATIVE_ERROR,
        note=f"{note} {BLOCKS}".strip(),
    )


def path_claim(name: str, says: str, *, where: str = PROPOSITION, kind: str = "identity"):
    """Declare a claim of the path; ``where=BESIDE`` for what the paper does not say."""
    own = "survey-path" if where == BESIDE else "dherin2025"
    return claim(
        f"{own}-{name}", paper=PAPER, where=where, kind=kind, says=says, chapter=PAGE
    )  # fmt: skip


def _gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(loss(at).sum(), at)[0]


@path_claim(
    "recursion",
    "Each token moves the weights by one step of gradient descent: W - h grad L_i(W) is the next.",
)
def recursion(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        weights, step = case.path.weights, case.path.step_size[:, None, None]
        return max(
            relative_error(
                weights[:, i]
                - step * _gradient(lambda w, i=i: case.path.loss(w, i), weights[:, i]),
                weights[:, i + 1],
            )
            for i in range(case.n)
        )

    return worst_case(
        check, seed=601, note="Gradients of tr(G_i^T W) by automatic differentiation."
    )


@path_claim(
    "telescoping",
    "After i tokens the path stands where the implicit update of these i tokens puts it.",
)
def telescoping(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        weights, start = case.path.weights, case.block.dense_weight
        summed = start - (case.path.step_size[:, None, None, None] * case.path.gradients).cumsum(1)
        errors = [relative_error(summed, weights[:, 1:])]
        for i in range(1, case.n + 1):
            update = implicit_update(case.block, case.context[:, :i], case.query)
            errors.append(relative_error(start + update.weight, weights[:, i]))
        return max(errors)

    return worst_case(check, seed=602)


@path_claim("rank-one", "However many tokens are read, the weights have changed by rank one.")
def rank_one(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        singular = torch.linalg.svdvals(case.path.weights[:, 1:] - case.path.weights[:, :1])
        return (singular[..., 1] / singular[..., 0]).max().item()

    found = worst_case(check, seed=603)
    return Evidence(
        measured=found.measured,
        bound=1e-12,
        unit="second singular value of W_i - W_0 over the first, float64",
        note=found.note,
    )


@path_claim(
    "increment-size",
    "A token's increment has the size |W (A_{i+1} - A_i)| / |A(x)|.",
)
def increment_size(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        moved = (case.path.weights[:, 1:] - case.path.weights[:, :-1]).flatten(2).norm(dim=-1)
        return relative_error(case.path.increments, moved)

    return worst_case(check, seed=604)


@path_claim(
    "factorised-recursion",
    "Absorbed from the front while the rest stay, tokens multiply the weights: "
    "W_n = W (I + h_1 A_1) ... (I + h_n A_n).",
    where=APPENDIX,
)
def factorised_recursion(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        product = case.block.dense_weight.expand(2, -1, -1)
        errors, path = [], factorised_path(case.block, case.context, case.query)
        eye = torch.eye(case.block.config.width, dtype=torch.float64)
        for i in range(1, case.n + 1):
            before, after = (
                case.block.read(case.context[:, j:], case.query).dense_input for j in (i - 1, i)
            )
            factor = (
                (before - after)[:, :, None]
                * after[:, None]
                / after.square().sum(-1)[:, None, None]
            )
            product = product @ (eye + factor)
            errors.append(relative_error(path[:, i], product))
        return max(errors)

    return worst_case(
        check,
        seed=605,
        note="The product of the factors against the stepwise recursion.",
    )


@path_claim(
    "factorised-outputs",
    "After every absorbed token the changed block, reading only the rest, answers the same.",
    where=APPENDIX,
)
def factorised_outputs(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        whole = case.block.read(case.context, case.query)
        expected = block_output(case.block, case.context, case.query)
        errors = []
        for i, weights in enumerate(
            factorised_path(case.block, case.context, case.query).unbind(1)
        ):
            rest = case.block.read(case.context[:, i:], case.query).dense_input
            hidden = (weights @ rest[..., None])[..., 0]
            errors.append(relative_error(case.block.finish(hidden, whole.residual), expected))
        return max(errors)

    return worst_case(
        check,
        seed=606,
        bound=1e-10,
        note="A product of many factors loses more digits than one update.",
    )


@path_claim(
    "two-endings",
    "The two paths end at different weights that answer alike: the update is one choice of many.",
    where=APPENDIX,
    kind="experiment",
)
def two_endings(scale: Scale) -> Evidence:
    apart, ranks, alike = [], [], 0.0
    for seed in range(CASES):
        block = AttentionBlock(AttentionBlockConfig(width=6, hidden=9), generator=seeded(seed))
        block.requires_grad_(False)
        tokens = torch.randn(1, 9, 6, generator=seeded(1000 + seed), dtype=torch.float64)
        context, query = tokens[:, :-1], tokens[:, -1]
        additive = token_path(block, context, query)
        ends = additive.weights[0, -1], factorised_path(block, context, query)[0, -1]
        apart.append((ends[0] - ends[1]).abs().max().item())
        ranks.append(int(torch.linalg.matrix_rank(ends[1] - block.dense_weight)))
        alike = max(alike, relative_error(*(end @ additive.inputs[0, 0] for end in ends)))
    return Evidence(
        measured=min(apart),
        bound=1e-3,
        comparison="at least",
        unit="largest entry of the difference between the two final matrices, least",
        samples=passed([a > 1e-3 for a in apart]),
        note=f"The factorised change has rank {min(ranks)} or more in dense layers of 6 "
        f"inputs, the additive one rank 1; at the query the relative error is {error_size(alike)}.",
    )


@path_claim(
    "linear-losses",
    "The losses that are descended are linear: their gradient is the same at any weights, and "
    "they have no minimum.",
    where=BESIDE,
)
def linear_losses(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        errors = []
        for i in range(case.n):
            gradient = case.path.gradients[:, i]
            somewhere = case.normal(*gradient.shape)
            found = _gradient(lambda w, i=i: case.path.loss(w, i), somewhere)
            errors.append(relative_error(found, gradient))
            # Ten thousand times as far against the gradient is ten thousand times as low.
            far = case.path.loss(-1e4 * gradient, i) / 1e4
            errors.append(relative_error(far, -gradient.square().sum((1, 2))))
        return max(errors)

    return worst_case(
        check, seed=607, note="Gradients by automatic differentiation at random weights."
    )


@path_claim(
    "any-path",
    "Any sequence of matrices is gradient descent on such losses: being a descent says nothing.",
    where=BESIDE,
)
def any_path(scale: Scale) -> Evidence:
    g = seeded(608)
    worst = 0.0
    for _ in range(CASES):
        n, hidden, width = (int(torch.randint(2, 9, (), generator=g)) for _ in range(3))
        matrices = torch.randn(n, hidden, width, generator=g, dtype=torch.float64)  # any
        step = 0.05 + torch.rand((), generator=g).item()
        for now, after in zip(matrices[:-1], matrices[1:], strict=True):
            loss_gradient = (now - after) / step  # L(W) = tr(G^T W), made after the fact
            found = _gradient(lambda w, made=loss_gradient: (made * w).sum(), now)
            worst = max(worst, relative_error(now - step * found, after))
    return Evidence(
        measured=worst,
        bound=1e-12,
        unit=RELATIVE_ERROR,
        note=f"{CASES} sequences of independent random matrices, any step size.",
    )


@path_claim(
    "order-kept",
    "Without positions, the order of the context does not change where the path ends.",
    where=BESIDE,
)
def order_kept(scale: Scale) -> Evidence:
    between = []

    def check(case: Case) -> float:
        other = token_path(case.block, case.context.flip(1), case.query).weights
        weights = case.path.weights
        if case.n > 1:
            size = (weights[:, -1] - weights[:, 0]).flatten(1).norm(dim=-1)
            far = (weights - other).flatten(2).norm(dim=-1).amax(1) / size
            between.append(far.min().item())
        return relative_error(other[:, -1], weights[:, -1])

    found = worst_case(check, seed=609)
    note = (
        "The context reversed. On the way the two paths part by at least "
        f"{min(between):.2f} of the final change. {BLOCKS}"
    )
    return Evidence(measured=found.measured, bound=1e-12, unit=RELATIVE_ERROR, note=note)


@path_claim(
    "order-matters",
    "With positions, or above a causal block, the order of the context changes the end too.",
    where=BESIDE,
    kind="experiment",
)
def order_matters(scale: Scale) -> Evidence:
    batch = LinearRegression(d=3).sample(8, 10, generator=seeded(610), dtype=torch.float64)
    reverse = batch.xs.flip(1), batch.ys.flip(1), batch.x_query
    moved = {"no positions, first block": [], "above a causal block": [], "positions": []}
    for seed in range(10):
        config = TransformerConfig(d=3, width=16, layers=2, heads=2, layer_norm="pre")
        model = Transformer(config, generator=seeded(seed)).double().requires_grad_(False)
        blocks, context, query = regression_stack(model, *batch.context)
        turned = regression_stack(model, *reverse)[1]
        places = torch.randn(context.shape[1:], generator=seeded(seed), dtype=torch.float64)
        places = places * context.std()

        def change(block, tokens, asked) -> Tensor:
            return implicit_update(block, tokens, asked).weight

        def above(tokens, first=blocks[0], asked=query) -> tuple[Tensor, Tensor]:
            streams = [block_output(first, tokens[:, :i], tokens[:, i]) for i in range(10)]
            return torch.stack(streams, 1), block_output(first, tokens, asked)

        pairs = {
            "no positions, first block": [change(blocks[0], t, query) for t in (context, turned)],
            "above a causal block": [change(blocks[1], *above(t)) for t in (context, turned)],
            "positions": [change(blocks[0], t + places, query) for t in (context, turned)],
        }
        for name, (first, second) in pairs.items():
            size = first.flatten(1).norm(dim=-1)
            moved[name].append(((first - second).flatten(1).norm(dim=-1) / size).mean().item())
    least = [
        min(pair) for pair in zip(moved["above a causal block"], moved["positions"], strict=True)
    ]
    return Evidence(
        measured=min(least),
        bound=0.01,
        comparison="at least",
        unit="difference of the updates for a context and its reverse, over their size, least",
        samples=passed([value >= 0.01 for value in least]),
        note="Untrained two-block Transformers, ten examples. Means above a causal block: "
        f"{words(sum(moved['above a causal block']) / 10)}; with random positions added: "
        f"{words(sum(moved['positions']) / 10)}; first block without positions: "
        f"{error_size(max(moved['no positions, first block']))}.",
    )
