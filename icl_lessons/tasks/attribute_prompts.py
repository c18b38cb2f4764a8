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
    FIRST_FILLER,
    NAMES,
    SEPARATORS,
    VOCABULARY,
    Draw,
    Tokens,
    attribute_named,
)
from icl_lessons.tasks.drawing import drawing_device

MAPPINGS = {"canonical": 0, "contrary": 1, "novel": 2}
"""By how much the label that a mapping names lies beyond the value. ``"code"`` is the fourth."""

LAYOUTS = {
    "whole": ("input", "announce", "label", "end"),
    "labels": ("label", "end"),
    "inputs": ("input", "end"),
    "run on": ("input", "label"),
}
"""What is written of each demonstration. The query is whole in all of them."""


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
        layout: what is written of each demonstration: one of :data:`LAYOUTS`.
    """

    sentences: Int[Tensor, "batch n_plus_1 2"]
    values: Int[Tensor, "batch n_plus_1 attributes"]
    labels: Int[Tensor, "batch n"]
    answer: Int[Tensor, " batch"]
    separators: Int[Tensor, "batch 2"]
    choices: Int[Tensor, "*batch m"]
    layout: str = "whole"

    def __post_init__(self):
        check_choice("layout", self.layout, tuple(LAYOUTS))

    def __len__(self) -> int:
        return self.answer.shape[0]

    @property
    def n(self) -> int:
        """Demonstrations in each prompt."""
        return self.labels.shape[1]

    @property
    def tokens(self) -> Tokens:
        """``<begin> (noun predicate A label B) x n noun predicate A``, ``[batch, 5 n + 4]``.

        Shorter in a layout that leaves something out.
        """
        batch, n = self.labels.shape
        a, b = (self.separators[:, None, i : i + 1].expand(-1, n, -1) for i in (0, 1))
        label = self.labels[..., None]
        parts = {"input": self.sentences[:, :-1], "announce": a, "label": label, "end": b}
        shown = torch.cat([parts[part] for part in LAYOUTS[self.layout]], -1).flatten(1)
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

    def with_labels(
        self, labels: Int[Tensor, "batch n"], answer: Int[Tensor, " batch"] | None = None
    ) -> "AttributePrompts":
        """The same prompts with other labels on their demonstrations.

        Args:
            labels: any words, as tokens.
            answer: what is right for the query from now on; what was right if ``None``.
        """
        answer = self.answer if answer is None else answer
        for name, new in (("labels", labels), ("answer", answer)):
            if new.shape != getattr(self, name).shape:
                wanted = tuple(getattr(self, name).shape)
                raise ValueError(f"{name}: got shape {tuple(new.shape)}; use {wanted}")
        return replace(self, labels=labels, answer=answer)

    def with_symbols(
        self, *, generator: torch.Generator, answer: bool = True
    ) -> "AttributePrompts":
        """The same prompts with words for labels that were never labels, drawn anew in each.

        Args:
            generator: the only source of chance.
            answer: whether the answer is renamed too; otherwise the demonstrations alone are.

        Raises:
            ValueError: a label or an answer that is none of the choices.
        """
        batch, m = len(self), self.choices.shape[-1]
        codes = torch.rand(batch, 6, generator=generator).argsort(1)[:, :m]
        names = FIRST_CODE + codes.to(self.labels.device)
        before = torch.cat([self.labels, self.answer[:, None]], 1)
        same = before[..., None] == self.choices.expand(batch, m)[:, None]
        if not same.any(-1).all():
            raise ValueError("choices: a label or an answer is none of them")
        after = names.gather(1, same.long().argmax(-1))
        if not answer:
            return replace(self, labels=after[:, :-1])
        return replace(self, labels=after[:, :-1], answer=after[:, -1], choices=names)

    def with_strange_inputs(self, *, generator: torch.Generator) -> "AttributePrompts":
        """The same prompts with fillers for the sentences of the demonstrations.

        ``values`` remain those of the sentences that were there.
        """
        draw = Draw(generator, drawing_device(generator))
        shape = tuple(self.sentences[:, :-1].shape)
        fillers = FIRST_FILLER + draw.integer(len(VOCABULARY) - FIRST_FILLER, shape)
        fillers = fillers.to(self.sentences.device)
        return replace(self, sentences=torch.cat([fillers, self.sentences[:, -1:]], 1))

    def with_layout(self, layout: str) -> "AttributePrompts":
        """The same prompts with less written of each demonstration: one of :data:`LAYOUTS`."""
        return replace(self, layout=layout)

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
            layout=self.layout,
        )

    def to(self, *args, **kwargs) -> "AttributePrompts":
        """The same prompts on another device (arguments of ``Tensor.to``)."""
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layout"}
        return replace(self, **{name: part.to(*args, **kwargs) for name, part in parts.items()})


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
