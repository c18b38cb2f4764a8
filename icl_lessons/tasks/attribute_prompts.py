"""Prompts on attribute text: demonstrations of one attribute, and a query.

A prompt is laid out as the documents of :class:`~icl_lessons.tasks.attribute_text.AttributeText`
are, but it is none of them: every sentence has a remark, all are about one attribute, none is
wrong by chance, and the pair of separators is one that no document uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from icl_lessons.runtime import check_choice, check_integer
from icl_lessons.tasks.attribute_text import (
    BEGIN,
    FIRST_A,
    FIRST_B,
    FIRST_CODE,
    NAMES,
    SEPARATORS,
    Draw,
    Tokens,
    attribute_named,
)
from icl_lessons.tasks.drawing import drawing_device

MAPPINGS = {"canonical": 0, "contrary": 1, "novel": 2}
"""By how much the label that a mapping names lies beyond the value. ``"code"`` is the fourth."""


@dataclass(frozen=True)
class AttributePrompts:
    """Demonstrations and a query for each prompt, in parts, so that every method sees the same.

    Attributes:
        sentences: noun and predicate of the demonstrations and of the query,
            ``[batch, n + 1, 2]``.
        values: of the four attributes in each sentence, ``[batch, n + 1, 4]``.
        labels: what the demonstrations say, ``[batch, n]``.
        answer: the label word that is right for the query, ``[batch]``.
        separators: A and B of each prompt, ``[batch, 2]``.
        choices: the label words of the task, ``[m]``, or ``[batch, m]`` where they are drawn.
    """

    sentences: Int[Tensor, "batch n_plus_1 2"]
    values: Int[Tensor, "batch n_plus_1 attributes"]
    labels: Int[Tensor, "batch n"]
    answer: Int[Tensor, " batch"]
    separators: Int[Tensor, "batch 2"]
    choices: Int[Tensor, "*batch m"]

    def __len__(self) -> int:
        return self.answer.shape[0]

    @property
    def n(self) -> int:
        """Demonstrations in each prompt."""
        return self.labels.shape[1]

    @property
    def tokens(self) -> Tokens:
        """``<begin> (noun predicate A label B) x n noun predicate A``, ``[batch, 5 n + 4]``."""
        batch, n = self.labels.shape
        a, b = (self.separators[:, None, i : i + 1].expand(-1, n, -1) for i in (0, 1))
        shown = torch.cat([self.sentences[:, :-1], a, self.labels[..., None], b], -1).flatten(1)
        begin = self.labels.new_full((batch, 1), BEGIN)
        return torch.cat([begin, shown, self.sentences[:, -1], self.separators[:, :1]], 1)

    @property
    def query_tokens(self) -> Tokens:
        """The query without demonstrations: ``<begin> noun predicate A``, ``[batch, 4]``."""
        begin = self.answer.new_full((len(self), 1), BEGIN)
        return torch.cat([begin, self.sentences[:, -1], self.separators[:, :1]], 1)

    @property
    def demonstration_tokens(self) -> Int[Tensor, "batch n 4"]:
        """Each demonstration as a query of its own, to fine-tune on."""
        batch, n = self.labels.shape
        begin = self.labels.new_full((batch, n, 1), BEGIN)
        a = self.separators[:, None, :1].expand(-1, n, -1)
        return torch.cat([begin, self.sentences[:, :-1], a], -1)

    def demonstrations(self, row: int = 0) -> tuple[Int[Tensor, "n 4"], Int[Tensor, " n"]]:
        """One prompt's demonstrations as queries and labels, to fine-tune on."""
        return self.demonstration_tokens[row], self.labels[row]

    def in_order(self, order: Sequence[int] | Int[Tensor, " kept"]) -> "AttributePrompts":
        """The same prompts with their demonstrations in another order, or with some of them.

        Raises:
            ValueError: a demonstration that is not there, or one named twice.
        """
        chosen = [int(i) for i in order]
        if any(not 0 <= i < self.n for i in chosen) or len(set(chosen)) < len(chosen):
            raise ValueError(f"order: got {chosen}; use each of 0 to {self.n - 1} at most once")
        kept = [*chosen, self.n]
        return replace(
            self,
            sentences=self.sentences[:, kept],
            values=self.values[:, kept],
            labels=self.labels[:, chosen],
        )

    def with_labels(self, labels: Int[Tensor, "batch n"]) -> "AttributePrompts":
        """The same prompts with other labels on their demonstrations."""
        if labels.shape != self.labels.shape:
            raise ValueError(
                f"labels: got shape {tuple(labels.shape)}; use {tuple(self.labels.shape)}"
            )
        return replace(self, labels=labels)

    def with_queries_of(self, other: "AttributePrompts") -> "AttributePrompts":
        """The first prompt's demonstrations before every query of ``other``."""
        batch = len(other)

        def first(part: Tensor) -> Tensor:
            return part[:1].expand(batch, *part.shape[1:])

        return replace(
            other,
            sentences=torch.cat([first(self.sentences[:, :-1]), other.sentences[:, -1:]], 1),
            values=torch.cat([first(self.values[:, :-1]), other.values[:, -1:]], 1),
            labels=first(self.labels),
            separators=first(self.separators),
        )

    def to(self, *args, **kwargs) -> "AttributePrompts":
        """The same prompts on another device (arguments of ``Tensor.to``)."""
        return replace(
            self, **{f.name: getattr(self, f.name).to(*args, **kwargs) for f in fields(self)}
        )


def attribute_prompts(
    attribute: str,
    n: int,
    batch_size: int,
    *,
    generator: torch.Generator,
    mapping: Literal["canonical", "contrary", "novel", "code"] = "canonical",
    separators: Literal["held_out", "seen"] = "held_out",
) -> AttributePrompts:
    """Prompts with right labels; noise and modes have no part in them.

    Args:
        attribute: what the labels are about: one of :data:`NAMES`.
        n: demonstrations in each.
        batch_size: number of prompts.
        generator: the only source of chance.
        mapping: ``"canonical"``: the label that names the value. ``"contrary"``: the next one,
            rare in documents. ``"novel"``: the one after that, in no document. ``"code"``:
            words that were never labels, assigned to the values anew in each prompt.
        separators: a pair that documents use, or one that they never do.

    Raises:
        ValueError: an unknown name, a negative number, or a novel mapping for an attribute of
            two values, where it would be the canonical one.
    """
    chosen = attribute_named(attribute)
    check_integer("n", n, at_least=0)
    check_integer("batch_size", batch_size, at_least=1)
    check_choice("mapping", mapping, (*MAPPINGS, "code"))
    check_choice("separators", separators, ("held_out", "seen"))
    if mapping == "novel" and chosen.values < 3:
        raise ValueError(f"mapping: {attribute} has two values; a novel mapping needs three")
    draw = Draw(generator, drawing_device(generator))
    values, sentence = draw.sentences((batch_size, n + 1))
    value = values[..., NAMES.index(attribute)]
    if mapping == "code":
        codes = torch.rand(batch_size, 6, generator=generator).argsort(1)[:, : chosen.values]
        choices = FIRST_CODE + codes
        label = choices.gather(1, value)
    else:
        choices = torch.tensor(chosen.labels)
        label = choices[(value + MAPPINGS[mapping]) % chosen.values]
    a = draw.integer(SEPARATORS, (batch_size,))
    apart = draw.integer(SEPARATORS - 1, (batch_size,)) + 1 if separators == "seen" else 0
    pair = torch.stack([FIRST_A + a, FIRST_B + (a + apart) % SEPARATORS], -1)
    return AttributePrompts(sentence, values, label[:, :-1], label[:, -1], pair, choices)
