"""Does the order of demonstrations matter, in context and to descent? Theorem 1 as a test.

If an algorithm on the weights were equivalent to in-context learning, so that the model with
demonstrations ``S`` answers as the model changed by the algorithm without them, then for two orders
of ``S``, and every query ``x``,

.. math:: M_{\\Theta_0}(\\sigma_A \\circ x) - M_{\\Theta_0}(\\sigma_B \\circ x)
          = M_{\\Theta_{\\sigma_A}}(x) - M_{\\Theta_{\\sigma_B}}(x)

[shen2024pretrained, theorem 1]. Full-batch gradient descent makes the right side 0, in-context
learning does not make the left side 0, so the two are not equivalent. That rules out full-batch
descent, and an exact equivalence; descent in small batches has an order too, of the size of the
square of its step.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.runtime import check_integer

Order = Sequence[int]
Answers = Float[Tensor, "queries vocabulary"]


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

    The demonstrations are those of the first prompt; the queries stand alone.
    """
    inputs, labels = prompts.demonstrations(0)
    by_epoch: dict[int, list[Answers]] = {}
    for order in orders:
        chosen = list(order)

        def keep(epoch: int, tuned: nn.Module) -> None:
            by_epoch.setdefault(epoch, []).append(answer_law(tuned, prompts.query_tokens))

        fine_tune(model, inputs[chosen], labels[chosen], settings, watch=keep, every=every)
    return {epoch: torch.stack(answers) for epoch, answers in by_epoch.items()}


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
