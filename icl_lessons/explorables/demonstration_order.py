"""Explorable of *Order, and the whole distribution*: four demonstrations that change places.

The reader puts the demonstrations of a prompt into any of their 24 orders and sees what in-context
learning, two kinds of gradient descent and the exact Bayes filter answer. Nothing is learned in the
browser: the answers in every order come in `sets`, which
`icl_lessons.language_models.experiments.order_table` makes from stored weights.
`demonstration_order_math.mjs` looks them up; the tests compare it with that table.
"""

import base64
import binascii
import itertools
import math
from typing import Any

import numpy as np
import traitlets

from icl_lessons.explorables.base import (
    DrawnExplorable,
    InvalidTrait,
    WholeNumber,
    component_source,
)

LEARNERS = {
    "in_context": "in-context learning",
    "one_by_one": "stochastic descent",
    "full_batch": "full-batch descent",
    "filter": "exact Bayes filter",
}
MOST_SETS, MOST_QUERIES, MOST_MODELS, MOST_RATES = 6, 8, 4, 8
UNIT = 10_000  # probabilities come as whole numbers of 1/10000
_PARTS = ("name", "labels", "demonstrations", "queries", "models", "rates", "passes", "learners")


def laws_of(learner: dict[str, Any]) -> np.ndarray:
    """Probabilities of the label words, `[models, rates, orders, queries, labels]`.

    Axes along which a learner's answers do not change have length 1.
    """
    whole = np.frombuffer(base64.b64decode(learner["laws"], validate=True), dtype="<u2")
    return whole.reshape(learner["shape"]) / UNIT


def _check_learner(where: str, learner: Any, sizes: tuple[int, ...]) -> None:
    try:
        laws, sensitivity = laws_of(learner), np.array(learner["sensitivity"], dtype=float)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InvalidTrait(
            f"{where} must have shape, laws (base 64 of two bytes for each number) and sensitivity"
        ) from error
    fits = len(laws.shape) == 5 and all(
        have == want or (have == 1 and axis < 3)
        for axis, (have, want) in enumerate(zip(laws.shape, sizes, strict=True))
    )
    if not fits:
        raise InvalidTrait(
            f"{where} has shape {list(laws.shape)}; it must be {list(sizes)}, or 1 in one of the "
            "first three places"
        )
    if laws.sum(-1).max() > 1 + len(sizes) / UNIT:
        raise InvalidTrait(f"{where} has probabilities that sum to more than 1")
    if sensitivity.shape != (*laws.shape[:2], laws.shape[3]) or not (sensitivity >= 0).all():
        raise InvalidTrait(f"{where}.sensitivity must be numbers, 0 or more, without the orders")


def stored_sets(value: Any) -> list[dict[str, Any]]:
    """The sets as they were given, if they can be shown.

    Args:
        value: a list of what `OrderTable.payload()` gives.

    Raises:
        ValueError: no list of one to six sets, a set in which a part is missing or has a wrong
            shape, or sets whose numbers of demonstrations, queries, models or rates differ. The
            error names the set and the part.
    """
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_SETS:
        raise InvalidTrait(f"sets must be a list of 1 to {MOST_SETS} payloads of order tables")
    shared = None
    for i, one in enumerate(value):
        where = f"sets[{i}]"
        missing = [p for p in _PARTS if p not in one] if isinstance(one, dict) else list(_PARTS)
        if missing:
            raise InvalidTrait(f"{where} must be the payload of an order table; missing: {missing}")
        counts = {name: len(one[name]) for name in ("demonstrations", "queries", "models", "rates")}
        limits = (("demonstrations", 4), ("queries", MOST_QUERIES), ("models", MOST_MODELS),
                  ("rates", MOST_RATES))  # fmt: skip
        for name, most in limits:
            if not 1 <= counts[name] <= most:
                raise InvalidTrait(f"{where} has {counts[name]} {name}; it must be 1 to {most}")
        if (shared := shared or counts) != counts:
            raise InvalidTrait(f"{where} has {counts}; it must be as sets[0] has: {shared}")
        if set(one["learners"]) != set(LEARNERS):
            raise InvalidTrait(f"{where}.learners must be {', '.join(LEARNERS)}")
        orders = math.factorial(counts["demonstrations"])
        sizes = (counts["models"], counts["rates"], orders, counts["queries"], len(one["labels"]))
        for name, learner in one["learners"].items():
            _check_learner(f"{where}.{name}", learner, sizes)
        for part, names in (("demonstrations", ("label", "right")), ("queries", ("right",))):
            for each, name in itertools.product(one[part], names):
                if not isinstance(each.get("text"), str) or each.get(name) not in range(sizes[-1]):
                    raise InvalidTrait(f"{where}.{part} must have text, and {name} of a label")
    return list(value)


class _Sets(traitlets.TraitType):
    def validate(self, obj: Any, value: Any) -> list[dict[str, Any]]:
        return stored_sets(value)


class _Order(traitlets.TraitType):
    """Every number from 0 once."""

    def validate(self, obj: Any, value: Any) -> list[int]:
        if not isinstance(value, list | tuple) or sorted(map(repr, value)) != [
            repr(i) for i in range(len(value))
        ]:
            raise InvalidTrait(f"order must hold each number from 0 once, got {value!r}")
        return list(value)


class DemonstrationOrderExplorer(DrawnExplorable):
    """Answers to a query after four demonstrations in the order that the reader gives them.

    In-context learning reads the demonstrations before the query. Descent on one demonstration at a
    time takes its steps in their order, full-batch descent on all at once, and both answer the
    query alone. The exact Bayes filter knows the law of the text [shen2024pretrained, section 4.1].

    Args:
        sets: payloads of :func:`icl_lessons.language_models.experiments.order_table.order_table`.
        chosen: which set, from 0.
        order: the demonstrations' numbers, from 0, the first to be read first.
        query, model, rate: which of the sets' queries, models and rates, from 0.
        zoom: whether each learner's 24 answers are drawn from their smallest to their largest,
            instead of from 0 to 1.

    Raises:
        ValueError: a value outside these ranges. The error names the trait.
    """

    _esm = component_source("demonstration_order")
    _figure_size = (6.4, 3.4)

    sets = _Sets().tag(sync=True)
    chosen = WholeNumber(0, 0, MOST_SETS - 1).tag(sync=True)
    order = _Order([0, 1, 2, 3]).tag(sync=True)
    query = WholeNumber(0, 0, MOST_QUERIES - 1).tag(sync=True)
    model = WholeNumber(0, 0, MOST_MODELS - 1).tag(sync=True)
    rate = WholeNumber(1, 0, MOST_RATES - 1).tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)

    def __init__(self, sets: Any, **values: Any) -> None:
        stored = stored_sets(sets)
        values.setdefault("order", list(range(len(stored[0]["demonstrations"]))))
        values.setdefault("rate", min(1, len(stored[0]["rates"]) - 1))
        super().__init__(sets=stored, **values)

    @traitlets.validate("chosen", "order", "query", "model", "rate")
    def _is_there(self, proposal: dict[str, Any]) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "chosen":
            if value >= len(self.sets):
                raise InvalidTrait(f"chosen must be below {len(self.sets)}, got {value}")
            return value
        part = {"order": "demonstrations", "query": "queries", "model": "models", "rate": "rates"}
        there = len(self.sets[0][part[name]])
        if name == "order" and len(value) != there:
            raise InvalidTrait(f"order holds {len(value)} numbers for {there} demonstrations")
        if name != "order" and value >= there:
            raise InvalidTrait(f"{name} must be below {there}, got {value}")
        return value

    @property
    def shown(self) -> dict[str, Any]:
        """The set that is chosen."""
        return self.sets[self.chosen]

    def orders(self) -> list[tuple[int, ...]]:
        """Every order, as the axis of :meth:`laws` has them."""
        return list(itertools.permutations(range(len(self.order))))

    def laws(self, learner: str) -> np.ndarray:
        """Probabilities of the label words, then of everything else, `[orders, labels + 1]`."""
        found = laws_of(self.shown["learners"][learner])
        model, rate = min(self.model, len(found) - 1), min(self.rate, found.shape[1] - 1)
        size = (len(self.orders()), found.shape[-1])
        rows = np.broadcast_to(found[model, rate, :, self.query], size)
        return np.concatenate([rows, 1 - rows.sum(-1, keepdims=True)], -1).clip(0)

    def sensitivity(self, learner: str) -> np.ndarray:
        """Order sensitivity over the whole vocabulary, for each query."""
        found = np.array(self.shown["learners"][learner]["sensitivity"])
        return found[min(self.model, len(found) - 1), min(self.rate, found.shape[1] - 1)]

    def right(self, learner: str) -> np.ndarray:
        """The probability of the right answer in every order, `[orders]`."""
        return self.laws(learner)[:, self.shown["queries"][self.query]["right"]]

    def _in_words(self) -> str:
        one, at = self.shown, self.orders().index(tuple(self.order))
        query = one["queries"][self.query]
        parts = "; ".join(
            f"{words} {self.right(name)[at]:.3f} ({self.right(name).min():.3f} to "
            f"{self.right(name).max():.3f} over all orders, order sensitivity "
            f"{self.sensitivity(name)[self.query]:.3f})"
            for name, words in LEARNERS.items()
        )
        read = [one["demonstrations"][i] for i in self.order]
        shown = ", ".join(f"{each['text']}: {one['labels'][each['label']]}" for each in read)
        return (
            f"{one['models'][self.model]} sees, in this order, {shown}; then the query "
            f"{query['text']}, whose answer is {one['labels'][query['right']]}. Its probability, "
            f"with descent at rate {one['rates'][self.rate]:g}: {parts}."
        )

    def _draw(self, axes: Any) -> None:
        at = self.orders().index(tuple(self.order))
        colors = ("#5a4fb0", "#b4450a", "#b4450a", "#1b1b1b")
        for row, (name, color) in enumerate(zip(LEARNERS, colors, strict=True)):
            right = self.right(name)
            axes.plot(right, np.full(len(right), -row), "|", color=color, markersize=18)
            axes.plot(right[at], -row + 0.3, "v", color=color, markersize=8)
        axes.set(xlim=(0, 1), ylim=(-len(LEARNERS) + 0.4, 0.6), xlabel="P(the right answer)")
        axes.set_yticks([-row for row in range(len(LEARNERS))], list(LEARNERS.values()))
