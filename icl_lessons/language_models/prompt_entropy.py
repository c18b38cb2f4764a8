"""Choosing an order of demonstrations without labelled data, by the entropy of answers.

Lu et al. let the model itself write inputs: after the demonstrations, in every order, it continues
with sentences of the same kind, and their labels are thrown away. On these *probes* each order is
scored by how its answers spread over the labels, and the orders of highest entropy are kept
[lu2022fantastically]. An order whose every answer is the same label scores lowest.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.order import Order
from icl_lessons.language_models.text_tasks import TextPrompts
from icl_lessons.runtime import check_integer
from icl_lessons.tasks.attribute_prompts import AttributePrompts
from icl_lessons.tasks.attribute_text import FIRST_LABEL, FIRST_NOUN, FIRST_PREDICATE

LabelLaws = Float[Tensor, "*orders probes labels"]
FLOOR = 1e-5


def global_entropy(laws: LabelLaws) -> Float[Tensor, "*orders"]:
    """``GlobalE``: entropy, in nats, of how often each label is the answer over all probes.

    A label that is never the answer counts ``1e-5`` [lu2022fantastically, released code].
    """
    labels = laws.shape[-1]
    answers = torch.nn.functional.one_hot(laws.argmax(-1), labels).to(laws.dtype)
    share = answers.mean(-2).clamp_min(FLOOR)
    return -(share * share.log()).sum(-1)


def local_entropy(laws: LabelLaws) -> Float[Tensor, "*orders"]:
    """``LocalE``: mean entropy, in nats, of the label law of each probe [lu2022fantastically]."""
    return -torch.xlogy(laws, laws).sum(-1).mean(-1)


def best_orders(scores: Float[Tensor, "*sets orders"], keep: int = 4) -> Int[Tensor, "*sets kept"]:
    """Numbers of the orders with the highest scores."""
    check_integer("keep", keep, at_least=1)
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :keep]


def continued(
    model: nn.Module, tokens: Int[Tensor, "batch length"], steps: int, *, generator: torch.Generator
) -> Int[Tensor, "batch steps"]:
    """Tokens that the model writes on, each drawn from its own law.

    Args:
        steps: how many tokens.
        generator: the only source of chance.
    """
    start = tokens.shape[1]
    with torch.no_grad():
        for _ in range(steps):
            law = model(tokens)[:, -1].exp()
            tokens = torch.cat([tokens, torch.multinomial(law, 1, generator=generator)], 1)
    return tokens[:, start:]


def self_generated_probes(
    model: nn.Module,
    prompts: Any,
    orders: Sequence[Order],
    per_order: int,
    *,
    generator: torch.Generator,
    steps: int = 48,
) -> Any:
    """The demonstrations before inputs that the model wrote itself.

    Args:
        prompts: that share their demonstrations.
        orders: of the demonstrations; the model writes after each.
        per_order: attempts after each order; what does not read as an input is thrown away.
        steps: tokens of an attempt, for a model of text.

    Returns:
        prompts of the same kind; their answers mean nothing.

    Raises:
        ValueError: none of the attempts reads as an input.
    """
    check_integer("per_order", per_order, at_least=1)
    write = _written_text if isinstance(prompts, TextPrompts) else _written_sentences
    found = [
        probe
        for order in orders
        for probe in write(model, prompts.in_order(order), per_order, steps, generator)
    ]
    if not found:
        raise ValueError(
            f"per_order: none of {per_order * len(orders)} attempts reads as an input; allow more "
            "attempts, or more steps to each"
        )
    if isinstance(prompts, TextPrompts):
        shown = prompts.written[0][:-1]
        return replace(
            prompts,
            written=tuple((*shown, text) for text in found),
            demonstrated=prompts.demonstrated[:1].expand(len(found), -1),
            truth=torch.zeros(len(found), dtype=torch.long),
        )
    sentences = torch.stack(found)
    return prompts.with_queries_of(
        AttributePrompts(
            sentences[:, None],
            sentences.new_zeros(len(found), 1, prompts.values.shape[-1]),
            sentences.new_zeros(len(found), 0),
            prompts.choices[:1].expand(len(found)),
            prompts.separators[:1].expand(len(found), -1),
            prompts.choices,
        )
    )


def _written_sentences(
    model: nn.Module, prompts: AttributePrompts, count: int, steps: int, generator: torch.Generator
) -> list[Int[Tensor, " 2"]]:
    """Nouns and predicates that follow demonstrations of attribute text."""
    shown = prompts.tokens[:1, :-3].expand(count, -1)
    noun, predicate = continued(model, shown, 2, generator=generator).unbind(1)
    reads = (FIRST_NOUN <= noun) & (noun < FIRST_PREDICATE)
    reads &= (FIRST_PREDICATE <= predicate) & (predicate < FIRST_LABEL)
    return list(torch.stack([noun, predicate], -1)[reads])


def _written_text(
    model: nn.Module, prompts: TextPrompts, count: int, steps: int, generator: torch.Generator
) -> list[str]:
    """Inputs in the words of the template that follow demonstrations of text."""
    shown = prompts.texts[0][: -len(prompts.written[0][-1])]
    tokens = torch.tensor([prompts.encode(shown)]).expand(count, -1)
    pattern = re.escape(prompts.template.pattern)
    reads = re.compile(re.sub(r"\\{\w+\\}", lambda _: "([^\n]+?)", pattern))
    rows = continued(model, tokens, steps, generator=generator)
    texts = [model.tokenizer.decode(row.tolist()) for row in rows]
    return [found[0] for text in texts if (found := reads.match(text))]
