"""The table of exercise 9: what comes out after each layer of a trained stack, and what it matches.

The stack is four layers of exercise 2, each with two trained numbers, its step size and its gamma
(here a factor of S and not of H, so N times the gamma of the exercise).
In the eigenbasis of a context's ``S = X^T X / N`` every method here multiplies the weights that are
still to be found, direction by direction, by a polynomial in the eigenvalue; so the table needs
no tokens, and its losses over the weights are exact sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

INPUTS, EXAMPLES, LAYERS, QUERIES = 6, 24, 4, 30
DEVIATIONS = (1.0, 1.0, 0.5, 0.5, 0.25, 0.25)
"""Standard deviation of each input: two directions are steep, two are sixteen times flatter."""
MOST_STEPS = {"gd": 400, "newton": 15}


@dataclass(frozen=True)
class ReadOut:
    """One row: the prediction read off after a layer, and its best matches."""

    layer: int
    loss: float
    """``1/2 E (yhat - y)^2`` at fresh queries; the loss of predicting 0 for ``layer`` 0."""
    gd_steps: int
    gd_cosine: float
    newton_steps: int
    newton_cosine: float
    same_steps_cosine: float
    """With as many steps of gradient descent as there are layers so far."""
    predictions_cosine: float
    """Of the predictions, not of the errors, with the best-matching steps of descent."""


def _contexts(count: int, scale: float, generator: torch.Generator):
    deviation = scale * torch.tensor(DEVIATIONS, dtype=torch.float64)
    shape = (count, EXAMPLES, INPUTS)
    xs = torch.randn(shape, generator=generator, dtype=torch.float64) * deviation
    values, vectors = torch.linalg.eigh(xs.mT @ xs / EXAMPLES)
    return values, vectors, deviation


def _remaining(values: Tensor, numbers: Tensor) -> list[Tensor]:
    """After each layer, the share of the weights that is still missing along each eigenvector."""
    missing, seen, out = torch.ones_like(values), values, []
    for eta, gamma in numbers:
        missing = missing * (1 - eta * seen)
        seen = seen * (1 - gamma * seen) ** 2
        out.append(missing)
    return out


def trained_numbers(seed: int = 0, steps: int = 300) -> Tensor:
    """``(eta_k, gamma_k)`` of each layer, trained on the sum of the losses after every layer."""
    generator = torch.Generator().manual_seed(seed)
    values, vectors, deviation = _contexts(300, 1.0, generator)
    weight = (vectors.mT @ torch.diag(deviation**2) @ vectors).diagonal(dim1=-2, dim2=-1)
    numbers = torch.tensor([[0.5, 0.05]] * LAYERS, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([numbers], lr=0.02, betas=(0.9, 0.95))
    for _ in range(steps):
        read_outs = torch.stack(_remaining(values, numbers))
        optimiser.zero_grad()
        (read_outs.square() * weight).sum((0, 2)).mean().div(2).backward()
        optimiser.step()
    return numbers.detach()


def read_outs(numbers: Tensor, scale: float = 1.0, seed: int = 1) -> list[ReadOut]:
    """The rows of the table, on fresh contexts whose inputs are ``scale`` times as long."""
    generator = torch.Generator().manual_seed(seed)
    values, vectors, deviation = _contexts(200, scale, generator)
    count = len(values)
    w = torch.randn(count, 1, INPUTS, generator=generator, dtype=torch.float64) @ vectors
    queries = torch.randn(count, QUERIES, INPUTS, generator=generator, dtype=torch.float64)
    queries = queries * deviation @ vectors

    def errors(missing: Tensor) -> Tensor:  # [count, queries], y minus the prediction
        return (queries * w * missing[:, None]).sum(-1)

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(torch.cosine_similarity(a, b, dim=-1).mean())

    largest = values.amax(-1, keepdim=True)
    gd = [errors((1 - values / largest) ** k) for k in range(MOST_STEPS["gd"] + 1)]
    newton = [
        errors((1 - (values / largest) ** 2) ** (2**k)) for k in range(MOST_STEPS["newton"] + 1)
    ]
    targets = errors(torch.ones_like(values))
    rows = [ReadOut(0, float(targets.square().mean() / 2), 0, 1.0, 0, 1.0, 1.0, 1.0)]
    for layer, missing in enumerate(_remaining(values, numbers), start=1):
        mine = errors(missing)
        gd_cosines, newton_cosines = ([cosine(mine, e) for e in found] for found in (gd, newton))
        best, best_newton = (c.index(max(c)) for c in (gd_cosines, newton_cosines))
        rows.append(
            ReadOut(
                layer,
                float(mine.square().mean() / 2),
                best,
                gd_cosines[best],
                best_newton,
                newton_cosines[best_newton],
                gd_cosines[layer],
                cosine(targets - mine, targets - gd[best]) if best else 0.0,
            )
        )
    return rows


def print_read_outs() -> None:
    """Train the stack (a second or two) and print its read-outs on two kinds of inputs."""
    numbers = trained_numbers()
    for scale, title in ((1.0, "inputs as in training"), (1.25, "inputs 1.25 times as long")):
        rows = read_outs(numbers, scale)
        print(f"{title}; predicting 0 has the loss {rows[0].loss:.3f}\n")
        print("layer    loss    GD steps  cosine   Newton steps  cosine   GD, as many   cosine of")
        print(
            "                 (best)             (best)                 steps as      predictions"
        )
        print("                                                           layers        (best GD)")
        for row in rows[1:]:
            print(
                f"{row.layer:>3} {row.loss:>10.3f} {row.gd_steps:>8} {row.gd_cosine:>10.2f}"
                f" {row.newton_steps:>10} {row.newton_cosine:>11.2f}"
                f" {row.same_steps_cosine:>10.2f} {row.predictions_cosine:>13.2f}"
            )
        print()
