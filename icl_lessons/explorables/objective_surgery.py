"""Explorable of *Surgery on the inner objective*: edit one layer, and it descends another loss.

Eight examples in the plane with two targets each, one of them an outlier. The reader chooses an
edit and sees which of the layer's matrices it changes, the value that each example writes, the
path of the weights over the contours of the inner loss, and the error on the true task.
`objective_surgery_math.mjs` computes every path twice, on weights and by attention on tokens; the
tests compare both with `icl_lessons.mesa_optimization.inner_losses`.
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
    plural,
)

OBJECTIVES = {
    "squared": "squared loss",
    "ridge": "ridge",
    "huber": "Huber's loss",
    "absolute": "absolute loss",
    "cosine": "cosine",
    "sign_flipped": "sign-flipped loss",
    "weighted": "example-weighted loss",
    "forget": "squared loss without one feature",
    "metric": "squared loss in another metric",
}
MOST_LAYERS = 40
OUTLIER = 7  # which example the reader moves
INPUTS = np.array(
    [[1.4, 0.5], [0.9, 1.2], [0.6, -0.5], [-0.4, 0.9], [-1.3, -0.4], [-0.9, -1.2], [0.1, -0.9],
     [1.2, -0.3]]
)  # fmt: skip
NOISE = np.array(
    [[0.05, -0.08], [-0.1, 0.04], [0.07, 0.1], [-0.06, -0.05], [0.03, 0.09], [0.08, -0.04],
     [-0.09, 0.02], [0.0, 0.0]]
)  # fmt: skip
TRUE_WEIGHTS = np.array([[1.3, 0.5], [-0.6, 1.2]])
INITIAL_WEIGHTS = np.array([[0.4, -0.3], [0.1, 0.5]])


class ObjectiveSurgeryExplorer(DrawnExplorable):
    """Layers of linear attention with an edit each, on a regression of two targets on two inputs.

    A token holds an input `x`, a target `y` and the current prediction `p = W x`. A layer is

        p_j <- (1 - eta lambda) p_j + eta / N  sum_i c_i v(p_i, y_i) x_i^T Gamma x_j,

    one step of gradient descent on an inner loss where `v = -d loss / d p`. Without an edit
    `lambda = 0`, `c = 1`, `Gamma = I` and `v = y - p`: the squared loss
    `1/(2N) sum_i |W x_i - y_i|^2`. The error on the true task is
    `1/2 E |W x - W* x|^2 = 1/2 |W - W*|^2` for `x ~ N(0, I)`.

    Args:
        objective: the edit, a key of `OBJECTIVES`: "squared" (none), "ridge" (the leak), "huber",
            "absolute", "cosine" (the value map), "sign_flipped" (the sign of the projection),
            "weighted" (the outlier's key), "forget" (a row and column of `Gamma`), "metric"
            (`Gamma`).
        step_size: `eta`, 0 to 1.5.
        layers: how many layers, 0 to 40; all have the same edit.
        ridge: `lambda` of "ridge", 0 to 2.
        delta: where "huber" clips, 0.05 to 4.
        outlier_weight: `c` of the outlier under "weighted", 0 to 3; the others keep 1.
        forgotten: the feature that "forget" removes, 1 or 2.
        metric: `t` of "metric", `Gamma = (1 - t) I + t S^-1` with `S` the inputs' second moment.
        outlier: the target of the eighth example, two numbers between -3 and 3. It lies on the
            true task at (1.41, -1.08).
        row: which row of `W` (which target) the map of weights shows, 1 or 2.

    Raises:
        ValueError: a value outside these ranges. The error names the trait.
    """

    _esm = component_source("objective_surgery")
    _figure_size = (6.4, 4.6)

    objective = Choice(tuple(OBJECTIVES), "huber").tag(sync=True)
    step_size = Number(0.4, 0.0, 1.5).tag(sync=True)
    layers = WholeNumber(12, 0, MOST_LAYERS).tag(sync=True)
    ridge = Number(0.5, 0.0, 2.0).tag(sync=True)
    delta = Number(0.5, 0.05, 4.0).tag(sync=True)
    outlier_weight = Number(0.1, 0.0, 3.0).tag(sync=True)
    forgotten = WholeNumber(2, 1, 2).tag(sync=True)
    metric = Number(1.0, 0.0, 1.0).tag(sync=True)
    outlier = Point([-2.5, 2.5], (3.0, 3.0)).tag(sync=True)
    row = WholeNumber(1, 1, 2).tag(sync=True)

    def context(self) -> tuple[np.ndarray, np.ndarray]:
        """The examples: inputs `[8, 2]` and targets `[8, 2]`, the outlier last."""
        targets = INPUTS @ TRUE_WEIGHTS.T + NOISE
        targets[OUTLIER] = self.outlier
        return INPUTS.copy(), targets

    def preconditioner(self) -> np.ndarray:
        """`Gamma`, `[2, 2]`."""
        gamma = np.eye(2)
        if self.objective == "forget":
            gamma[self.forgotten - 1, self.forgotten - 1] = 0
        if self.objective == "metric":
            inverse = np.linalg.inv(INPUTS.T @ INPUTS / len(INPUTS))
            gamma = (1 - self.metric) * gamma + self.metric * inverse
        return gamma

    def leak(self) -> float:
        """`lambda`, 0 but under "ridge"."""
        return self.ridge if self.objective == "ridge" else 0.0

    def example_weights(self) -> np.ndarray:
        """`c`, `[8]`."""
        weights = np.ones(len(INPUTS))
        if self.objective == "weighted":
            weights[OUTLIER] = self.outlier_weight
        return weights

    def values(self, predictions: np.ndarray) -> np.ndarray:
        """`v`, `[8, 2]`, with the sign that the projection gives it but without `c`.

        The cosine's value at a prediction or target of length 0 is called 0.
        """
        p, y = predictions, self.context()[1]
        if self.objective == "huber":
            return np.clip(y - p, -self.delta, self.delta)
        if self.objective == "absolute":
            return np.sign(y - p)
        if self.objective == "cosine":
            sizes = [np.linalg.norm(part, axis=1, keepdims=True) for part in (p, y)]
            defined = (sizes[0] > 0) & (sizes[1] > 0)
            length, target_length = (np.where(defined, size, 1) for size in sizes)
            p, y = p / length, y / target_length
            return defined * (y - (p * y).sum(1, keepdims=True) * p) / length
        return p - y if self.objective == "sign_flipped" else y - p

    def weights(self) -> np.ndarray:
        """`W` before the first layer and after each, `[layers + 1, 2, 2]`."""
        xs, path = INPUTS, [INITIAL_WEIGHTS]
        for _ in range(self.layers):
            pulls = self.example_weights()[:, None] * self.values(xs @ path[-1].T)
            step = self.step_size / len(xs) * pulls.T @ xs @ self.preconditioner()
            path.append((1 - self.step_size * self.leak()) * path[-1] + step)
        return np.stack(path)

    def inner_loss(self, weights: np.ndarray) -> float:
        """What the layers descend, at one `W`, `[2, 2]`: a mean over the examples."""
        xs, ys = self.context()
        away = xs @ weights.T - ys
        size = np.abs(away)
        losses = 0.5 * np.square(away).sum(1)
        if self.objective == "huber":
            beyond = self.delta * (size - self.delta / 2)
            losses = np.where(size <= self.delta, 0.5 * size**2, beyond).sum(1)
        if self.objective == "absolute":
            losses = size.sum(1)
        if self.objective == "cosine":
            p = xs @ weights.T
            lengths = np.linalg.norm(p, axis=1) * np.linalg.norm(ys, axis=1)
            losses = -(p * ys).sum(1) / np.where(lengths > 0, lengths, 1)
        if self.objective == "sign_flipped":
            losses = -losses
        penalty = self.leak() / 2 * np.square(weights).sum()
        return float((self.example_weights() * losses).mean() + penalty)

    def inner_losses(self) -> np.ndarray:
        """The inner loss before the first layer and after each, `[layers + 1]`."""
        return np.array([self.inner_loss(weights) for weights in self.weights()])

    def task_errors(self) -> np.ndarray:
        """The error on the true task before the first layer and after each, `[layers + 1]`."""
        return 0.5 * np.square(self.weights() - TRUE_WEIGHTS).sum((1, 2))

    def unedited(self) -> "ObjectiveSurgeryExplorer":
        """The same layers without the edit."""
        return ObjectiveSurgeryExplorer(
            objective="squared", step_size=self.step_size, layers=self.layers, outlier=self.outlier
        )

    def _in_words(self) -> str:
        losses, errors = self.inner_losses(), self.task_errors()
        return (
            f"{plural(self.layers, 'layer')} of attention that descend the "
            f"{OBJECTIVES[self.objective]} on eight examples, one of them an outlier at "
            f"({self.outlier[0]:g}, {self.outlier[1]:g}). The inner loss goes from "
            f"{losses[0]:.3g} to {losses[-1]:.3g}, the error on the true task from "
            f"{errors[0]:.3g} to {errors[-1]:.3g}; without the edit it ends at "
            f"{self.unedited().task_errors()[-1]:.3g}."
        )

    def _draw(self, axes: Any) -> None:
        row = self.row - 1
        x, y = np.meshgrid(np.linspace(-1.8, 2.4, 43), np.linspace(-1.6, 2.2, 39))
        last = self.weights()[-1]
        loss = np.empty_like(x)
        for at in np.ndindex(x.shape):
            weights = last.copy()
            weights[row] = x[at], y[at]
            loss[at] = self.inner_loss(weights)
        levels = np.unique(np.quantile(loss, np.arange(1, 12) / 12))
        axes.contour(x, y, loss, levels=levels, colors="#44505c", linewidths=0.7, alpha=0.5)
        edited, plain = self.weights()[:, row], self.unedited().weights()[:, row]
        axes.plot(*plain.T, "s--", color="#44505c", markersize=3, label="squared loss, no edit")
        label = OBJECTIVES[self.objective]
        axes.plot(*edited.T, "o-", color="#8e3b78", markersize=4, label=label)
        axes.plot(*TRUE_WEIGHTS[row], "+", color="#1b1b1b", markersize=13, label="true task")
        axes.set(xlim=(-1.8, 2.4), ylim=(-1.6, 2.2))
        axes.set(xlabel=f"weight of x₁ for y{'₁₂'[row]}", ylabel=f"weight of x₂ for y{'₁₂'[row]}")
        axes.legend(frameon=False, loc="lower left")
