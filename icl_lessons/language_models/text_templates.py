"""How examples of real text are written down: templates and label words.

The four tasks of Shen et al., whose own templates are not given, in the templates that Lu et al.
released [lu2022fantastically] (and, for comparison, those of [zhao2021calibrate]). A template
ends where the label comes, without a space; the label word brings its own.
"""

import re
import string
from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """How an example is written down.

    Attributes:
        pattern: the example up to its label, with a name in braces for each field; no space at the
            end.
        label_words: by label; written after a space.
        after: what follows a label word.
        instruction: what stands before the first example.
    """

    pattern: str
    label_words: tuple[str, ...]
    after: str = "\n\n"
    instruction: str = ""

    def __post_init__(self):
        if not self.fields or self.pattern != self.pattern.rstrip():
            raise ValueError(
                f"pattern: got {self.pattern!r}; name a field in braces, and end without a space: "
                "the label word brings it"
            )
        if len(set(self.label_words)) < max(2, len(self.label_words)):
            raise ValueError(f"label_words: got {self.label_words}; use two or more, all different")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        found = [name for _, name, _, _ in string.Formatter().parse(self.pattern) if name]
        return tuple(dict.fromkeys(found))

    def filled(self, text: str) -> str:
        """The pattern with the same text for every field."""
        return self.pattern.format(**dict.fromkeys(self.fields, text))

    def contents(self, written: str) -> str:
        """What stands in the fields of a written example, without anything of the pattern."""
        pieces = string.Formatter().parse(self.pattern)
        form = "".join(re.escape(text) + ("(.*)" if name else "") for text, name, _, _ in pieces)
        return " ".join(re.fullmatch(form, written, re.DOTALL).groups())


SYMBOLS = ("A", "B", "C", "D", "E", "F")
"""Words that stand for labels without meaning one."""

STRANGE_INPUTS = (
    "The ferry leaves the harbour at nine.",
    "Two ladders lean against the shed.",
    "Basil grows best in a warm window.",
    "The clock in the hall runs slow.",
    "A key lies under the third stone.",
    "Snow fell on the pass in October.",
    "The recipe asks for a pinch of salt.",
    "Her bicycle has a green bell.",
)
"""Sentences that belong to none of the tasks."""

LAYOUTS = ("whole", "labels", "inputs", "run on")
"""What is written of each demonstration, as in :mod:`icl_lessons.tasks.attribute_prompts`."""

_PAIR = "premise: {premise}\nhypothesis: {hypothesis}\nprediction:"
_QUESTION = "{premise}\nquestion: {hypothesis}"

TEMPLATES: dict[str, dict[str, Template]] = {
    "lu": {
        "agnews": Template("input: {text}\ntype:", ("world", "sports", "business", "technology")),
        "sst2": Template("Review: {text}\nSentiment:", ("negative", "positive")),
        "cb": Template(_PAIR, ("true", "false", "neither")),
        "rte": Template(_PAIR, ("True", "False")),
    },
    "zhao": {
        "agnews": Template(
            "Article: {text}\nAnswer:",
            ("World", "Sports", "Business", "Technology"),
            instruction="Classify the news articles into the categories of World, Sports, "
            "Business, and Technology.\n\n",
        ),
        "sst2": Template("Review: {text}\nSentiment:", ("Negative", "Positive")),
        "cb": Template(
            _QUESTION + ". true, false, or neither?\nanswer:", ("true", "false", "neither")
        ),
        "rte": Template(_QUESTION + " True or False?\nanswer:", ("True", "False")),
    },
}
"""By author and task. Labels in the order of the hub's data: CB entailment, contradiction, neutral;
RTE entailment, not entailment."""
