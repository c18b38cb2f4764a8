"""*Predict, then run*: a question before an experiment, and the answer beside the guess after it.

Two components that share a key. `Prediction` stands before the experiment and never holds the
answer, so that nobody sees it early, not even in the page's source at that place. After the
experiment `reveal` makes a `PredictionReveal`, which shows guess and measurement together and tells
the first one, if it is on the page, to do the same. The guess stays in the reader's browser.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import traitlets

from icl_lessons.explorables.base import Explorable, Real, component_source

KINDS = ("number", "choice")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text that is not empty, got {value!r}")
    return value


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, got {value!r}") from error
    if isinstance(value, bool | str) or not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number


class _Question(Explorable):
    """The traits that both halves share. Use `Prediction`."""

    _esm = component_source("prediction")

    role = traitlets.Unicode("ask").tag(sync=True)
    key = traitlets.Unicode().tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    kind = traitlets.Unicode("number").tag(sync=True)
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    low = traitlets.Float(None, allow_none=True).tag(sync=True)
    high = traitlets.Float(None, allow_none=True).tag(sync=True)
    log = traitlets.Bool(False).tag(sync=True)
    guess = traitlets.Any(None, allow_none=True).tag(sync=True)


class Prediction(_Question):
    """Ask the reader for a guess before an experiment runs.

    Args:
        key: a name that no other question in the book has, such as `"one_layer_one_step/loss"`;
            the guess is kept in the reader's browser under it.
        question: the question, one sentence.
        kind: `"number"` or `"choice"`.
        choices: for a choice, the answers to choose from, at least two.
        unit: for a number, its unit or what it counts, as it is printed after the number.
        low, high: for a number, the ends of the slider; both or neither.
        log: for a number, a slider on a logarithmic scale (`low` must be above 0).

    Raises:
        ValueError: an argument that does not fit the others. The error names it.

    >>> guess = Prediction(key="loss", question="What is the loss?", low=0, high=1)
    >>> reveal = guess.reveal(0.206, "The best single step reaches this.")
    """

    def __init__(
        self,
        *,
        key: str,
        question: str,
        kind: str = "number",
        choices: Sequence[str] = (),
        unit: str = "",
        low: Real | None = None,
        high: Real | None = None,
        log: bool = False,
    ) -> None:
        _text("key", key)
        _text("question", question)
        if kind not in KINDS:
            raise ValueError(f'kind must be "number" or "choice", got {kind!r}')
        if isinstance(choices, str):
            raise ValueError("choices must be a list of texts, got one text")
        choices = [_text(f"choices[{i}]", choice) for i, choice in enumerate(choices)]
        if kind == "choice":
            if len(set(choices)) < 2 or len(set(choices)) != len(choices):
                raise ValueError(f"choices must be two or more different texts, got {choices}")
            if low is not None or high is not None or log or unit:
                raise ValueError("low, high, log and unit belong to a number, not to a choice")
        elif choices:
            raise ValueError('choices belong to kind="choice"')
        if (low is None) != (high is None):
            raise ValueError("low and high are the two ends of the slider: give both or neither")
        if low is not None:
            low, high = _number("low", low), _number("high", high)
            if not low < high:
                raise ValueError(f"low must be below high, got low={low:g} and high={high:g}")
        if log and (low is None or low <= 0):
            raise ValueError("log needs low and high, with low above 0")
        super().__init__(
            role="ask",
            key=key,
            question=question,
            kind=kind,
            choices=choices,
            unit=unit,
            low=low,
            high=high,
            log=bool(log),
        )
        self.answer: Any = None
        self.explanation = ""

    def reveal(self, answer: Any, explanation: str = "") -> "PredictionReveal":
        """The second half, to display after the experiment: guess and answer side by side.

        Args:
            answer: what was measured: a number, or one of the choices.
            explanation: a sentence or two that reads the answer.

        Raises:
            ValueError: an answer that is not a finite number, or not one of the choices.
        """
        self.answer = answer
        self.explanation = explanation
        return self.reveal_view()

    def reveal_view(self) -> "PredictionReveal":
        """The same from the attributes `answer` and `explanation`.

        Raises:
            ValueError: `answer` has not been set, or does not fit the question.
        """
        if self.answer is None:
            raise ValueError("answer is not set: run the experiment first, then set it")
        if self.kind == "choice":
            if self.answer not in self.choices:
                raise ValueError(f"answer must be one of {self.choices}, got {self.answer!r}")
            answer: Any = self.answer
        else:
            answer = float(f"{_number('answer', self.answer):.6g}")
        shared = ("key", "question", "kind", "choices", "unit", "low", "high", "log")
        return PredictionReveal(
            role="reveal",
            answer=answer,
            explanation=self.explanation,
            **{name: getattr(self, name) for name in shared},
        )

    def fallback_html(self) -> str:
        """The question as text."""
        options = "".join(f"<li>{html.escape(choice)}</li>" for choice in self.choices)
        return (
            f"<p><strong>Predict, then run.</strong> {html.escape(self.question)} "
            "Write your guess down before you read on.</p>"
            + (f"<ul>{options}</ul>" * bool(options))
        )


class PredictionReveal(_Question):
    """Guess and measurement side by side. Made by `Prediction.reveal`."""

    answer = traitlets.Any(None, allow_none=True).tag(sync=True)
    explanation = traitlets.Unicode().tag(sync=True)

    def fallback_html(self) -> str:
        """Question and answer as text."""
        shown = self.answer if self.kind == "choice" else f"{self.answer:.3g} {self.unit}".strip()
        return (
            f"<p><strong>Predict, then run.</strong> {html.escape(self.question)} "
            f"Measured: {html.escape(str(shown))}. {html.escape(self.explanation)}</p>"
        )
