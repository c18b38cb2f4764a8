"""Explorable of *One layer, one step*: gradient descent and attention on the same points.

The reader moves the points, the step and the number of steps; gradient descent on a weight and a
stack of linear attention layers on tokens are computed side by side, by different code, in the
browser. `one_step_math.mjs` holds the mathematics, and the tests compare it with
`icl_lessons.estimators.descent` and `icl_lessons.gradient_descent.one_step`.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets

from icl_lessons.estimators.descent import gradient_descent_path
from icl_lessons.explorables.base import (
    Explorable,
    InvalidTrait,
    Number,
    Numbers,
    Real,
    WholeNumber,
    component_source,
)

X_RANGE = (-2.0, 2.0)
Y_RANGE = (-3.0, 3.0)
MOST_EXAMPLES = 12
MOST_STEPS = 8
LONGEST_STEP = 20.0

NumbersLike = Sequence[Real] | np.ndarray | torch.Tensor

_GRADIENT_DESCENT = "#B4450A"
_EXACT = "#1b1b1b"
_OTHER = "#44505C"
_GROUND = "#fbfaf7"


class OneStepExplorer(Explorable):
    """One-dimensional regression in context, solved by gradient descent and by attention.

    The model is a line through the origin, `y = w x`. Gradient descent takes `steps` steps of
    size `step_size` on `L(w) = 1/(2N) sum_i (w x_i - y_i)^2` from `initial_weight`; the attention
    stack is Proposition 1 of von Oswald et al. (2023) with as many layers. Every trait can be read
    and set from Python while the component is shown.

    Args:
        xs: inputs of the examples, at most twelve, each between -2 and 2.
        ys: their targets, as many as `xs`, each between -3 and 3.
        x_query: the query's input, between -2 and 2.
        step_size: step size of gradient descent, between 0 and 20.
        steps: number of steps and of attention layers, 0 to 8.
        initial_weight: the weight before the first step, between -3 and 3.

    Raises:
        ValueError: a value outside these ranges, or `xs` and `ys` of different lengths. The error
            names the trait.
    """

    _esm = component_source("one_step")

    xs = Numbers([-1.5, -0.9, -0.4, 0.6, 1.1, 1.7], *X_RANGE, MOST_EXAMPLES).tag(sync=True)
    ys = Numbers([-1.5, -1.5, -0.1, 0.4, 1.6, 1.8], *Y_RANGE, MOST_EXAMPLES).tag(sync=True)
    x_query = Number(1.4, *X_RANGE).tag(sync=True)
    step_size = Number(0.5, 0.0, LONGEST_STEP).tag(sync=True)
    steps = WholeNumber(1, 0, MOST_STEPS).tag(sync=True)
    initial_weight = Number(0.0, -3.0, 3.0).tag(sync=True)

    @traitlets.validate("xs", "ys")
    def _as_many_targets_as_inputs(self, proposal: dict[str, Any]) -> list[float]:
        other = "ys" if proposal["trait"].name == "xs" else "xs"
        if len(proposal["value"]) != len(getattr(self, other)):
            raise InvalidTrait(
                f"{proposal['trait'].name} would hold {len(proposal['value'])} numbers and {other} "
                f"holds {len(getattr(self, other))}; every example needs both: use "
                "set_examples(xs, ys) to change their number"
            )
        return proposal["value"]

    def set_examples(self, xs: NumbersLike, ys: NumbersLike) -> None:
        """Replace the examples, whose number may change.

        Raises:
            ValueError: `xs` and `ys` of different lengths, or a number outside the plot.
        """
        with self.hold_sync(), self.hold_trait_notifications():
            self.xs = xs
            self.ys = ys

    def weights(self) -> list[float]:
        """The weights `w_0 ... w_K` of gradient descent on the examples now shown.

        Raises:
            ValueError: there are no examples, so that `1/N` has no meaning.
        """
        if not self.xs:
            raise ValueError("xs is empty: with N = 0 examples the 1/N of the step has no meaning")
        column = {"dtype": torch.float64}
        path = gradient_descent_path(
            torch.tensor(self.xs, **column).reshape(1, -1, 1),
            torch.tensor(self.ys, **column).reshape(1, -1, 1),
            self.step_size,
            self.steps,
            torch.tensor([[self.initial_weight]], **column),
        )
        return path[:, 0, 0, 0].tolist()

    def fallback_html(self) -> str:
        """A figure of the starting state, with its alternative text."""
        picture, text = self._figure()
        return (
            '<figure class="icl-fallback">'
            f'<img src="data:image/svg+xml;base64,{base64.b64encode(picture).decode()}" '
            f'alt="{html.escape(text, quote=True)}" style="max-width:100%;height:auto">'
            "<figcaption>The interactive version of this figure needs JavaScript. "
            f"{html.escape(text)}</figcaption></figure>"
        )

    def _figure(self) -> tuple[bytes, str]:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        settings = {
            "svg.hashsalt": "icl-lessons-one-step",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 11,
        }
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=(6.4, 4.0), facecolor=_GROUND, layout="constrained")
            FigureCanvasSVG(figure)
            axes = figure.add_subplot(facecolor=_GROUND)
            axes.plot(self.xs, self.ys, "o", color=_OTHER, markersize=7, label="examples")
            text = self._draw_lines(axes) if self.xs else "A plot with no examples in it."
            axes.set(xlim=X_RANGE, ylim=Y_RANGE, xlabel="input x", ylabel="target y")
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, loc="upper left")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue(), text

    def _draw_lines(self, axes: Any) -> str:
        path = self.weights()
        ends = torch.tensor(X_RANGE)
        for k, weight in enumerate(path):
            last = k == len(path) - 1
            axes.plot(
                ends,
                weight * ends,
                ":",
                color=_GRADIENT_DESCENT,
                linewidth=2.6 if last else 1.4,
                alpha=1 if last else 0.35 + 0.4 * k / len(path),
                label=f"gradient descent after {_plural(k, 'step')}" if last else None,
            )
        prediction = path[-1] * self.x_query
        ring = {"markerfacecolor": "none", "markersize": 13, "markeredgewidth": 2}
        axes.plot(self.x_query, prediction, "o", color=_GRADIENT_DESCENT, **ring)
        axes.plot(
            self.x_query,
            prediction,
            "o",
            color=_GRADIENT_DESCENT,
            markersize=6,
            label="prediction at the query",
        )
        return (
            f"{_plural(len(self.xs), 'example')} and the lines of gradient descent with step size "
            f"{self.step_size:g}: from slope {path[0]:.2f} to slope {path[-1]:.2f} after "
            f"{_plural(self.steps, 'step')}. At x = {self.x_query:g} gradient descent predicts "
            f"{prediction:.2f}, and so does Proposition 1's attention with as many layers."
        )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
