"""Does the order of demonstrations matter, in context and to descent? Theorem 1 as a test.

If an algorithm on the weights were equivalent to in-context learning, so that the model with
demonstrations ``S`` answers as the model changed by the algorithm without them, then for two orders
of ``S``, and every query ``x``,

.. math:: M_{\\Theta_0}(\\sigma_A \\circ x) - M_{\\Theta_0}(\\sigma_B \\circ x)
          = M_{\\Theta_{\\sigma_A}}(x) - M_{\\Theta_{\\sigma_B}}(x)

[shen2024pretrained, theorem 1]. Full-batch gradient descent makes the right side 0, in-context
learning does not make the left side 0, so the two are not equivalent. That rules out full-batch
descent, and an exact equivalence; descent in small batches has an order too, of the size of the
square of its step (:func:`swap_effect`).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from icl_lessons.language_models.demonstration_labels import flipped, random_labels
from icl_lessons.language_models.fine_tuning import (
    FineTuning,
    answer_law,
    fine_tune,
    label_loss,
    parts_of,
)
from icl_lessons.language_models.subjects import QUERY_SEED, Subject
from icl_lessons.models.sequence import SequenceTransformer
from icl_lessons.runtime import check_choice, check_integer, seeded

Order = Sequence[int]
Answers = Float[Tensor, "queries vocabulary"]
LABELS = ("gold", "a quarter wrong", "random")


def some_orders(n: int, count: int, *, generator: torch.Generator) -> list[tuple[int, ...]]:
    """Different orders of ``n`` demonstrations, the given one first; all there are if too few.

    Args:
        count: how many, at most.
    """
    check_integer("n", n, at_least=1)
    check_integer("count", count, at_least=1)
    if math.factorial(n) <= count:
        return list(itertools.permutations(range(n)))
    found = {tuple(range(n)): None}
    while len(found) < count:
        found[tuple(torch.randperm(n, generator=generator).tolist())] = None
    return list(found)


def in_context_answers(
    model: nn.Module, prompts: Any, orders: Sequence[Order]
) -> Float[Tensor, "orders queries vocabulary"]:
    """Answers after the same demonstrations in each order.

    Args:
        prompts: :class:`~icl_lessons.tasks.attribute_prompts.AttributePrompts` or
            :class:`~icl_lessons.language_models.text_tasks.TextPrompts` that share their
            demonstrations.
    """
    return torch.stack([answer_law(model, prompts.in_order(order).tokens) for order in orders])


def fine_tuned_answers(
    model: nn.Module,
    prompts: Any,
    orders: Sequence[Order],
    settings: FineTuning,
    *,
    every: int = 20,
) -> dict[int, Float[Tensor, "orders queries vocabulary"]]:
    """Answers, after each number of epochs, of models fine-tuned on the demonstrations in order.

    The demonstrations are those of the first prompt; the queries stand alone. Course transformers
    are fine-tuned in all orders at once, other models one after the other.
    """
    inputs, labels = prompts.demonstrations(0)
    if isinstance(model, SequenceTransformer):
        rows = torch.tensor([list(order) for order in orders])
        queries = prompts.query_tokens
        return _side_by_side(model, inputs[rows], labels[rows], queries, settings, every)
    by_epoch: dict[int, list[Answers]] = {}
    for order in orders:
        chosen = list(order)

        def keep(epoch: int, tuned: nn.Module) -> None:
            by_epoch.setdefault(epoch, []).append(answer_law(tuned, prompts.query_tokens))

        fine_tune(model, inputs[chosen], labels[chosen], settings, watch=keep, every=every)
    return {epoch: torch.stack(answers) for epoch, answers in by_epoch.items()}


class _LabelLoss(nn.Module):
    """The label's loss as a module, so that it can be called with other parameters."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return label_loss(self.model, inputs, labels)


def _side_by_side(
    model: SequenceTransformer,
    inputs: Int[Tensor, "orders n length"],
    labels: Int[Tensor, "orders n"],
    queries: Int[Tensor, "queries prompt"],
    settings: FineTuning,
    every: int,
) -> dict[int, Float[Tensor, "orders queries vocabulary"]]:
    """What :func:`fine_tuned_answers` gives, the copies of the model stacked along a dimension.

    Descent and Adam change every entry by itself, so that stacking changes nothing but the time.
    """
    check_integer("every", every, at_least=1)
    loss = _LabelLoss(model)
    copies = {
        name: p.detach().expand(len(labels), *p.shape).clone().requires_grad_(True)
        for name, p in loss.named_parameters()
    }
    moving = {f"model.{part.name}": part.where for part in parts_of(model, settings.parts)}
    kind = torch.optim.SGD if settings.optimizer == "descent" else torch.optim.Adam
    optimizer = kind([copies[name] for name in moving], lr=float(settings.learning_rate))
    losses = vmap(lambda own, some, told: functional_call(loss, own, (some, told)))
    answers = vmap(
        lambda own: functional_call(model, {k.removeprefix("model."): v for k, v in own.items()},
                                    (queries,))[:, -1].exp()
    )  # fmt: skip
    size, by_epoch = settings.batch_size or labels.shape[1], {}
    for epoch in range(settings.epochs + 1):
        if epoch % every == 0 or epoch == settings.epochs:
            with torch.no_grad():
                by_epoch[epoch] = answers(copies)
        if epoch == settings.epochs:
            break
        for some, told in zip(inputs.split(size, 1), labels.split(size, 1), strict=True):
            gradients = torch.autograd.grad(
                losses(copies, some, told).sum(), [copies[name] for name in moving]
            )
            for (name, where), gradient in zip(moving.items(), gradients, strict=True):
                if where is not None:
                    kept = torch.zeros_like(gradient)
                    kept[:, *where] = gradient[:, *where]
                    gradient = kept
                copies[name].grad = gradient
            optimizer.step()
    return by_epoch


def labelled_prompts(
    who: Subject, task: str, labels: str, n: int, n_queries: int, seed: int
) -> Any:
    """Prompts that share demonstrations with right labels, with some wrong, or with random ones.

    Args:
        who: who is asked.
        task: of the subject.
        labels: one of :data:`LABELS`: ``"gold"``, ``"a quarter wrong"`` (turned to the task's next
            label; their number must be whole), or ``"random"``.
        n, n_queries: demonstrations, and queries, which are the same for every seed.
        seed: of the demonstrations and of what is done to their labels.
    """
    check_choice("labels", labels, LABELS)
    shown = who.drawn(task, n, 1, seed)
    if labels == "a quarter wrong":
        shown = flipped(shown, 0.25, generator=seeded(seed))
    if labels == "random":
        shown = random_labels(shown, generator=seeded(seed))
    return shown.with_queries_of(who.drawn(task, 0, n_queries, QUERY_SEED))


def swap_effect(
    first: Callable[[Tensor], Tensor],
    second: Callable[[Tensor], Tensor],
    weights: Float[Tensor, " weights"],
    learning_rate: float | int,
) -> Float[Tensor, " weights"]:
    """By how much two steps of descent end elsewhere when they change places, to second order.

    A step on ``first``, then one on ``second``, less the same in the other order:
    ``eta^2 (H_2 g_1 - H_1 g_2)``, gradients and Hessians at ``weights``. Exact for quadratic
    losses. The first order of a pass over demonstrations is the same sum of gradients in every
    order, so that this is where an order begins to matter.

    Args:
        first, second: losses of two examples, ``weights -> number``.
    """

    def curved(own: Callable, other: Callable) -> Tensor:
        """``H_own g_other``."""
        return jvp(grad(own), (weights,), (grad(other)(weights),))[1]

    difference = curved(second, first) - curved(first, second)
    return float(learning_rate) ** 2 * difference


def order_averaged(model: nn.Module, prompts: Any) -> Answers:
    """Mean answers over all orders of a few demonstrations: in-context learning without an order.

    Raises:
        ValueError: more than six demonstrations, which have more orders than one would wait for.
    """
    if prompts.n > 6:
        raise ValueError(f"prompts: {prompts.n} demonstrations; use six or fewer")
    return in_context_answers(model, prompts, list(itertools.permutations(range(prompts.n)))).mean(
        0
    )


def theorem_gap(
    model: nn.Module, prompts: Any, settings: FineTuning, first: Order, second: Order
) -> tuple[float, float]:
    """The two sides of theorem 1: the largest difference that two orders make to an answer.

    Returns:
        in context, and to the model fine-tuned with ``settings``, which answers without
        demonstrations.
    """
    context = in_context_answers(model, prompts, [first, second])
    tuned = fine_tuned_answers(
        model, prompts, [first, second], settings, every=settings.epochs or 1
    )
    last = tuned[settings.epochs]
    return tuple((side[0] - side[1]).abs().max().item() for side in (context, last))
