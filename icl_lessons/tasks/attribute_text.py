"""A language small enough to pretrain on, in which in-context learning emerges: attribute text.

A *sentence* is a noun and a predicate. The noun has a topic (of 4) and a kind (of 2), the predicate
a stance (of 3) and a mood (of 2), none of them written out: which word has which, a model has to
learn. After a sentence the writer may add a *remark*: one label word about one attribute.

.. code-block:: text

    [filler] noun predicate [A label] B     A announces a remark, as a colon; B ends the sentence

Which attribute is remarked on, and whether by its right name, is the document's hidden *mode*. It
is drawn anew at each sentence with probability ``hazard``. *Canonical* remarks name the value of
the attribute, *contrary* ones the next value; *incoherent* ones choose another attribute every
time; *plain* text has none. A document keeps one pair of separators ``(A, B)``. Five pairs never
occur in documents: prompts use them, so that no prompt has been seen in training
(:mod:`icl_lessons.tasks.attribute_prompts`).

Nothing here is an in-context learning task: the only loss on it is that of the next token. The
language was made for this course, as a small analogue of the classification data of
[shen2024pretrained].
"""

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icl_lessons.runtime import check_choice, check_integer, check_number
from icl_lessons.tasks.drawing import drawing_device

Tokens = Int[Tensor, "batch length"]

SYNONYMS_OF_NOUNS, SYNONYMS_OF_PREDICATES, SEPARATORS = 2, 3, 5
_NOUNS = [
    f"{t}{k}{s}" for t in ("ball", "coin", "atom", "flag") for k in ("er", "ist") for s in "ab"
]
_PREDICATES = [f"{s}{m}{i}" for s in ("ay", "nay", "may") for m in ("joy", "woe") for i in "abc"]
_LABELS = ["sport", "money", "science", "world", "yes", "no", "maybe", "good", "bad"]
_FILLERS = ["well", "so", "then", "now", "here", "oh", "ka", "ke", "ki", "ko", "ku", "ky"]

VOCABULARY: tuple[str, ...] = (
    "<begin>",
    *(f"{c}:" for c in "abcde"),
    *(f"{c}." for c in "abcde"),
    *_NOUNS,
    *_PREDICATES,
    *_LABELS,
    *_FILLERS,
)
"""The 66 words, by token."""

BEGIN = 0
FIRST_A, FIRST_B = 1, 1 + SEPARATORS
FIRST_NOUN = FIRST_B + SEPARATORS
FIRST_PREDICATE = FIRST_NOUN + len(_NOUNS)
FIRST_LABEL = FIRST_PREDICATE + len(_PREDICATES)
FIRST_FILLER = FIRST_LABEL + len(_LABELS)
FIRST_CODE = FIRST_FILLER + 6
"""The first of six fillers that serve as labels no document ever used."""


class Attribute(NamedTuple):
    """One thing a remark can be about.

    Attributes:
        name: as arguments name it.
        values: how many there are.
        labels: the label words of the values, as tokens.
        stands_for: the data set of [shen2024pretrained] that it is an analogue of.
    """

    name: str
    values: int
    labels: tuple[int, ...]
    stands_for: str


def _labels(*words: str) -> tuple[int, ...]:
    return tuple(VOCABULARY.index(word) for word in words)


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("topic", 4, _labels("sport", "money", "science", "world"), "AGNews"),
    Attribute("stance", 3, _labels("yes", "no", "maybe"), "CB"),
    Attribute("mood", 2, _labels("good", "bad"), "SST-2"),
    Attribute("kind", 2, _labels("yes", "no"), "RTE"),
)
"""Stance and kind share label words, as CB and RTE do; topic and mood have their own."""

NAMES = tuple(attribute.name for attribute in ATTRIBUTES)
PLAIN, CANONICAL, CONTRARY, INCOHERENT = range(4)


def attribute_named(name: str) -> Attribute:
    """The attribute of that name.

    Raises:
        ValueError: no such attribute.
    """
    check_choice("attribute", name, NAMES)
    return ATTRIBUTES[NAMES.index(name)]


def words(tokens: Int[Tensor, " length"]) -> str:
    """Tokens as text."""
    return " ".join(VOCABULARY[int(token)] for token in tokens)


@dataclass(frozen=True)
class AttributeDocuments:
    """Documents, and what their writer had in mind.

    Attributes:
        tokens: the text, ``[batch, length]``.
        is_label: where a label word stands, ``[batch, length]``.
        kind: ``PLAIN``, ``CANONICAL``, ``CONTRARY`` or ``INCOHERENT`` at each token's sentence.
        attribute: which attribute the sentence's remark is about, if it has one.
        gold: the label word that names the value rightly, at each token's sentence.
    """

    tokens: Tokens
    is_label: Bool[Tensor, "batch length"]
    kind: Tokens
    attribute: Tokens
    gold: Tokens

    def to(self, *args, **kwargs) -> "AttributeDocuments":
        """The same documents on another device (arguments of ``Tensor.to``)."""
        return replace(
            self, **{f.name: getattr(self, f.name).to(*args, **kwargs) for f in fields(self)}
        )

    def __len__(self) -> int:
        return self.tokens.shape[0]


@dataclass(frozen=True, kw_only=True)
class AttributeText:
    """The law of the documents.

    Attributes:
        hazard: probability that the mode is drawn anew at a sentence.
        noise: probability that the value of a remark is replaced by a uniform one.
        plain, canonical, contrary, incoherent: probabilities of the kinds of mode; the attribute is
            uniform.
        remark_probability: that a sentence of a mode with remarks has one.
        filler_probability: that a filler precedes a sentence.
    """

    hazard: float | int = 0.05
    noise: float | int = 0.1
    plain: float | int = 0.07
    canonical: float | int = 0.65
    contrary: float | int = 0.20
    incoherent: float | int = 0.08
    remark_probability: float | int = 0.85
    filler_probability: float | int = 0.08

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            check_number(field.name, value)
            if not 0 <= value <= 1:
                raise ValueError(f"{field.name}: got {value}; use a probability, from 0 to 1")
        if abs(sum(self.kinds) - 1) > 1e-9:
            raise ValueError(
                f"plain, canonical, contrary, incoherent: got {self.kinds}; they must sum to 1"
            )

    @property
    def kinds(self) -> tuple[float, float, float, float]:
        """Probabilities of the kinds of mode, in the order of their numbers."""
        chances = (self.plain, self.canonical, self.contrary, self.incoherent)
        return tuple(float(p) for p in chances)

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(VOCABULARY)

    # --- documents ------------------------------------------------------------------------------

    def sample(
        self,
        batch_size: int,
        length: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        fast: bool = False,
    ) -> AttributeDocuments:
        """Documents of ``length`` tokens.

        Args:
            batch_size: number of documents.
            length: tokens in each, the begin token included; the last sentence may be cut.
            generator: the only source of chance.
            device: where the documents are wanted; drawn on the CPU and then moved.
            fast: draw there instead.

        Raises:
            ValueError: a size below 1, or a generator on another device.
        """
        check_integer("batch_size", batch_size, at_least=1)
        check_integer("length", length, at_least=2)
        draw = Draw(generator, drawing_device(generator, device, fast))
        size = (batch_size, length // 3 + 2)  # a sentence has three tokens or more
        values, sentence = draw.sentences(size)

        anew = draw.chance(self.hazard, size)
        anew[:, 0] = True
        place = torch.arange(size[1], device=draw.device).expand(size)
        drawn_at = (place * anew).cummax(1).values
        kind = draw.choice(self.kinds, size).gather(1, drawn_at)
        own = draw.integer(len(ATTRIBUTES), size)
        attribute = torch.where(kind == INCOHERENT, own, own.gather(1, drawn_at))

        value = values.gather(-1, attribute[..., None])[..., 0]
        gold = draw.label_of(attribute, value)
        value = torch.where(draw.chance(self.noise, size), draw.value_of(attribute), value)
        label = draw.label_of(attribute, value + (kind == CONTRARY))

        pair = draw.integer(SEPARATORS * (SEPARATORS - 1), (batch_size, 1)).expand(size)
        a, b = pair // (SEPARATORS - 1), pair % (SEPARATORS - 1)
        b = b + (b >= a)  # never the same letter: those pairs are kept for prompts
        filler = FIRST_FILLER + draw.integer(len(_FILLERS), size)
        remark = (kind != PLAIN) & draw.chance(self.remark_probability, size)
        always = torch.ones_like(remark)
        written = torch.stack(
            [filler, sentence[..., 0], sentence[..., 1], FIRST_A + a, label, FIRST_B + b], -1
        )
        there = torch.stack(
            [draw.chance(self.filler_probability, size), always, always, remark, remark, always], -1
        )
        order = (~there).flatten(1).to(torch.uint8).argsort(dim=1, stable=True)[:, : length - 1]

        def laid_out(parts: Tensor, first: int | bool) -> Tensor:
            rows = parts.flatten(1).gather(1, order)
            return torch.cat([rows.new_full((batch_size, 1), first), rows], 1)

        is_label = torch.zeros_like(there)
        is_label[..., 4] = True
        around = (part[..., None].expand(*size, 6) for part in (kind, attribute, gold))
        documents = AttributeDocuments(
            laid_out(written, BEGIN),
            laid_out(is_label, False),
            *(laid_out(part, 0) for part in around),
        )
        return documents if device is None else documents.to(device)

    # --- what a reader of many documents could know ---------------------------------------------

    @property
    def mode_prior(self) -> Float[Tensor, " modes"]:
        """Probabilities of the modes that a remark can come from, given that there is one.

        Canonical for each attribute, contrary for each, incoherent; in float64.
        """
        each = len(ATTRIBUTES)
        weights = [self.canonical / each] * each + [self.contrary / each] * each + [self.incoherent]
        return torch.tensor(weights, dtype=torch.float64) / (1 - self.plain)

    @property
    def remark_hazard(self) -> float:
        """Probability that the mode was drawn anew between two remarks that follow each other.

        Drawing a plain mode would have left the second sentence without a remark, so it is less
        than ``hazard``.
        """
        kept = (1 - self.plain) * self.hazard
        return kept / (1 - self.plain * self.hazard)

    def label_law(
        self, values: Int[Tensor, "*sentences attributes"]
    ) -> Float[Tensor, "*sentences modes vocabulary"]:
        """The probability of every label word under each mode, in float64.

        Args:
            values: of the four attributes in each sentence.
        """
        shape, laws = values.shape[:-1], []
        for shift in (0, 1):
            for place, attribute in enumerate(ATTRIBUTES):
                names = torch.tensor(attribute.labels, device=values.device)
                law = torch.zeros(
                    *shape, self.vocabulary, dtype=torch.float64, device=values.device
                )
                law[..., names] = self.noise / attribute.values
                told = names[(values[..., place] + shift) % attribute.values]
                law.scatter_add_(-1, told[..., None], torch.full_like(law[..., :1], 1 - self.noise))
                laws.append(law)
        laws.append(torch.stack(laws[: len(ATTRIBUTES)]).mean(0))
        return torch.stack(laws, -2)


class Draw:
    """Draws of one call, from one generator, on its device."""

    def __init__(self, generator: torch.Generator, device: torch.device):
        self.generator, self.device = generator, device
        self.counts = torch.tensor([a.values for a in ATTRIBUTES], device=device)
        rows = [(a.labels * 4)[:4] for a in ATTRIBUTES]  # filled up to the same length
        self.table = torch.tensor(rows, device=device)

    def uniform(self, size: tuple[int, ...]) -> Float[Tensor, "*size"]:
        return torch.rand(size, generator=self.generator, device=self.device)

    def integer(self, below: int, size: tuple[int, ...]) -> Int[Tensor, "*size"]:
        return torch.randint(below, size, generator=self.generator, device=self.device)

    def chance(self, probability: float | int, size: tuple[int, ...]) -> Bool[Tensor, "*size"]:
        return self.uniform(size) < probability

    def choice(self, law: tuple[float, ...], size: tuple[int, ...]) -> Int[Tensor, "*size"]:
        edges = torch.tensor(law, device=self.device).cumsum(0)[:-1]
        return torch.bucketize(self.uniform(size), edges, right=True)

    def value_of(self, attribute: Int[Tensor, "*size"]) -> Int[Tensor, "*size"]:
        """A uniform value of each attribute."""
        counts = self.counts[attribute]
        return (self.uniform(tuple(attribute.shape)) * counts).long().clamp_max(counts - 1)

    def label_of(
        self, attribute: Int[Tensor, "*size"], value: Int[Tensor, "*size"]
    ) -> Int[Tensor, "*size"]:
        """The label word of a value, or of the next one where the value is one too large."""
        return self.table[attribute, value % self.counts[attribute]]

    def sentences(
        self, size: tuple[int, int]
    ) -> tuple[Int[Tensor, "*size attributes"], Int[Tensor, "*size 2"]]:
        """Values of the attributes, and noun and predicate that have them."""
        topic, stance, mood, kind = (self.integer(a.values, size) for a in ATTRIBUTES)
        noun = (topic * 2 + kind) * SYNONYMS_OF_NOUNS + self.integer(SYNONYMS_OF_NOUNS, size)
        predicate = (stance * 2 + mood) * SYNONYMS_OF_PREDICATES
        predicate = predicate + self.integer(SYNONYMS_OF_PREDICATES, size)
        sentence = torch.stack([FIRST_NOUN + noun, FIRST_PREDICATE + predicate], -1)
        return torch.stack([topic, stance, mood, kind], -1), sentence
