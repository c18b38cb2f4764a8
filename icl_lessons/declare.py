"""How a room declares what it asserts and what it runs.

A *claim* is a sentence of the literature with a check. An *experiment* is a function from a
configuration to a result, with configurations at two scales and a figure made from the result.
Declaring only registers; :mod:`icl_lessons.ledger` collects and runs.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from icl_lessons.runtime import Scale, check_choice, single_precision

Kind = Literal["identity", "experiment", "dispute"]
Comparison = Literal["at most", "at least", "within"]
KINDS = ("identity", "experiment", "dispute")
IDENTITY_BOUND = 1e-10


class Verdict:
    """The four verdicts. They are computed from figures and bounds, never written."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    FAILS = "does not hold"
    OPEN = "not settled here"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a check measured, and the bound it is held to.

    Attributes:
        measured: the figure that decides.
        bound: what it is compared with.
        comparison: ``"at most"``, ``"at least"``, or ``"within"`` (``|measured| <= bound``).
        unit: of the figure, conventions included (``"1/2 E squared error"``).
        partial_bound: a weaker bound; a figure between the two ``holds in part``.
        reported: the paper's own figure in the same unit, if it gives one.
        samples: how many independent measurements passed out of how many, for claims checked over
            seeds; when only some pass, the claim ``holds in part``.
        note: one sentence that a reader of the figure needs.
    """

    measured: float | int
    bound: float | int
    unit: str
    comparison: Comparison = "at most"
    partial_bound: float | int | None = None
    reported: float | int | None = None
    samples: tuple[int, int] | None = None
    note: str = ""

    def __post_init__(self):
        check_choice("comparison", self.comparison, ("at most", "at least", "within"))
        if math.isnan(self.bound):
            raise ValueError("bound: got NaN; use the number that the figure is held to")
        if self.samples is not None and not 0 <= self.samples[0] <= self.samples[1] != 0:
            raise ValueError(f"samples: got {self.samples}; use (passed, total), total above 0")

    def _meets(self, bound: float | int) -> bool:
        value = abs(self.measured) if self.comparison == "within" else self.measured
        return bool(value >= bound if self.comparison == "at least" else value <= bound)

    @property
    def verdict(self) -> str:
        """``holds``, ``holds in part``, ``does not hold``, or ``not settled here`` (no figure)."""
        if not math.isfinite(self.measured):
            return Verdict.OPEN
        if self.samples is not None:
            passed, total = self.samples
            if passed == 0:
                return Verdict.FAILS
            if passed < total:
                return Verdict.IN_PART
        if self._meets(self.bound):
            return Verdict.HOLDS
        if self.partial_bound is not None and self._meets(self.partial_bound):
            return Verdict.IN_PART
        return Verdict.FAILS


@dataclass(frozen=True)
class Claim:
    """A sentence of the literature, where it stands, and the function that checks it."""

    id: str
    paper: str
    where: str
    kind: Kind
    says: str
    chapter: str
    check: Callable[[Scale], Evidence]


@dataclass(frozen=True)
class Experiment:
    """A declared experiment: what to run, at which scales, and how to draw what came out."""

    name: str
    paper: str
    chapter: str
    configs: Mapping[Scale, Any]
    figure: Callable[[Any], Any]
    run: Callable[[Any], Any]

    @property
    def says(self) -> str:
        """The first line of the experiment's docstring."""
        return (self.run.__doc__ or "").strip().split("\n")[0]


CLAIMS: dict[str, Claim] = {}
EXPERIMENTS: dict[str, Experiment] = {}


def passed(mask: Any) -> tuple[int, int]:
    """How many measurements pass, out of how many: the ``samples`` of an evidence.

    Args:
        mask: true where a measurement passes; an array or a list.
    """
    mask = np.asarray(mask, dtype=bool)
    return int(mask.sum()), mask.size


def words(values: Any) -> str:
    """Measurements as a note lists them: two digits, commas between."""
    return ", ".join(f"{round(float(value), 2) + 0.0:.2f}" for value in np.ravel(values))


def error_size(error: Any) -> str:
    """An error as notes and pages print it: one digit; of a rounding error, a power of ten.

    What is left of rounding depends on the machine, so only what it stays under is printed.

    Args:
        error: one number, 0 or more.
    """
    size = abs(float(error))
    for power in (-12, -10, -8, -6):
        if size < 10.0**power:
            return f"< 1e{power}"
    return f"{size:.0e}"


def result_of(name: str, scale: Scale | str) -> Any:
    """What the experiment of that name gives at a scale; run once for all claims that rest on it.

    Raises:
        ValueError: no such experiment is declared.
    """
    check_choice("name", name, tuple(EXPERIMENTS))
    declared = EXPERIMENTS[name]
    return declared.run(declared.configs[Scale(scale)])


def claim(id: str, *, paper: str, where: str, kind: Kind, says: str, chapter: str):
    """Declare the decorated function, ``Scale -> Evidence``, as the check of a claim.

    Args:
        id: unique, made of the paper's key and the claim's name.
        paper: key in the bibliography.
        where: theorem, equation, section or figure in the paper.
        kind: ``identity`` (algebra; the bound may not exceed 1e-10), ``experiment`` (a trained
            model) or ``dispute`` (papers disagree, both are checked).
        says: the claim in one sentence.
        chapter: the page that teaches it, without suffix.

    Raises:
        ValueError: a kind that does not exist, or an id declared twice.
    """
    check_choice("kind", kind, KINDS)
    if id in CLAIMS:
        raise ValueError(f"id: the claim {id!r} is declared already, in {CLAIMS[id].check}")

    def register(check: Callable[[Scale], Evidence]) -> Callable[[Scale], Evidence]:
        @functools.wraps(check)
        def in_single_precision(scale: Scale) -> Evidence:
            with single_precision():
                return check(scale)

        CLAIMS[id] = Claim(id, paper, where, kind, says, chapter, in_single_precision)
        return check

    return register


def experiment(
    name: str,
    *,
    paper: str,
    chapter: str,
    configs: Mapping[Scale, Any],
    figure: Callable[[Any], Any],
):
    """Declare the decorated function, ``config -> result``, as an experiment.

    Args:
        name: what ``icl-lessons run`` calls it.
        paper: key in the bibliography.
        chapter: the page that teaches it, without suffix.
        configs: a frozen configuration for each :class:`~icl_lessons.runtime.Scale`.
        figure: takes the result and nothing else, returns a matplotlib figure.

    The function remembers its last results: a page and the claims it rests on train once. It runs
    with torch's usual default of float32 whatever its caller has set.

    Raises:
        ValueError: a scale without configuration, a configuration without the fields ``device``
            and ``seeds``, or a name declared twice.
    """
    if missing := [str(scale) for scale in Scale if scale not in configs]:
        raise ValueError(f"configs: no configuration for scale {', '.join(missing)}")
    for scale, config in configs.items():
        for field in ("device", "seeds"):
            if not hasattr(config, field):
                raise ValueError(f"configs: that of scale {scale} has no field {field!r}")
    if name in EXPERIMENTS:
        raise ValueError(f"name: the experiment {name!r} is declared already")

    def register(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(run)
        def in_single_precision(*args, **options):
            with single_precision():
                return run(*args, **options)

        remembered = functools.lru_cache(maxsize=4)(in_single_precision)
        EXPERIMENTS[name] = Experiment(name, paper, chapter, dict(configs), figure, remembered)
        return remembered

    return register
