"""The table of exercise 9: an identity that holds in every row, and what differs between rows.

The block of Dherin et al.'s experiment, small: tokens ``(x_i, y_i)`` and the query ``(x_q, 0)``, a
read-in, softmax attention without a skip, an MLP, a read-out. Several seeds are trained
side by side on regression in context, with Adam written out (importing torch's own would take
longer).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SEEDS, INPUTS, EXAMPLES, WIDTH, HEADS, HIDDEN, BATCH = 3, 2, 20, 16, 2, 32, 48
STEPS, RATE = 200, 2e-2
TESTS, FIRST = 300, 5
"""Contexts that are measured; first token of the fitted slope."""


@dataclass(frozen=True)
class Row:
    """One block with one kind of context: the worst of the seeds, or the range of all."""

    name: str
    gap: float
    """Largest difference of the block's output with its context and with its update, any seed."""
    rank: int
    """The highest rank of an update."""
    size: tuple[float, float]
    """Median ``|Delta W| / |W|``, the smallest and the largest of the seeds."""
    slope: tuple[float, float]
    """Of the increments, both axes logarithmic, the smallest and the largest of the seeds."""
    without: tuple[float, float]
    """``1/2 E (y_hat - y)^2`` without context and without update."""
    updated: tuple[float, float]
    """The same with the update that stands for the whole context, and no context."""
    swapped: tuple[float, float]
    """The same with the update that was computed for another query."""


def _start(generator: torch.Generator) -> list[Tensor]:
    """Read-in, each head's query-key and value-projection products, W, its bias, read-out."""
    shapes = [
        (WIDTH, INPUTS + 1),
        (HEADS, WIDTH, WIDTH),
        (HEADS, WIDTH, WIDTH),
        (HIDDEN, WIDTH),
        (HIDDEN, 1),
        (1, HIDDEN),
    ]
    return [torch.randn(SEEDS, *s, generator=generator) * s[-1] ** -0.5 for s in shapes]


def _prompts(count: int, generator: torch.Generator, queries: int = 1, useless: bool = False):
    """Contexts ``[SEEDS, count, EXAMPLES, 3]``, ``queries`` query tokens for each, their truths.

    With ``useless`` the labels of the contexts belong to another task than the queries.
    """
    xs = torch.randn(SEEDS, count, EXAMPLES + queries, INPUTS, generator=generator)
    tasks = torch.randn(SEEDS, count, INPUTS, 2, generator=generator)
    ys = xs @ tasks
    context = torch.cat([xs, ys[..., int(useless), None]], -1)[:, :, :EXAMPLES]
    asked = torch.nn.functional.pad(xs[:, :, EXAMPLES:], (0, 1))
    return context, asked, ys[:, :, EXAMPLES:, 0]


def _attended(model: list[Tensor], context: Tensor, query: Tensor) -> Tensor:
    """``A(C, x)``, what the MLP is fed at the query, ``[SEEDS, count, WIDTH]``."""
    tokens = torch.cat([context, query[:, :, None]], 2)
    seen = (tokens @ model[0][:, None].mT)[:, :, None]  # [SEEDS, count, 1, tokens, WIDTH]
    scores, values = (p[:, None] for p in model[1:3])
    weights = (seen @ scores @ seen[..., -1:, :].mT / WIDTH**0.5).softmax(-2)
    return (weights.mT @ seen @ values.mT)[..., 0, :].sum(2)


def _finish(model: list[Tensor], hidden: Tensor) -> Tensor:
    """The prediction from ``W A``, ``[SEEDS, count, HIDDEN]``."""
    return (torch.nn.functional.gelu(hidden + model[4].mT) @ model[5].mT)[..., 0]


def trained_blocks() -> tuple[list[Tensor], list[Tensor]]:
    """The blocks at their start and after training, in double precision."""
    start = _start(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    model = [p.clone().requires_grad_() for p in start]
    means, squares = ([torch.zeros_like(p) for p in model] for _ in range(2))
    for step in range(1, STEPS + 1):
        context, query, truth = _prompts(BATCH, generator)
        context = context[:, :, step % (EXAMPLES + 1) :]  # of every length, none too
        fed = _attended(model, context, query[:, :, 0])
        error = _finish(model, fed @ model[3].mT) - truth[:, :, 0]
        loss = error.square().mean(1).sum() / 2
        slopes = torch.autograd.grad(loss, model)
        with torch.no_grad():
            for p, slope, mean, square in zip(model, slopes, means, squares, strict=True):
                mean.lerp_(slope, 0.1)
                square.lerp_(slope.square(), 0.001)
                spread = (square / (1 - 0.999**step)).sqrt() + 1e-8
                decay = 1 if step < 0.7 * STEPS else 0.1
                p.addcdiv_(mean, spread, value=-RATE * decay / (1 - 0.9**step))
    return [p.double() for p in start], [p.detach().double() for p in model]


def _row(name: str, model: list[Tensor], *, useless: bool = False) -> Row:
    generator = torch.Generator().manual_seed(99)
    context, queries, truth = (
        v.double() for v in _prompts(TESTS, generator, queries=2, useless=useless)
    )
    query, other = queries.unbind(2)
    fed = torch.stack([_attended(model, context[:, :, :i], query) for i in range(EXAMPLES + 1)], 2)
    alone, with_context, weight = fed[:, :, 0], fed[:, :, -1], model[3]
    change = (with_context - alone) @ weight.mT
    update = change[..., None] * (alone / alone.square().sum(-1, keepdim=True))[:, :, None]
    changed = weight[:, None] + update  # one matrix for each seed and context

    def applied(at: Tensor) -> Tensor:
        return _finish(
            model, (changed @ _attended(model, context[:, :, :0], at)[..., None])[..., 0]
        )

    def loss(prediction: Tensor, which: int) -> tuple[float, float]:
        return _range((prediction - truth[:, :, which]).square().mean(1) / 2)

    moved = ((fed[:, :, 1:] - fed[:, :, :-1]) @ weight[:, None].mT).norm(dim=-1)
    sizes = (moved / alone.norm(dim=-1, keepdim=True)).mean(1)[:, FIRST - 1 :].log()
    tokens = torch.arange(FIRST, EXAMPLES + 1).double().log()
    tokens = tokens - tokens.mean()
    relative = update.flatten(2).norm(dim=-1) / weight.flatten(1).norm(dim=-1, keepdim=True)
    return Row(
        name,
        gap=float((applied(query) - _finish(model, with_context @ weight.mT)).abs().max()),
        rank=int(torch.linalg.matrix_rank(update[:, :20], rtol=1e-10).max()),
        size=_range(relative.median(1).values),
        slope=_range(sizes @ tokens / tokens.square().sum()),
        without=loss(_finish(model, alone @ weight.mT), 0),
        updated=loss(applied(query), 0),
        swapped=loss(applied(other), 1),
    )


def _range(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def table() -> list[Row]:
    """Trained blocks, the same with contexts of another task, and the blocks at their start."""
    start, trained = trained_blocks()
    return [
        _row("trained", trained),
        _row("trained, useless context", trained, useless=True),
        _row("not trained", start),
    ]


def print_identity() -> None:
    """Print the table of exercise 9."""
    rows = table()
    print(f"{SEEDS} blocks, contexts of {EXAMPLES} examples; from the lowest of the blocks to the")
    print("highest, and for the gap the largest of all.\n")
    print(f"{'':26}{'gap':>9}{'rank':>6}{'|dW|/|W|':>13}{'slope of the':>17}")
    print(f"{'':26}{'':>9}{'of dW':>6}{'(median)':>13}{'increments':>17}")
    for row in rows:
        print(
            f"{row.name:26}{row.gap:9.0e}{row.rank:6d}{_words(row.size):>13}{_words(row.slope):>17}"
        )
    print("\nLoss 1/2 E (y_hat - y)^2 of the block without its context:\n")
    print(f"{'':26}{'as it is':>13}{'with its update':>19}{'with the update':>19}")
    print(f"{'':26}{'':>13}{'':>19}{'of another query':>19}")
    for row in rows:
        print(
            f"{row.name:26}{_words(row.without):>13}{_words(row.updated):>19}"
            f"{_words(row.swapped):>19}"
        )


def _words(value: tuple[float, float]) -> str:
    return f"{value[0]:.2f} to {value[1]:.2f}"
