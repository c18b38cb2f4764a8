"""Classification of real text in context: data, label words, and prompts of tokens.

The four tasks of Shen et al., written as :mod:`~icl_lessons.language_models.text_templates` has it.
What is scored is the first token of a label word, so the first tokens of a task's words must
differ.

Data are a file of JSON lines, ``{"text": ..., "label": 0}`` or with ``premise`` and ``hypothesis``,
or a data set of the hub. Prompts have the interface of
:class:`~icl_lessons.tasks.attribute_prompts.AttributePrompts`, so every experiment runs on both.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from icl_lessons.language_models.text_templates import (
    LAYOUTS,
    STRANGE_INPUTS,
    SYMBOLS,
    TEMPLATES,
    Template,
)
from icl_lessons.models.pretrained import PretrainedLM, padded
from icl_lessons.runtime import check_choice, check_integer

__all__ = [
    "HUB",
    "TEMPLATES",
    "Example",
    "Template",
    "TextPrompts",
    "TextTask",
    "hub_examples",
    "read_examples",
]

Tokens = Int[Tensor, "batch length"]


HUB: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "agnews": ("fancyzhx/ag_news", None, {"text": "text"}),
    "sst2": ("stanfordnlp/sst2", None, {"text": "sentence"}),
    "cb": ("aps/super_glue", "cb", {"premise": "premise", "hypothesis": "hypothesis"}),
    "rte": ("aps/super_glue", "rte", {"premise": "premise", "hypothesis": "hypothesis"}),
}
"""For each task the data set, its part, and which of its columns are the template's fields."""


@dataclass(frozen=True)
class Example:
    """One classified text.

    Attributes:
        fields: what the template's names stand for.
        label: from 0.
    """

    fields: dict[str, str]
    label: int


def read_examples(path: str | Path) -> list[Example]:
    """Examples from a file of JSON lines, one object each with ``label`` and the text's fields.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line that is no such object; says which.
    """
    examples = []
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            label = entry.pop("label")
            if not isinstance(label, int) or not all(isinstance(v, str) for v in entry.values()):
                raise ValueError
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(
                f'path: line {number} of {path} is not as {{"text": "...", "label": 0}}'
            ) from None
        examples.append(Example(entry, label))
    if not examples:
        raise ValueError(f"path: {path} holds no examples")
    return examples


def hub_examples(task: str, split: str = "train", limit: int = 2000) -> list[Example]:
    """Examples of one of the four tasks from the hub.

    Args:
        task: one of :data:`HUB`.
        split: of the data set.
        limit: as many of its first examples at most.

    Raises:
        ImportError: the package ``datasets`` is not installed.
        OSError: the data cannot be had; the message says what to do without a network.
    """
    check_choice("task", task, tuple(HUB))
    try:
        from datasets import load_dataset
    except ImportError as problem:
        raise ImportError(
            "the package datasets is needed to ask the hub: pip install datasets; or give a file "
            "of JSON lines"
        ) from problem
    name, part, columns = HUB[task]
    try:
        rows = load_dataset(name, part, split=f"{split}[:{limit}]")
    except Exception as problem:  # the library raises many kinds of error for one cause
        raise OSError(
            f"task: {task!r} could not be loaded from the hub ({str(problem).splitlines()[0]}); "
            "without a network, give a file of JSON lines"
        ) from problem
    return [
        Example({field: row[column] for field, column in columns.items()}, row["label"])
        for row in rows
    ]


@dataclass(frozen=True)
class TextPrompts:
    """Prompts of text, in parts; the counterpart of ``AttributePrompts``.

    A prompt is put together as text and given to the tokeniser whole: many tokenisers cut a piece
    of text in another way when more text follows.

    Attributes:
        written: each demonstration and the query up to where a label comes, ``[batch][n + 1]``.
        template: how they are written.
        encode: from text to tokens.
        choices: the token that is scored for each label, ``[m]``, or ``[batch, m]`` for symbols.
        demonstrated: the labels of the demonstrations, ``[batch, n]``, from 0.
        truth: the query's, ``[batch]``.
        names: words for labels in the demonstrations of each prompt, ``[batch][m]``, in place of
            the template's.
        symbols: their tokens, ``[batch, m]``.
        layout: what is written of each demonstration: one of :data:`LAYOUTS`.
    """

    written: tuple[tuple[str, ...], ...]
    template: Template
    encode: Callable[[str], list[int]]
    choices: Int[Tensor, "*batch m"]
    demonstrated: Int[Tensor, "batch n"]
    truth: Int[Tensor, " batch"]
    names: tuple[tuple[str, ...], ...] | None = None
    symbols: Int[Tensor, "batch m"] | None = None
    layout: str = "whole"

    def __post_init__(self):
        check_choice("layout", self.layout, LAYOUTS)

    def __len__(self) -> int:
        return len(self.written)

    @property
    def n(self) -> int:
        """Demonstrations in each prompt."""
        return self.demonstrated.shape[1]

    @property
    def labels(self) -> Int[Tensor, "batch n"]:
        """What the demonstrations say, as tokens."""
        return self._shown_words.gather(1, self.demonstrated)

    @property
    def answer(self) -> Int[Tensor, " batch"]:
        """The token that is right for the query."""
        return self._scored_words.gather(1, self.truth[:, None])[:, 0]

    @property
    def _scored_words(self) -> Int[Tensor, "batch m"]:
        return self.choices.expand(len(self), self.choices.shape[-1])

    @property
    def _shown_words(self) -> Int[Tensor, "batch m"]:
        return self._scored_words if self.symbols is None else self.symbols

    @property
    def texts(self) -> list[str]:
        """The prompts as they are read."""
        shown, texts = self.template, []
        for row, (written, labels) in enumerate(
            zip(self.written, self.demonstrated.tolist(), strict=True)
        ):
            names = shown.label_words if self.names is None else self.names[row]
            examples = [
                self._example(text, names[label])
                for text, label in zip(written, labels, strict=False)
            ]
            texts.append("".join([shown.instruction, *examples, written[-1]]))
        return texts

    def _example(self, written: str, word: str) -> str:
        """A demonstration, or what the layout leaves of it."""
        after = self.template.after
        if self.layout == "whole":
            return f"{written} {word}{after}"
        if self.layout == "labels":
            return f" {word}{after}"
        bare = self.template.contents(written)
        return f"{bare}{after}" if self.layout == "inputs" else f"{bare} {word} "

    @property
    def tokens(self) -> Tokens:
        """Instruction, demonstrations and query; padded on the left."""
        return padded([self.encode(text) for text in self.texts])

    @property
    def query_tokens(self) -> Tokens:
        """The queries alone, after the instruction."""
        return self._alone([row[-1] for row in self.written])

    def demonstrations(self, row: int = 0) -> tuple[Int[Tensor, "n length"], Int[Tensor, " n"]]:
        """One prompt's demonstrations as queries and label tokens, to fine-tune on."""
        return self._alone(self.written[row][:-1]), self.labels[row]

    def _alone(self, written: Sequence[str]) -> Tokens:
        return padded([self.encode(self.template.instruction + text) for text in written])

    def in_order(self, order: Sequence[int] | Int[Tensor, " kept"]) -> "TextPrompts":
        """The same prompts with their demonstrations in another order, or with some of them."""
        chosen = [int(i) for i in order]
        if any(not 0 <= i < self.n for i in chosen) or len(set(chosen)) < len(chosen):
            raise ValueError(f"order: got {chosen}; use each of 0 to {self.n - 1} at most once")
        return replace(
            self,
            written=tuple((*(row[i] for i in chosen), row[-1]) for row in self.written),
            demonstrated=self.demonstrated[:, chosen],
        )

    def with_queries_of(self, other: "TextPrompts") -> "TextPrompts":
        """The first prompt's demonstrations before every query of ``other``."""
        shown = self.written[0][:-1]
        batch, renamed = len(other), self.symbols is not None
        return replace(
            other,
            written=tuple((*shown, row[-1]) for row in other.written),
            demonstrated=self.demonstrated[:1].expand(batch, -1),
            choices=self.choices[:1].expand(batch, -1) if self.choices.ndim > 1 else other.choices,
            names=self.names[:1] * batch if renamed else None,
            symbols=self.symbols[:1].expand(batch, -1) if renamed else None,
            layout=self.layout,
        )

    def with_labels(
        self, labels: Int[Tensor, "batch n"], answer: Int[Tensor, " batch"] | None = None
    ) -> "TextPrompts":
        """The same prompts with other labels on their demonstrations.

        Args:
            labels: tokens of words that the prompts have for labels.
            answer: what is right for the query from now on; what was right if ``None``.

        Raises:
            ValueError: another shape, or a token that is no label.
        """
        answer = self.answer if answer is None else answer
        for name, new in (("labels", labels), ("answer", answer)):
            if new.shape != getattr(self, name).shape:
                wanted = tuple(getattr(self, name).shape)
                raise ValueError(f"{name}: got shape {tuple(new.shape)}; use {wanted}")
        return replace(
            self,
            demonstrated=_numbers(labels, self._shown_words, "labels"),
            truth=_numbers(answer[:, None], self._scored_words, "answer")[:, 0],
        )

    def with_symbols(self, *, generator: torch.Generator, answer: bool = True) -> "TextPrompts":
        """The same prompts with :data:`SYMBOLS` for label words, drawn anew in each.

        Args:
            generator: the only source of chance.
            answer: whether the answer is renamed too; otherwise the demonstrations alone are.

        Raises:
            ValueError: symbols whose first tokens agree.
        """
        batch, m = len(self), self.choices.shape[-1]
        prompt = self.written[0][-1]
        place = len(self.encode(prompt))
        first = torch.tensor([self.encode(f"{prompt} {symbol}")[place] for symbol in SYMBOLS])
        if len(first.unique()) < len(SYMBOLS):
            raise ValueError(f"symbols: {SYMBOLS} share a first token in this tokeniser")
        drawn = torch.rand(batch, len(SYMBOLS), generator=generator).argsort(1)[:, :m]
        names = tuple(tuple(SYMBOLS[i] for i in row) for row in drawn.tolist())
        choices = first[drawn] if answer else self.choices
        return replace(self, names=names, symbols=first[drawn], choices=choices)

    def with_strange_inputs(self, *, generator: torch.Generator) -> "TextPrompts":
        """The same prompts with :data:`STRANGE_INPUTS` in the fields of the demonstrations."""
        drawn = torch.randint(len(STRANGE_INPUTS), (len(self), self.n), generator=generator)
        written = tuple(
            (*(self.template.filled(STRANGE_INPUTS[i]) for i in chosen), row[-1])
            for chosen, row in zip(drawn.tolist(), self.written, strict=True)
        )
        return replace(self, written=written)

    def with_layout(self, layout: str) -> "TextPrompts":
        """The same prompts with less written of each demonstration: one of :data:`LAYOUTS`."""
        return replace(self, layout=layout)


def _numbers(tokens: Tokens, words: Int[Tensor, "batch m"], name: str) -> Tokens:
    """Which of a prompt's label words each token is."""
    same = tokens[..., None] == words[:, None]
    if not same.any(-1).all():
        raise ValueError(f"{name}: a token that is no label word of these prompts")
    return same.long().argmax(-1)


class TextTask:
    """A classification task as a model reads it.

    Args:
        model: gives the tokens.
        examples: with the fields of the template; demonstrations and queries are drawn from them.
        template: how they are written.

    Raises:
        ValueError: examples without a field or with a label that has no word; label words whose
            first tokens agree; a tokeniser that merges a prompt with its label.
    """

    def __init__(self, model: PretrainedLM, examples: Sequence[Example], template: Template):
        self.template, self.examples = template, list(examples)
        for place, example in enumerate(self.examples):
            if absent := [f for f in template.fields if f not in example.fields]:
                raise ValueError(f"examples: number {place} has no field {absent[0]!r}")
            if not 0 <= example.label < len(template.label_words):
                raise ValueError(
                    f"examples: number {place} has label {example.label}; the template has words "
                    f"for 0 to {len(template.label_words) - 1}"
                )
        self.encode = model.encode
        self._written = [template.pattern.format(**e.fields) for e in self.examples]
        words = [self._tokens_after_a_prompt(word) for word in template.label_words]
        first = [tokens[0] for tokens in words]
        if len(set(first)) < len(first):
            raise ValueError(
                f"template: label words {template.label_words} share a first token; choose others"
            )
        if long := [w for w, t in zip(template.label_words, words, strict=True) if len(t) > 1]:
            warnings.warn(
                f"label words of several tokens: {', '.join(long)}; the first one is scored",
                stacklevel=2,
            )
        self.choices = torch.tensor(first)

    def _tokens_after_a_prompt(self, word: str) -> list[int]:
        """The tokens of a label word where it is written."""
        prompt = self.encode(self._written[0])
        whole = self.encode(f"{self._written[0]} {word}")
        if whole[: len(prompt)] != prompt:
            raise ValueError(
                f"template: the tokeniser merges the end of a prompt with {word!r}; end the "
                "pattern with punctuation"
            )
        return whole[len(prompt) :]

    def prompts(
        self, n: int, batch_size: int, *, generator: torch.Generator, balanced: bool = False
    ) -> TextPrompts:
        """Prompts of examples drawn without repetition inside a prompt.

        Args:
            n: demonstrations in each.
            batch_size: number of prompts.
            generator: the only source of chance.
            balanced: draw as many demonstrations of each label, up to one.

        Raises:
            ValueError: fewer examples than a prompt needs.
        """
        check_integer("n", n, at_least=0)
        check_integer("batch_size", batch_size, at_least=1)
        rows = [self._draw(n, generator, balanced) for _ in range(batch_size)]
        labels = torch.tensor([[self.examples[i].label for i in row] for row in rows])
        written = tuple(tuple(self._written[i] for i in row) for row in rows)
        return TextPrompts(
            written, self.template, self.encode, self.choices, labels[:, :n], labels[:, n]
        )

    def _draw(self, n: int, generator: torch.Generator, balanced: bool) -> list[int]:
        """Numbers of ``n`` demonstrations and of a query."""
        if n + 1 > len(self.examples):
            raise ValueError(f"n: {n} and a query from {len(self.examples)} examples; give more")
        order = torch.randperm(len(self.examples), generator=generator).tolist()
        if not balanced:
            return order[: n + 1]
        query, rest = order[0], order[1:]
        by_label: dict[int, list[int]] = {}
        for i in rest:
            by_label.setdefault(self.examples[i].label, []).append(i)
        turns = [group[k] for k in range(n) for group in by_label.values() if k < len(group)][:n]
        if len(turns) < n:
            raise ValueError(f"n: {n} balanced demonstrations from {len(rest)} examples; give more")
        mixed = torch.randperm(n, generator=generator).tolist()
        return [*(turns[i] for i in mixed), query]
