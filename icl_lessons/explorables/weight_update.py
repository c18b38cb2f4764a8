"""Explorable of *The context as a weight update*: tokens come and go, the update stays of rank one.

A block with random weights, softmax attention and then an MLP, reads a query in the plane after a
few context tokens. The reader moves, adds and removes tokens, sees the matrix that stands for them
and keeps an update while the query moves on. `weight_update_math.mjs` holds the mathematics; the
tests compare it with `icl_lessons.implicit_dynamics`.
"""

from typing import Any

import numpy as np
import traitlets

from icl_lessons.explorables.base import (
    DrawnExplorable,
    InvalidTrait,
    Numbers,
    Point,
    WholeNumber,
    component_source,
    plural,
)
from icl_lessons.explorables.one_step import NumbersLike
from icl_lessons.explorables.random_numbers import normals

REACH = 2.0
MOST_TOKENS = 12
WIDTH, HIDDEN = 4, 6

# Every array of the block: its stream of chance, its shape, and the scale of its entries.
PARTS = {
    "read_in": (0, (WIDTH, 3), 0.7),
    "w_query": (1, (WIDTH, WIDTH), 0.7),
    "w_key": (2, (WIDTH, WIDTH), 0.7),
    "w_value": (3, (WIDTH, WIDTH), 0.5),
    "projection": (4, (WIDTH, WIDTH), 0.5),
    "dense": (5, (HIDDEN, WIDTH), 0.5),
    "dense_bias": (6, (HIDDEN,), 0.3),
    "write": (7, (WIDTH, HIDDEN), 0.4),
    "write_bias": (8, (WIDTH,), 0.3),
}


def gelu(x: np.ndarray) -> np.ndarray:
    """`x Phi(x)` with the normal distribution's exact `Phi`."""
    import torch

    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


class WeightUpdateExplorer(DrawnExplorable):
    """A random block, the context's rank-one update of its dense matrix, and a misuse of it.

    A point `p` of the plane becomes the token `R (p, 1)` of width 4; the query attends by softmax
    over the context's tokens and itself, `A(C, x)`; an MLP with 6 hidden units reads that, its
    first matrix is `W`. The update that stands for the context [dherin2025learning, theorem 2.2]::

        Delta = W (A(C, x) - A(x)) A(x)^T / |A(x)|^2

    and with the skip connection `x + A(C, x)` around the MLP also a change `A(C, x) - A(x)` of the
    last bias [appendix A]. The block has learned nothing: all its weights are drawn by `seed`.

    Args:
        xs, ys: coordinates of the context's tokens, at most twelve, each between -2 and 2.
        query: two numbers between -2 and 2.
        skip: whether `x + A(C, x)` is added to the output.
        patch_bias: whether the update includes the bias, which only a block with a skip needs.
        kept: an update that is kept while tokens and query move on, by where it was made: the
            query and then the tokens, x and y in turn; empty if the update follows.
        seed: of the block's weights, 0 to 999.

    Raises:
        ValueError: a value outside these ranges, `xs` and `ys` of different lengths, or `kept` of
            an odd number of numbers. The error names the trait.
    """

    _esm = component_source("weight_update")
    _figure_size = (6.4, 5.0)

    xs = Numbers([-1.5, -0.8, 0.3, 1.4, -1.1], -REACH, REACH, MOST_TOKENS).tag(sync=True)
    ys = Numbers([1.2, -1.3, 1.6, -1.0, 0.2], -REACH, REACH, MOST_TOKENS).tag(sync=True)
    query = Point([0.8, 0.5], (REACH, REACH)).tag(sync=True)
    skip = traitlets.Bool(False).tag(sync=True)
    patch_bias = traitlets.Bool(True).tag(sync=True)
    kept = Numbers([], -REACH, REACH, 2 * MOST_TOKENS + 2).tag(sync=True)
    seed = WholeNumber(7, 0, 999).tag(sync=True)

    @traitlets.validate("xs", "ys")
    def _as_many_of_both(self, proposal: dict[str, Any]) -> list[float]:
        other = "ys" if proposal["trait"].name == "xs" else "xs"
        if len(proposal["value"]) != len(getattr(self, other)):
            raise InvalidTrait(
                f"{proposal['trait'].name} would hold {len(proposal['value'])} numbers and {other} "
                f"holds {len(getattr(self, other))}; every token needs both: use "
                "set_tokens(xs, ys) to change their number"
            )
        return proposal["value"]

    @traitlets.validate("kept")
    def _pairs(self, proposal: dict[str, Any]) -> list[float]:
        if len(proposal["value"]) % 2:
            raise InvalidTrait(
                f"kept holds {len(proposal['value'])} numbers; it is empty, or the query and the "
                "tokens of a kept update, two numbers each"
            )
        return proposal["value"]

    def set_tokens(self, xs: NumbersLike, ys: NumbersLike) -> None:
        """Replace the context's tokens, whose number may change.

        Raises:
            ValueError: `xs` and `ys` of different lengths, or a number outside the plot.
        """
        with self.hold_sync(), self.hold_trait_notifications():
            self.xs = xs
            self.ys = ys

    def keep(self) -> None:
        """Keep the update as it is now, whatever moves."""
        pairs = zip([self.query[0], *self.xs], [self.query[1], *self.ys], strict=True)
        self.kept = [number for pair in pairs for number in pair]

    def weights(self) -> dict[str, np.ndarray]:
        """The block: an array for each of `PARTS`, matrices `[out, in]`."""
        return {
            name: scale * normals(self.seed, stream, int(np.prod(shape))).reshape(shape)
            for name, (stream, shape, scale) in PARTS.items()
        }

    def context(self) -> np.ndarray:
        """The context's points, `[n, 2]`."""
        return np.stack([self.xs, self.ys], 1).reshape(-1, 2)

    def attention(self, points: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`A(C, x)`, `[4]`, and how much of it comes from each token, the query last, `[n + 1]`."""
        part = self.weights()
        tokens = np.pad(np.vstack([points, query]), ((0, 0), (0, 1)), constant_values=1.0)
        tokens = tokens @ part["read_in"].T
        scores = tokens @ part["w_key"].T @ (part["w_query"] @ tokens[-1]) / np.sqrt(WIDTH)
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        return part["projection"] @ (part["w_value"] @ (shares @ tokens)), shares

    def update(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Left vector `[6]` and right vector `[4]`, whose product is `Delta`, and the bias `[4]`.

        Of the present context and query, or of those at which the update was kept. The bias is 0
        without a skip or where it is not patched.
        """
        points, query = self.context(), np.array(self.query)
        if self.kept:
            query, *rest = np.reshape(self.kept, (-1, 2))
            points = np.reshape(rest, (-1, 2))
        right = self.attention(points[:0], query)[0]
        added = self.attention(points, query)[0] - right
        left = self.weights()["dense"] @ added / (right @ right)
        return left, right, added * (self.skip and self.patch_bias)

    def output(
        self,
        points: np.ndarray,
        query: np.ndarray,
        change: np.ndarray | float = 0.0,
        bias: np.ndarray | float = 0.0,
    ) -> np.ndarray:
        """The block's output at the query, `[4]`, its matrix `W + change`, its last bias moved."""
        part = self.weights()
        read = self.attention(points, query)[0]
        out = part["write"] @ gelu((part["dense"] + change) @ read + part["dense_bias"])
        out = out + part["write_bias"] + bias
        if self.skip:
            out = out + part["read_in"] @ [*query, 1.0] + read
        return out

    def outputs(self) -> dict[str, np.ndarray]:
        """At the query: `with_context`, `changed` (W + Delta, no context), `without` (neither)."""
        points, query = self.context(), np.array(self.query)
        left, right, bias = self.update()
        return {
            "with_context": self.output(points, query),
            "changed": self.output(points[:0], query, np.outer(left, right), bias),
            "without": self.output(points[:0], query),
        }

    def _in_words(self) -> str:
        left, right, _ = self.update()
        shown = self.outputs()
        size = np.linalg.norm(left) * np.linalg.norm(right)
        share = size / np.linalg.norm(self.weights()["dense"])
        gap = np.linalg.norm(shown["changed"] - shown["with_context"])
        alone = np.linalg.norm(shown["without"] - shown["with_context"])
        how = "a kept update" if self.kept else "the update"
        same = "less than 1e-12" if gap < 1e-12 else f"{gap:.3g}"
        return (
            f"A block with random weights and {plural(len(self.xs), 'context token')}: the change "
            f"of its 6 by 4 matrix that stands for them is a column times a row, so of rank one, "
            f"with singular value {size:.3g}, {share:.2g} times the size of the matrix. With {how} "
            f"and no context the output at the query differs from that with context by {same}; "
            f"with neither, by {alone:.3g}."
        )

    def _draw(self, axes: Any) -> None:
        left, right, _ = self.update()
        grid = np.full((HIDDEN + 1, WIDTH + 1), np.nan)
        grid[1:, 1:] = np.outer(left, right)
        most = np.nanmax(np.abs(grid)) or 1.0
        axes.imshow(grid, cmap="BrBG", vmin=-1.5 * most, vmax=1.5 * most)
        for (a, b), value in np.ndenumerate(grid):
            edge = right[b - 1] if a == 0 and b else left[a - 1] if b == 0 and a else value
            if np.isfinite(edge):
                weight = "bold" if a == 0 or b == 0 else "normal"
                axes.text(b, a, f"{edge:.2f}", ha="center", va="center", weight=weight)
        axes.set(xticks=[0, 2.5], yticks=[0, 3.5], frame_on=False)
        axes.set_xticklabels(["left vector", "the update: left times right"])
        axes.set_yticklabels(["right vector,\nA(x)", "hidden units"])
        axes.tick_params(length=0)
