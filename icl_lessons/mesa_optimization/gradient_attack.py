"""Attacks on the context of any learner, trained transformers among them: by gradient, by trial."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.mesa_optimization.poisoned_contexts import (
    Inputs,
    Labels,
    Numbers,
    Query,
    check_single,
)
from icl_lessons.runtime import check_integer, check_number
from icl_lessons.types import Learner


class Attacked(NamedTuple):
    """A poisoned context and how far it moves the prediction, ``f' - f``."""

    xs: Inputs
    ys: Labels
    shift: Numbers


def gradient_attack(
    learner: Learner,
    xs: Inputs,
    ys: Labels,
    x_query: Query,
    *,
    label_budget: float | int = 0.0,
    input_budget: float | int = 0.0,
    examples: int = 1,
    steps: int = 20,
) -> Attacked:
    """Projected gradient ascent on the distance to the clean prediction, through any learner.

    The examples whose budgets promise most to first order are attacked: each label moves by at most
    ``label_budget``, each input by a vector no longer than ``input_budget``. The ascent is run once
    upwards and once downwards, with steps of ``2.5 / steps`` of the budget, and the best context
    met on the way is returned. For learners that are linear in labels it finds the worst labels of
    those examples; for any other it is a lower bound on what an attack can do.

    Args:
        label_budget, input_budget: 0 leaves labels, or inputs, as they are.
        examples: how many are attacked in each context.
        steps: of the ascent.
    """
    check_single(xs, ys, x_query)
    check_number("label_budget", label_budget)
    check_number("input_budget", input_budget)
    check_integer("examples", examples, at_least=1)
    check_integer("steps", steps, at_least=1)
    if examples > xs.shape[1]:
        raise ValueError(f"examples: got {examples}; the context has {xs.shape[1]}")
    xs, ys = xs.detach(), ys.detach()
    clean, by_x, by_y = slopes(learner, xs, ys, x_query)
    promise = input_budget * by_x.norm(dim=-1) + label_budget * by_y[..., 0].abs()
    chosen = torch.zeros_like(promise).scatter(1, promise.topk(examples, 1).indices, 1.0)[..., None]
    best = Attacked(xs, ys, torch.zeros_like(clean))
    rate = 2.5 / steps
    for sign in (1.0, -1.0):
        at_x, at_y = xs, ys
        for _ in range(steps + 1):
            value, by_x, by_y = slopes(learner, at_x, at_y, x_query)
            better = (value - clean).abs() > best.shift.abs()
            best = Attacked(
                torch.where(better[:, None, None], at_x, best.xs),
                torch.where(better[:, None, None], at_y, best.ys),
                torch.where(better, value - clean, best.shift),
            )
            along = by_x / by_x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(xs.dtype).tiny)
            moved = at_x - xs + sign * rate * input_budget * along
            length = moved.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(xs.dtype).tiny)
            at_x = xs + chosen * moved * (input_budget / length).clamp_max(1.0)
            changed = at_y - ys + sign * rate * label_budget * by_y.sign()
            at_y = ys + chosen * changed.clamp(-label_budget, label_budget)
    return best


def label_sweep(
    learner: Learner, xs: Inputs, ys: Labels, x_query: Query, budgets: tuple[float | int, ...]
) -> Float[Tensor, "budgets 2*n_context batch"]:
    """The predictions after each label in turn was raised, or lowered, by each budget.

    Without gradients, so that a learner whose gradients mislead an attacker is not taken for safe.
    The worst of them is exact for a learner that is linear in labels.

    Args:
        budgets: by how much a label is moved, in its unit.
    """
    check_single(xs, ys, x_query)
    if not budgets:
        raise ValueError("budgets: got none; give at least one")
    batch, n, _ = xs.shape
    one = torch.cat([torch.eye(n), -torch.eye(n)]).to(xs)[:, None, :, None]
    many = [value.expand(2 * n, -1, -1, -1).flatten(0, 1) for value in (xs, x_query)]
    said = []
    for budget in budgets:
        check_number("budgets", budget)
        moved = (ys + budget * one).flatten(0, 1)
        said.append(learner(many[0], moved, many[1])[:, 0, 0].view(2 * n, batch))
    return torch.stack(said)


def slopes(
    learner: Learner, xs: Inputs, ys: Labels, x_query: Query
) -> tuple[Numbers, Inputs, Labels]:
    """Predictions, and their gradients by the inputs and the labels of each context."""
    with torch.enable_grad():
        xs, ys = xs.detach().requires_grad_(), ys.detach().requires_grad_()
        value = learner(xs, ys, x_query)[:, 0, 0]
        by_x, by_y = torch.autograd.grad(value.sum(), (xs, ys), materialize_grads=True)
    return value.detach(), by_x, by_y
