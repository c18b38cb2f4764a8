"""What every component of the book has in common: traits that explain themselves, a fallback.

A component is an anywidget: the same JavaScript runs in JupyterLab and, with no kernel, on the
book's page. Where scripts are off, a reader gets the component's figure or text instead.
"""

import base64
import html
import io
import math
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from icl_lessons.explorables.bundle import bundle

_HERE = Path(__file__).parent
GROUND = "#fbfaf7"

Real = float | int


def component_source(name: str) -> str:
    """The module string of the component written in `NAME.mjs`."""
    return bundle(_HERE / f"{name}.mjs")


def component_style() -> str:
    """The style sheet that the components share."""
    return (_HERE / "explorables.css").read_text(encoding="utf-8")


class InvalidTrait(traitlets.TraitError, ValueError):
    """A component was given a value that it cannot show. A `ValueError` to whoever called."""


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise InvalidTrait(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidTrait(f"{name} must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise InvalidTrait(f"{name} must be finite, got {number}")
    return number


def _within(name: str, number: float, low: Real, high: Real) -> float:
    if not low <= number <= high:
        raise InvalidTrait(f"{name} must be between {low:g} and {high:g}, got {number:g}")
    return number


class Number(traitlets.TraitType):
    """A finite number between `low` and `high`, kept to six decimals."""

    default_value = 0.0

    def __init__(self, default: Real, low: Real, high: Real) -> None:
        super().__init__(default)
        self.low, self.high = low, high

    def validate(self, obj: Any, value: Any) -> float:
        return round(_within(self.name, _finite(self.name, value), self.low, self.high), 6)


class WholeNumber(Number):
    """An integer between `low` and `high`."""

    def validate(self, obj: Any, value: Any) -> int:
        number = _within(self.name, _finite(self.name, value), self.low, self.high)
        if number != int(number):
            raise InvalidTrait(f"{self.name} must be a whole number, got {number:g}")
        return int(number)


class Numbers(traitlets.TraitType):
    """A list of at most `most` finite numbers between `low` and `high`, kept to six decimals.

    Any sequence of numbers is taken, and any one-dimensional NumPy array or torch tensor.
    """

    default_value: list[float] = []

    def __init__(self, default: list[float], low: Real, high: Real, most: int) -> None:
        super().__init__(default)
        self.low, self.high, self.most = low, high, most

    def default(self, obj: Any = None) -> list[float]:
        return list(self.default_value)

    def validate(self, obj: Any, value: Any) -> list[float]:
        if hasattr(value, "tolist"):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise InvalidTrait(f"{self.name} must be a list of numbers, got {value!r}")
        if len(value) > self.most:
            raise InvalidTrait(
                f"{self.name} holds {len(value)} numbers; the plot shows at most {self.most}"
            )
        numbers = []
        for i, entry in enumerate(value):
            where = f"{self.name}[{i}]"
            numbers.append(round(_within(where, _finite(where, entry), self.low, self.high), 6))
        return numbers


class Point(Numbers):
    """Two numbers, the first within `reach[0]` of 0 and the second within `reach[1]`."""

    def __init__(self, default: list[float], reach: tuple[Real, Real]) -> None:
        super().__init__(default, -max(reach), max(reach), 2)
        self.reach = reach

    def validate(self, obj: Any, value: Any) -> list[float]:
        numbers = super().validate(obj, value)
        if len(numbers) != 2:
            raise InvalidTrait(f"{self.name} must hold two numbers, got {len(numbers)}")
        for i, (number, reach) in enumerate(zip(numbers, self.reach, strict=True)):
            _within(f"{self.name}[{i}]", number, -reach, reach)
        return numbers


class Choice(traitlets.TraitType):
    """One of a few names; the first is the default unless another is given."""

    def __init__(self, names: tuple[str, ...], default: str | None = None) -> None:
        super().__init__(names[0] if default is None else default)
        self.names = names

    def validate(self, obj: Any, value: Any) -> str:
        if not isinstance(value, str) or value not in self.names:
            raise InvalidTrait(f"{self.name} must be of {', '.join(self.names)}; got {value!r}")
        return value


class Explorable(anywidget.AnyWidget):
    """A component of the book, with a fallback for readers whose browser runs no scripts."""

    _css = component_style()

    def fallback_html(self) -> str:
        """What stands in the component's place where scripts are off: HTML of the same content."""
        raise NotImplementedError

    def show(self) -> None:
        """Display the component and, inside `<noscript>`, its fallback.

        A component that is the last line of a cell does the same.
        """
        from IPython.display import HTML, display

        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
        display(HTML(f"<noscript>{self.fallback_html()}</noscript>"))

    def _ipython_display_(self, **_: Any) -> None:
        self.show()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class DrawnExplorable(Explorable):
    """A component whose fallback is a figure: `_draw` draws it, `_in_words` is its text."""

    _figure_size = (6.4, 4.0)

    def _draw(self, axes: Any) -> None:
        """Draw the present state on a Matplotlib Axes."""
        raise NotImplementedError

    def _in_words(self) -> str:
        """The present state in a few sentences."""
        raise NotImplementedError

    def fallback_html(self) -> str:
        """A figure of the present state, with its alternative text."""
        text = html.escape(self._in_words(), quote=True)
        return (
            '<figure class="icl-fallback">'
            f'<img src="data:image/svg+xml;base64,{base64.b64encode(self._picture()).decode()}" '
            f'alt="{text}" style="max-width:100%;height:auto">'
            f"<figcaption>The interactive version of this figure needs JavaScript. {text}"
            "</figcaption></figure>"
        )

    def _picture(self) -> bytes:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        settings = {
            "svg.hashsalt": f"icl-lessons-{type(self).__name__}",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 11,
        }
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=self._figure_size, facecolor=GROUND, layout="constrained")
            FigureCanvasSVG(figure)
            axes = figure.add_subplot(facecolor=GROUND)
            axes.spines[["top", "right"]].set_visible(False)
            self._draw(axes)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 step", "2 steps"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
