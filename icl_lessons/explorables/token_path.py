"""Explorable of *Token by token, block by block*: the weights that stand for the tokens read.

A block reads 100 examples of a line one after the other. After each of them, its dense matrix has
an update that stands for those read so far; the updates draw a path. The reader follows it for
weights that do regression and for random weights, with softmax and linear attention, in several
orders. `token_path_math.mjs` holds the mathematics; the tests compare it with
`icl_lessons.implicit_dynamics.token_path`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from icl_lessons.explorables.base import (
    Choice,
    DrawnExplorable,
    Number,
    WholeNumber,
    component_source,
    plural,
)
from icl_lessons.explorables.random_numbers import normals, uniforms
from icl_lessons.explorables.weight_update import gelu

EXAMPLES = 100
NOISE = 0.1
XS, NOISES, SHUFFLE = 20, 21, 22  # streams of chance
FIRST_FITTED = 5  # the first token of the fit of the slope
# Every random array: its stream of chance, its shape, and the scale of its entries.
RANDOM_PARTS = {
    "w_query": (30, (2, 2), 0.7),
    "w_key": (31, (2, 2), 0.7),
    "w_value": (32, (2, 2), 1.0),
    "projection": (33, (2, 2), 1.0),
    "dense": (34, (4, 2), 0.7),
    "dense_bias": (35, (4,), 0.3),
    "write": (36, (2, 4), 0.5),
    "write_bias": (37, (2,), 0.3),
}


@dataclass(frozen=True)
class Trace:
    """One block's way through the context.

    Attributes:
        weights: `W_0 ... W_n`, `[n + 1, 4, 2]`.
        with_context: predictions of the block with `W_0` and the tokens that `W_i` stands for.
        changed: predictions of the block with `W_i` without them, the same numbers.
    """

    weights: np.ndarray
    with_context: np.ndarray
    changed: np.ndarray

    @property
    def increments(self) -> np.ndarray:
        """`|W_{i+1} - W_i|_F`, `[n]`."""
        return np.linalg.norm(np.diff(self.weights, axis=0), axis=(1, 2))

    @property
    def slope(self) -> float:
        """Of the logarithm of the increments on that of the token's number, from the fifth on."""
        number = np.arange(1, len(self.weights))
        fitted = (number >= FIRST_FITTED) & (self.increments > 0)
        return float(np.polyfit(np.log(number[fitted]), np.log(self.increments[fitted]), 1)[0])

    @property
    def singular(self) -> np.ndarray:
        """Both singular values of `W_i - W_0`, `[n + 1, 2]`."""
        return np.linalg.svd(self.weights - self.weights[0], compute_uv=False)


class TokenPathExplorer(DrawnExplorable):
    """The implicit weights of a block after each of 100 examples of a line.

    Tokens are `(x_i, y_i)` with `y = slope x + noise`, `x ~ N(0, 1)`, noise of 0.1; the query is
    `(x_q, 0)` and attends to itself too. The prediction is the second coordinate of the output.
    The block is `AttentionBlock` of width 2 with one head, 4 hidden units, no skip and no norm.

    Weights "written" do regression: scores `x_i x_q`, values `(x_i, y_i)` as they are. With softmax
    the mean of `y` under weights `exp(x_i x_q)` tends to `slope x_q`, since that of `x` tends to
    `x_q` for normal inputs; with linear attention, scores over 100, it is the prediction of one
    step of gradient descent. The dense layer hands both coordinates on, `GELU(z) - GELU(-z) = z`.

    Args:
        weights: "written" or "random" (drawn by `seed`, has learned nothing).
        attention: "softmax", a weighted mean, or "linear", a sum.
        order: of the examples: "drawn", "sorted" by `x`, or "shuffled" by `shuffle`.
        path: "additive" [dherin2025learning, proposition 3.1], where `W_i` stands for the tokens
            read, or "factorised" [appendix B], where it absorbs them and the rest stay as context.
        read: tokens read, 0 to 100.
        slope: of the line, -2 to 2.
        query: `x_q`, 0.3 to 2. At 0 the block would be fed 0 without context.
        shuffle: which shuffle, 0 to 999.
        seed: of the examples and of the random weights, 0 to 999.

    Raises:
        ValueError: a value outside these ranges. The error names the trait.
    """

    _esm = component_source("token_path")
    _figure_size = (6.4, 4.6)

    weights = Choice(("written", "random")).tag(sync=True)
    attention = Choice(("softmax", "linear")).tag(sync=True)
    order = Choice(("drawn", "sorted", "shuffled")).tag(sync=True)
    path = Choice(("additive", "factorised")).tag(sync=True)
    read = WholeNumber(30, 0, EXAMPLES).tag(sync=True)
    slope = Number(1.2, -2.0, 2.0).tag(sync=True)
    query = Number(0.8, 0.3, 2.0).tag(sync=True)
    shuffle = WholeNumber(0, 0, 999).tag(sync=True)
    seed = WholeNumber(70, 0, 999).tag(sync=True)

    def context(self) -> np.ndarray:
        """The examples `(x, y)` in the order in which they are read, `[100, 2]`."""
        xs = normals(self.seed, XS, EXAMPLES)
        examples = np.stack([xs, self.slope * xs + NOISE * normals(self.seed, NOISES, EXAMPLES)], 1)
        if self.order == "sorted":
            examples = examples[np.argsort(xs, kind="stable")]
        if self.order == "shuffled":
            chance = uniforms(self.shuffle, SHUFFLE, EXAMPLES)
            examples = examples[np.argsort(chance, kind="stable")]
        return examples

    def block(self, kind: str | None = None) -> dict[str, np.ndarray]:
        """The arrays of the "written" or "random" block; of the one followed if `None`."""
        if (kind or self.weights) == "random":
            part = {
                name: scale * normals(self.seed, stream, int(np.prod(shape))).reshape(shape)
                for name, (stream, shape, scale) in RANDOM_PARTS.items()
            }
        else:
            first = np.diag([1.0, 0.0])
            signs = np.array([[1.0, -1.0]])
            part = {
                "w_query": first * (np.sqrt(2) if self.attention == "softmax" else 1.0),
                "w_key": first,
                "w_value": np.eye(2),
                "projection": np.eye(2),
                "dense": np.kron(np.eye(2), signs.T),
                "dense_bias": np.zeros(4),
                "write": np.kron(np.eye(2), signs),
                "write_bias": np.zeros(2),
            }
        if self.attention == "linear":
            part["w_query"] = part["w_query"] / EXAMPLES
        return part

    def trace(self, kind: str | None = None) -> Trace:
        """The path of the "written" or "random" block; of the one followed if `None`."""
        part, examples = self.block(kind), self.context()
        fed = [self._attend(part, examples[:i]) for i in range(EXAMPLES + 1)]
        if self.path == "additive":
            right = np.repeat(fed[:1], EXAMPLES + 1, 0)
            added = np.stack(fed) - fed[0]
            left = added @ part["dense"].T / np.square(fed[0]).sum()
            weights = part["dense"] + left[:, :, None] * right[:, None, :]
        else:
            right = np.stack([self._attend(part, examples[i:]) for i in range(EXAMPLES + 1)])
            weights = [part["dense"]]
            for before, after in zip(right[:-1], right[1:], strict=True):
                step = np.outer(weights[-1] @ (before - after), after) / np.square(after).sum()
                weights.append(weights[-1] + step)
            weights, fed = np.stack(weights), [fed[-1]] * (EXAMPLES + 1)
        return Trace(
            weights,
            self._finish(part, np.stack(fed) @ part["dense"].T),
            self._finish(part, np.einsum("nhd,nd->nh", weights, right)),
        )

    def _attend(self, part: dict[str, np.ndarray], examples: np.ndarray) -> np.ndarray:
        tokens = np.vstack([examples, [self.query, 0.0]])
        shares = tokens @ part["w_key"].T @ (part["w_query"] @ tokens[-1])
        if self.attention == "softmax":
            shares = np.exp((shares - shares.max()) / np.sqrt(2))
            shares /= shares.sum()
        return part["projection"] @ (part["w_value"] @ (shares @ tokens))

    def _finish(self, part: dict[str, np.ndarray], hidden: np.ndarray) -> np.ndarray:
        return gelu(hidden + part["dense_bias"]) @ part["write"][1] + part["write_bias"][1]

    def answer(self) -> float:
        """What the line says at the query."""
        return self.slope * self.query

    def _in_words(self) -> str:
        found = {kind: self.trace(kind) for kind in ("written", "random")}
        ends = "; ".join(
            f"with {kind} weights the prediction goes from {one.changed[0]:.3g} to "
            f"{one.changed[-1]:.3g} and the increments go as the token's number to the power "
            f"{one.slope:.2g}"
            for kind, one in found.items()
        )
        return (
            f"A block with {self.attention} attention reads {plural(EXAMPLES, 'example')} of a "
            f"line, and its dense matrix moves a little for each on the {self.path} path. The "
            f"answer at the query is {self.answer():.3g}; {ends}."
        )

    def _draw(self, axes: Any) -> None:
        number = np.arange(1, EXAMPLES + 1)
        looks = {"written": ("o-", "#006b52"), "random": ("s--", "#44505c")}
        for kind, (mark, color) in looks.items():
            found = self.trace(kind)
            label = f"{kind} weights, slope {found.slope:.2f}"
            steady = [float(f"{value:.9g}") for value in found.increments]  # on any machine
            seen = np.where(np.array(steady) > 0, steady, np.nan)
            axes.plot(number, seen, mark, color=color, markersize=3, linewidth=0.8, label=label)
        middle = float(np.median(number * self.trace("written").increments))
        axes.plot(number, middle / number, color="#1b1b1b", linewidth=1, label="1 / i")
        axes.set(xscale="log", yscale="log", xlabel="token i", ylabel="how far W moves")
        axes.legend(frameon=False, loc="lower left")
