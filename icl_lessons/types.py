"""The two call signatures that everything in the package obeys, and the batch that tasks produce.

A *learner* is a function from a context and a query to a prediction. Ridge regression is one, a
step of gradient descent is one, and so is a transformer, whether its weights were written down or
trained. Because they share one signature, any two of them can be compared by any measure.
"""

from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Learner(Protocol):
    """Regression in context: ``learner(xs, ys, x_query) -> y_hat``."""

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]: ...


@runtime_checkable
class SequenceModel(Protocol):
    """Everything made of tokens: position ``t`` of the output predicts token ``t + 1``."""

    def __call__(
        self, tokens: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length vocabulary"]: ...


@dataclass(frozen=True)
class Batch:
    """Contexts with their queries, and the task each was drawn from.

    Attributes:
        xs: inputs of the context, ``[batch, n_context, d]``.
        ys: targets of the context, ``[batch, n_context, m]``, noise included.
        x_query: inputs to predict at, ``[batch, n_query, d]``.
        y_query: targets there, ``[batch, n_query, m]``, noise included.
        weights: the linear task ``W`` of each context, ``[batch, m, d]``; ``None`` for tasks that
            are not linear.
    """

    xs: Float[Tensor, "batch n_context d"]
    ys: Float[Tensor, "batch n_context m"]
    x_query: Float[Tensor, "batch n_query d"]
    y_query: Float[Tensor, "batch n_query m"]
    weights: Float[Tensor, "batch m d"] | None = None

    def to(self, *args, **kwargs) -> "Batch":
        """The same batch on another device or in another dtype (arguments of ``Tensor.to``)."""
        moved = {
            f.name: value if (value := getattr(self, f.name)) is None else value.to(*args, **kwargs)
            for f in fields(self)
        }
        return Batch(**moved)

    def __len__(self) -> int:
        return self.xs.shape[0]

    @property
    def context(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(xs, ys, x_query)``: what a learner may see."""
        return self.xs, self.ys, self.x_query
