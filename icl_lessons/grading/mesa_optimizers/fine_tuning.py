"""The table of exercise 8: outputs are fine-tuned, and the inner learner is measured.

A model in two parts. The inner part is one step of preconditioned descent, ``u = beta^T M x_q``
with ``beta = 1/N sum y_i x_i``; a small network on top, ``o = u + f(u)``, turns it into the output.
Several seeds are trained side by side, with Adam written out (importing torch's own would take
longer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SEEDS, INPUTS, EXAMPLES, WIDTH, BATCH = 3, 3, 12, 12, 96
STEPS = {"pretraining": 300, "fine-tuning": 300}
FORBIDDEN, COUNTED, LOW_TRUTH = -0.5, -0.55, -0.8
"""Outputs below the first are punished and below the second counted; truths below the third."""
SHIFT = 4.0
POISON = 20.0
"""Standard deviation of what is added to one label of a poisoned prompt."""
TESTS = 4000


@dataclass(frozen=True)
class Row:
    """One way of training; means over the seeds."""

    name: str
    forbidden: float
    """Share of outputs below -0.55 on prompts as in training."""
    shifted: float
    """The same where the labels of the context are four times as large."""
    cosine: float
    """Of M with the M before, the smallest of the seeds."""
    change: float
    """``|M' - M| / |M|``, the largest of the seeds."""
    correlation: float
    """Of the inner predictions with those before, the smallest of the seeds."""
    gain: float
    """Mean slope of the outputs above 0 by ``beta`` and ``x_q`` (read-out's slope times ``|M|``),
    relative to before, the smallest of the seeds."""
    inner_low: float
    """Mean inner prediction where the truth is below -0.8."""
    output_low: float
    """Mean output there."""
    loss: float
    """``1/2 E (o - y)^2`` on prompts as in training."""


def _prompts(count: int, generator: torch.Generator, *, poison: bool = False):
    """``beta``, ``x_q`` and the truth; inputs standard normal, the task of unit mean square."""
    xs = torch.randn(SEEDS, count, EXAMPLES, INPUTS, generator=generator)
    w = torch.randn(SEEDS, count, INPUTS, 1, generator=generator) / INPUTS**0.5
    query = torch.randn(SEEDS, count, INPUTS, generator=generator)
    ys = xs @ w
    if poison:
        ys[:, :, 0] += POISON * torch.randn(SEEDS, count, 1, generator=generator)
    return (xs * ys).mean(2), query, (query[..., None, :] @ w)[..., 0, 0]


def _start(generator: torch.Generator) -> list[Tensor]:
    """M, then the read-out's first weights, its biases, its second weights."""
    shapes = [(SEEDS, INPUTS, INPUTS), (SEEDS, 1, WIDTH), (SEEDS, 1, WIDTH), (SEEDS, WIDTH, 1)]
    scales = (0.1, 1.0, 1.0, 0.1)
    return [s * torch.randn(f, generator=generator) for s, f in zip(scales, shapes, strict=True)]


def _inner(model: list[Tensor], beta: Tensor, query: Tensor) -> Tensor:
    return (beta @ model[0] * query).sum(-1)


def _output(model: list[Tensor], beta: Tensor, query: Tensor) -> Tensor:
    u = _inner(model, beta, query)
    hidden = torch.tanh(u[..., None] @ model[1] + model[2])
    return u + (hidden @ model[3])[..., 0]


def _gain(model: list[Tensor], beta: Tensor, query: Tensor) -> Tensor:
    """Mean slope of the read-out where the output is above 0, times ``|M|``, for each seed."""
    u = _inner(model, beta, query)
    hidden = torch.tanh(u[..., None] @ model[1] + model[2])
    slope = 1 + ((1 - hidden.square()) * model[1] @ model[3])[..., 0]
    above = _output(model, beta, query) > 0
    return (slope * above).sum(1) / above.sum(1) * model[0].flatten(1).norm(dim=-1)


def _train(
    model: list[Tensor],
    loss: Callable[[list[Tensor], torch.Generator], Tensor],
    steps: int,
    rate: float,
    seed: int,
    *,
    frozen: bool = False,
) -> list[Tensor]:
    """Adam on the sum of the seeds' losses; with ``frozen`` M alone is trained."""
    generator = torch.Generator().manual_seed(seed)
    model = [p.clone().requires_grad_(k == 0 or not frozen) for k, p in enumerate(model)]
    trained = [p for p in model if p.requires_grad]
    means, squares = ([torch.zeros_like(p) for p in trained] for _ in range(2))
    for step in range(1, steps + 1):
        slopes = torch.autograd.grad(loss(model, generator), trained)
        with torch.no_grad():
            for p, slope, mean, square in zip(trained, slopes, means, squares, strict=True):
                mean.lerp_(slope, 0.1)
                square.lerp_(slope.square(), 0.001)
                spread = (square / (1 - 0.999**step)).sqrt() + 1e-8
                decay = 1 if step < 0.7 * steps else 0.1
                p.addcdiv_(mean, spread, value=-rate * decay / (1 - 0.9**step))
    return [p.detach() for p in model]


def _regression(poison: bool):
    def loss(model, generator):
        beta, query, truth = _prompts(BATCH, generator, poison=poison)
        return (_output(model, beta, query) - truth).square().mean(1).sum() / 2

    return loss


def _reward(reference: list[Tensor]):
    """Punish outputs below -0.5; elsewhere stay close to what the reference says."""

    def loss(model, generator):
        beta, query, _ = _prompts(BATCH, generator)
        out, known = _output(model, beta, query), _output(reference, beta, query)
        below = (FORBIDDEN - out).clamp_min(0)
        stay = (out - known).square() * (known > FORBIDDEN)
        return (below.square() + stay).mean(1).sum()

    return loss


def _row(name: str, model: list[Tensor], before: list[Tensor]) -> Row:
    beta, query, truth = _prompts(TESTS, torch.Generator().manual_seed(99))
    u, out = _inner(model, beta, query), _output(model, beta, query)
    known = _inner(before, beta, query)
    low = truth < LOW_TRUTH
    m, m_before = (p[0].flatten(1) for p in (model, before))
    pairs = torch.stack([u, known], 1)
    correlations = [torch.corrcoef(pair)[0, 1] for pair in pairs]
    return Row(
        name,
        float((out < COUNTED).float().mean()),
        float((_output(model, SHIFT * beta, query) < COUNTED).float().mean()),
        float(torch.cosine_similarity(m, m_before, dim=-1).amin()),
        float(((m - m_before).norm(dim=-1) / m_before.norm(dim=-1)).amax()),
        float(min(correlations)),
        float((_gain(model, beta, query) / _gain(before, beta, query)).amin()),
        float(u[low].mean()),
        float(out[low].mean()),
        float((out - truth).square().mean() / 2),
    )


def table() -> list[Row]:
    """Before fine-tuning and after each of three kinds of it."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # whatever the notebook has set
    try:
        start = _start(torch.Generator().manual_seed(0))
        before = _train(start, _regression(False), STEPS["pretraining"], 2e-2, seed=1)
        steps = STEPS["fine-tuning"]
        models = {
            "before fine-tuning": before,
            "reward, all weights": _train(before, _reward(before), steps, 1e-2, seed=2),
            "reward, M alone": _train(before, _reward(before), steps, 1e-2, seed=3, frozen=True),
            "poisoned labels": _train(before, _regression(True), steps, 1e-2, seed=4),
        }
        return [_row(name, model, before) for name, model in models.items()]
    finally:
        torch.set_default_dtype(default)


def print_fine_tuning() -> None:
    """Train the models (a few seconds) and print what moved."""
    print(f"{SEEDS} seeds; d = {INPUTS}, N = {EXAMPLES}; the loss is 1/2 E (o - y)^2\n")
    rows = table()
    print(f"{'outputs':<22}{'below -0.55':>12}{'below -0.55':>15}{'truth below -0.8':>27}")
    print(f"{'':<22}{'as trained':>12}{'labels x 4':>15}{'loss':>8}{'mean u':>10}{'mean o':>9}")
    for row in rows:
        print(
            f"{row.name:<22}{row.forbidden:>12.1%}{row.shifted:>15.1%}{row.loss:>8.3f}"
            f"{row.inner_low:>10.2f}{row.output_low:>9.2f}"
        )
    print(f"\n{'inside':<22}{'cosine':>12}{'change':>15}{'correlation':>14}{'gain':>9}")
    print(f"{'(with before)':<22}{'of M':>12}{'of M, relative':>15}{'of u':>14}{'o > 0':>9}")
    for row in rows[1:]:
        print(
            f"{row.name:<22}{row.cosine:>12.3f}{row.change:>15.2f}{row.correlation:>14.4f}"
            f"{row.gain:>9.2f}"
        )
