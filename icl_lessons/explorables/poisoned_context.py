"""Explorable of *Poisoned contexts*: move one example, and see which learners break.

Six examples of a line with intercept, and four learners: one step of gradient descent, several
steps, ridge regression, and one step on clipped labels. The reader drags an example or has the
worst one placed. `poisoned_context_math.mjs` computes every prediction twice, by weights and by
influences in closed form; the tests compare both with `icl_lessons.estimators` and
`icl_lessons.mesa_optimization.poisoned_contexts`.
"""

from typing import Any

import numpy as np

from icl_lessons.explorables.base import (
    Choice,
    DrawnExplorable,
    Number,
    Point,
    WholeNumber,
    component_source,
)

LEARNERS = ("one_step", "steps", "ridge", "clipped")
INPUTS = np.array([-1.4, -0.9, -0.3, 0.3, 0.9, 1.4])
TARGETS = np.array([1.5, 0.9, 0.7, -0.1, -0.3, -0.9])
REACH = (4.0, 8.0)

_LOOKS = {
    "one_step": {"color": "#8e3b78", "marker": "o", "linestyle": ":", "markerfacecolor": "none"},
    "steps": {"color": "#8e3b78", "marker": "D", "linestyle": "-."},
    "ridge": {"color": "#1b1b1b", "marker": "^", "linestyle": "-", "linewidth": 1},
    "clipped": {"color": "#44505c", "marker": "s", "linestyle": "--"},
}


class PoisonedContextExplorer(DrawnExplorable):
    """Four learners of `y = w . (1, x)` on six examples, one of which has been moved.

    Descent starts at `w = 0` on `1/(2N) sum_i (w . (1, x_i) - y_i)^2`. All but the clipped learner
    are linear in labels: `f(x_q) = sum_i a_i y_i`, and a label that changes by `c` moves the
    prediction by `a_i c`. A learner *breaks* when its prediction at the query has moved by more
    than `threshold` from the clean context's. (Trained transformers: [anwar2024adversarial].)

    Args:
        which: the example that is moved, 1 to 6.
        example: where it is, `[x, y]`, within 4 and 8 of 0.
        query: `x_q`, -3 to 3.
        step_size: `eta` of all descent, 0.1 to 1.2.
        steps: of the second learner, 2 to 30.
        penalty: `lambda` of ridge, `(X^T X + lambda I)^-1 X^T y`, 0.05 to 10.
        delta: where the clipped learner clips labels, 0.1 to 6. It takes one step.
        threshold: what counts as broken, 0.1 to 4.
        budget: how far "the worst label" may move one label, 0.2 to 5.
        learner: for whom it is the worst, of `LEARNERS`.
        target: what "hijack" makes one-step descent say, -4 to 4.

    Raises:
        ValueError: a value outside these ranges. The error names the trait.
    """

    _esm = component_source("poisoned_context")
    _figure_size = (6.4, 4.6)

    which = WholeNumber(6, 1, 6).tag(sync=True)
    example = Point([1.4, 5.0], REACH).tag(sync=True)
    query = Number(1.7, -3.0, 3.0).tag(sync=True)
    step_size = Number(0.8, 0.1, 1.2).tag(sync=True)
    steps = WholeNumber(10, 2, 30).tag(sync=True)
    penalty = Number(1.0, 0.05, 10.0).tag(sync=True)
    delta = Number(1.0, 0.1, 6.0).tag(sync=True)
    threshold = Number(1.0, 0.1, 4.0).tag(sync=True)
    budget = Number(3.0, 0.2, 5.0).tag(sync=True)
    learner = Choice(LEARNERS).tag(sync=True)
    target = Number(3.0, -4.0, 4.0).tag(sync=True)

    def context(self, clean: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Inputs `[6, 2]`, rows `(1, x)`, and targets `[6]`; with the moved example put back."""
        xs, ys = INPUTS.copy(), TARGETS.copy()
        if not clean:
            xs[self.which - 1], ys[self.which - 1] = self.example
        return np.stack([np.ones_like(xs), xs], 1), ys

    def weights(self, clean: bool = False) -> dict[str, np.ndarray]:
        """Intercept and slope of every learner, `[2]` each."""
        xs, ys = self.context(clean)
        clipped = np.clip(ys, -self.delta, self.delta)
        return {
            "one_step": self._descend(xs, ys, 1),
            "steps": self._descend(xs, ys, self.steps),
            "ridge": np.linalg.solve(xs.T @ xs + self.penalty * np.eye(2), xs.T @ ys),
            "clipped": self._descend(xs, clipped, 1),
        }

    def _descend(self, xs: np.ndarray, ys: np.ndarray, steps: int) -> np.ndarray:
        weight = np.zeros(2)
        for _ in range(steps):
            weight = weight - self.step_size / len(xs) * xs.T @ (xs @ weight - ys)
        return weight

    def predictions(self, clean: bool = False) -> dict[str, float]:
        """What every learner says at the query."""
        at = np.array([1.0, self.query])
        return {name: float(weight @ at) for name, weight in self.weights(clean).items()}

    def moved(self) -> dict[str, float]:
        """How far every prediction has moved from the clean context's."""
        clean = self.predictions(clean=True)
        return {name: now - clean[name] for name, now in self.predictions().items()}

    def broken(self) -> dict[str, bool]:
        """Who has moved by more than the threshold."""
        return {name: abs(shift) > self.threshold for name, shift in self.moved().items()}

    def influence(self, clean: bool = False) -> dict[str, np.ndarray]:
        """`a`, `[6]`: how far a unit of each label moves the prediction; for the clipped learner
        the slope where the labels are now.
        """
        xs, ys = self.context(clean)
        at = np.array([1.0, self.query])
        values, basis = np.linalg.eigh(xs.T @ xs / len(xs))
        covered = (1 - (1 - self.step_size * values) ** self.steps) / values
        one = self.step_size / len(xs) * xs @ at
        return {
            "one_step": one,
            "steps": xs @ (basis * covered) @ basis.T @ at / len(xs),
            "ridge": xs @ np.linalg.solve(xs.T @ xs + self.penalty * np.eye(2), at),
            "clipped": np.where(np.abs(ys) < self.delta, one, 0.0),
        }

    def worst(self) -> tuple[int, list[float]]:
        """`which` and `example` of the one change of a label within the budget that raises
        `learner`'s prediction most.
        """
        xs, ys = self.context(clean=True)
        changes = np.array([self.budget, -self.budget])
        influence = self.influence(clean=True)
        shifts = influence[self.learner][:, None] * changes
        if self.learner == "clipped":
            ends = np.clip(ys[:, None] + changes, -self.delta, self.delta)
            before = np.clip(ys, -self.delta, self.delta)[:, None]
            shifts = influence["one_step"][:, None] * (ends - before)
        i, sign = np.unravel_index(shifts.argmax(), shifts.shape)
        return int(i) + 1, [float(xs[i, 1]), float(ys[i] + changes[sign])]

    def hijack(self) -> list[float]:
        """`[x_q, y]`: the pair in place of example `which` that makes one step say `target`.

        `y` may lie outside the plot; the component then stops at its edge.
        """
        xs, ys = self.context(clean=True)
        scores = xs @ np.array([1.0, self.query])
        others = np.delete(ys * scores, self.which - 1).sum()
        label = (len(xs) * self.target / self.step_size - others) / (1 + self.query**2)
        return [self.query, float(label)]

    def names(self) -> dict[str, str]:
        """The learners in words."""
        return {
            "one_step": "one-step gradient descent",
            "steps": f"{self.steps}-step gradient descent",
            "ridge": "ridge",
            "clipped": "clipped gradient descent",
        }

    def _in_words(self) -> str:
        moved, broken = self.moved(), self.broken()
        ends = ", ".join(f"{moved[name]:.3g} for {word}" for name, word in self.names().items())
        worst = [word for name, word in self.names().items() if broken[name]]
        return (
            f"Six examples of a line; example {self.which} has been moved to "
            f"({self.example[0]:g}, {self.example[1]:g}). Predictions at x = {self.query:g} move "
            f"by {ends}. Moved by more than {self.threshold:g}: {', '.join(worst) or 'none'}."
        )

    def _draw(self, axes: Any) -> None:
        along = np.linspace(-4, 4, 9)
        for name, (intercept, slope) in self.weights().items():
            axes.plot(along, intercept + slope * along, label=self.names()[name],
                      **_LOOKS[name] | {"marker": ""})  # fmt: skip
            axes.plot(self.query, intercept + slope * self.query, **_LOOKS[name])
        xs, ys = self.context(clean=True)
        others = np.arange(6) != self.which - 1
        axes.plot(xs[others, 1], ys[others], "o", color="#44505c")
        axes.plot(xs[~others, 1], ys[~others], "o", color="#44505c", markerfacecolor="none")
        axes.plot(*self.example, "D", color="#1b1b1b", markersize=8)
        axes.axvline(self.query, color="#1b1b1b", linewidth=0.7, linestyle=":")
        axes.set(xlim=(-4.2, 4.2), ylim=(-8.4, 8.4), xlabel="x", ylabel="y")
        axes.legend(frameon=False, loc="lower left")
