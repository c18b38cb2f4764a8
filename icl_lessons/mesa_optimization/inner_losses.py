"""A layer for every loss: attention whose values are minus the gradient of what it descends.

Tokens hold an input, a target and the current prediction, ``(x_i, y_i, p_i)`` with ``p_i = W x_i``.
A token-wise map writes ``v_i = v(p_i, y_i)`` into a slot of its own; linear attention then adds

.. math::
    p_j \\leftarrow (1 - \\eta\\lambda)\\, p_j
        + \\frac{\\eta}{N} \\sum_i c_i\\, v(p_i, y_i)\\, x_i^\\top \\Gamma x_j

to every token, queries included. This is one step of gradient descent with metric ``Gamma`` on

.. math:: \\frac1N \\sum_i c_i\\, \\ell(W x_i, y_i) + \\frac{\\lambda}{2} \\|W\\|^2

if and only if ``v = -d l / d p``: the value map *is* the inner objective. The squared loss gives
back the construction of von Oswald et al. [vonoswald2023transformers, Proposition 1]. A value map
descends some loss exactly where its Jacobian ``d v / d p`` is symmetric (:func:`curl`); the loss is
then its path integral (:func:`recovered_loss`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.estimators.descent import start_weights
from icl_lessons.models.attention import context_mask, linear_attention
from icl_lessons.runtime import (
    check_context,
    check_integer,
    check_number,
    check_tensor,
    inside_transform,
)

ValueMap = Callable[[Tensor, Tensor], Tensor]  # (prediction, target) -> what a token's value holds


# --- losses and their value maps ----------------------------------------------------------------


@dataclass(frozen=True)
class InnerLoss:
    """A loss of one prediction, and minus its gradient: the values of a layer that descends it.

    Attributes:
        name: what the detector calls it.
        loss: ``(prediction [..., m], target [..., m]) -> [...]``, summed over coordinates.
        value: the same arguments ``-> [..., m]``, ``- d loss / d prediction``.
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    value: ValueMap


def check_loss(loss: InnerLoss) -> None:
    """Raise a TypeError unless ``loss`` is an :class:`InnerLoss` and not, say, its name."""
    if not isinstance(loss, InnerLoss):
        raise TypeError(
            f"loss: got {loss!r}; use an InnerLoss, such as INNER_LOSSES['squared'] or huber_loss()"
        )


def squared_loss() -> InnerLoss:
    """``1/2 |p - y|^2``; its value is the residual ``y - p``: a linear map of the token."""
    return InnerLoss("squared", lambda p, y: 0.5 * (p - y).square().sum(-1), lambda p, y: y - p)


def sign_flipped_loss() -> InnerLoss:
    """``-1/2 |p - y|^2``: descending it climbs the squared loss."""
    return InnerLoss(
        "sign_flipped", lambda p, y: -0.5 * (p - y).square().sum(-1), lambda p, y: p - y
    )


def absolute_loss() -> InnerLoss:
    """``|p - y|_1``; its value is the sign of each coordinate's residual."""
    return InnerLoss("absolute", lambda p, y: (p - y).abs().sum(-1), lambda p, y: (y - p).sign())


def huber_loss(delta: float | int = 1.0) -> InnerLoss:
    """Squared within ``delta`` of the target and linear beyond, summed over coordinates.

    Its value clips the residual, which two ReLUs do exactly (:func:`huber_units`):
    ``relu(y - p + delta) - relu(y - p - delta) - delta``.
    """
    check_number("delta", delta, positive=True)

    def loss(p: Tensor, y: Tensor) -> Tensor:
        size = (p - y).abs()
        inside, outside = 0.5 * size.square(), delta * (size - 0.5 * delta)
        return torch.where(size <= delta, inside, outside).sum(-1)

    def value(p: Tensor, y: Tensor) -> Tensor:
        return (y - p + delta).relu() - (y - p - delta).relu() - delta

    return InnerLoss("huber", loss, value)


def cosine_loss() -> InnerLoss:
    """``-cos(p, y)``; its value ``(y^ - (p^ . y^) p^) / |p|`` is orthogonal to the prediction.

    With ``m = 1`` it is constant but for the sign: the value is 0 and nothing is learned.

    Raises:
        ValueError: from either function, at a prediction or target of length 0, where the cosine
            has no gradient.
    """

    def unit(name: str, vector: Tensor) -> tuple[Tensor, Tensor]:
        length = vector.norm(dim=-1, keepdim=True)
        if not inside_transform(vector) and (length == 0).any():
            raise ValueError(
                f"{name}: a vector of length 0, where the cosine has no gradient; start from "
                "initial_weights that are not zero"
            )
        return vector / length, length

    def loss(p: Tensor, y: Tensor) -> Tensor:
        return -(unit("prediction", p)[0] * unit("target", y)[0]).sum(-1)

    def value(p: Tensor, y: Tensor) -> Tensor:
        (p_unit, length), (y_unit, _) = unit("prediction", p), unit("target", y)
        return (y_unit - (p_unit * y_unit).sum(-1, keepdim=True) * p_unit) / length

    return InnerLoss("cosine", loss, value)


def weighted(loss: InnerLoss, example_weights: Float[Tensor, "..."]) -> InnerLoss:
    """``c_i l(p_i, y_i)``: importance weights as part of the value map, from a weight channel.

    The same layer as ``loss.value`` with :attr:`ObjectiveLayer.example_weights`.
    """
    check_loss(loss)
    return InnerLoss(
        f"weighted {loss.name}",
        lambda p, y: example_weights.to(p) * loss.loss(p, y),
        lambda p, y: example_weights.to(p)[..., None] * loss.value(p, y),
    )


INNER_LOSSES: dict[str, InnerLoss] = {
    made.name: made
    for made in (
        squared_loss(),
        absolute_loss(),
        huber_loss(),
        cosine_loss(),
        sign_flipped_loss(),
    )
}


def huber_units(
    m: int, delta: float | int = 1.0, dtype: torch.dtype = torch.float64
) -> nn.Sequential:
    """The value map of Huber's loss as a token-wise MLP: two ReLUs for each coordinate, no error.

    Returns:
        ``Linear(2 m, 2 m)``, ``ReLU``, ``Linear(2 m, m)`` on ``(p, y)``.
    """
    check_integer("m", m, at_least=1)
    check_number("delta", delta, positive=True)
    read, write = nn.Linear(2 * m, 2 * m, dtype=dtype), nn.Linear(2 * m, m, dtype=dtype)
    eye, delta = torch.eye(m, dtype=dtype), float(delta)
    with torch.no_grad():
        read.weight.copy_(torch.cat([-eye, eye], 1).repeat(2, 1))
        read.bias.copy_(torch.tensor([delta, -delta], dtype=dtype).repeat_interleave(m))
        write.weight.copy_(torch.cat([eye, -eye], 1))
        write.bias.fill_(-delta)
    return nn.Sequential(read, nn.ReLU(), write).requires_grad_(False)


# --- layers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ObjectiveLayer:
    """Linear attention with a token-wise value map: one step on the loss that the map is of.

    Attributes:
        value: ``(prediction [..., m], target [..., m]) -> [..., m]``; an :class:`InnerLoss`'s
            ``value``, or any other map, trained ones included.
        step_size: ``eta``; negative to climb.
        preconditioner: ``Gamma``, ``[d, d]``; the identity if ``None``.
        leak: ``lambda``: predictions shrink by ``1 - eta lambda``, the step of
            ``lambda / 2 |W|^2``. Values are those of the prediction before it shrinks.
        example_weights: ``c``, ``[n_context]`` or ``[batch, n_context]``; ones if ``None``. They
            are not normalised: the sum is always divided by ``N``.
    """

    value: ValueMap
    step_size: float | int | Tensor
    preconditioner: Float[Tensor, "d d"] | None = None
    leak: float | int | Tensor = 0.0
    example_weights: Tensor | None = None

    def __post_init__(self):
        if not callable(self.value):
            raise TypeError(
                f"value: got {self.value!r}; use a map of prediction and target, such as the "
                "value of an InnerLoss"
            )
        for name in ("step_size", "leak"):
            if not isinstance(getattr(self, name), float | int | Tensor):
                raise TypeError(f"{name}: got {getattr(self, name)!r}; use a number")
        gamma = self.preconditioner
        if gamma is not None and (gamma.ndim != 2 or len(set(gamma.shape)) != 1):
            raise ValueError(
                f"preconditioner: got shape {tuple(gamma.shape)}; use a square matrix, [d, d]"
            )

    def values(
        self, p_context: Float[Tensor, "batch n m"], ys: Float[Tensor, "batch n m"]
    ) -> Float[Tensor, "batch n m"]:
        """``c_i v(p_i, y_i)``: what the token-wise map leaves in each context token."""
        values = self.value(p_context, ys)
        if self.example_weights is None:
            return values
        weights = self.example_weights.to(values)
        if weights.shape not in (values.shape[1:2], values.shape[:2]):
            raise ValueError(
                f"example_weights: got shape {tuple(weights.shape)}; use [n_context] = "
                f"{tuple(values.shape[1:2])} or [batch, n_context] = {tuple(values.shape[:2])}"
            )
        return weights[..., None] * values

    def weight_step(self, xs: Tensor, ys: Tensor, p_context: Tensor) -> Float[Tensor, "batch m d"]:
        """``eta / N sum_i c_i v_i x_i^T Gamma``: the step of the weights, but for the leak."""
        if p_context.shape != ys.shape:
            raise ValueError(
                f"p_context: got shape {tuple(p_context.shape)}; use that of ys, {tuple(ys.shape)}"
            )
        if self.preconditioner is not None and len(self.preconditioner) != xs.shape[2]:
            raise ValueError(
                f"preconditioner: made for {len(self.preconditioner)} coordinates; xs has "
                f"{xs.shape[2]}"
            )
        step = self.step_size / xs.shape[1] * (self.values(p_context, ys).mT @ xs)
        return step if self.preconditioner is None else step @ self.preconditioner.to(step)

    def __call__(
        self,
        xs: Float[Tensor, "batch n d"],
        ys: Float[Tensor, "batch n m"],
        p_context: Float[Tensor, "batch n m"],
        x_query: Float[Tensor, "batch n_query d"],
        p_query: Float[Tensor, "batch n_query m"],
    ) -> tuple[Float[Tensor, "batch n m"], Float[Tensor, "batch n_query m"]]:
        """The predictions of context and queries after the layer."""
        step, kept = self.weight_step(xs, ys, p_context), 1 - self.step_size * self.leak
        return kept * p_context + xs @ step.mT, kept * p_query + x_query @ step.mT

    # --- the same as attention ------------------------------------------------------------------

    def matrices(
        self, d: int, m: int, n_context: int, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(W_Q, W_K, W_V, P)`` on tokens ``[x | v | p]`` of width ``d + 2 m``, one head.

        Queries ``Gamma x``, keys ``x``, values ``v``; ``P`` writes ``eta / N`` of them to ``p``.
        """
        for name, size in {"d": d, "m": m, "n_context": n_context}.items():
            check_integer(name, size, at_least=1)
        width = d + 2 * m
        w_key = torch.eye(d, width, dtype=dtype)[None]
        w_query = w_key.clone()
        if self.preconditioner is not None:
            w_query[0, :, :d] = self.preconditioner.to(dtype)
        w_value = torch.zeros(1, m, width, dtype=dtype)
        w_value[0, :, d : d + m] = torch.eye(m, dtype=dtype)
        projection = torch.zeros(1, width, m, dtype=dtype)
        projection[0, d + m :] = self.step_size / n_context * torch.eye(m, dtype=dtype)
        return w_query, w_key, w_value, projection

    def tokens(
        self, xs: Tensor, ys: Tensor, p_context: Tensor, x_query: Tensor, p_query: Tensor
    ) -> Float[Tensor, "batch sequence width"]:
        """``[x | v | p]``, width ``d + 2 m``, after the token-wise map and the leak.

        ``v = 0`` in queries.
        """
        kept = 1 - self.step_size * self.leak
        context = torch.cat([xs, self.values(p_context, ys), kept * p_context], -1)
        query = torch.cat([x_query, torch.zeros_like(p_query), kept * p_query], -1)
        return torch.cat([context, query], 1)

    def as_attention(
        self, xs: Tensor, ys: Tensor, p_context: Tensor, x_query: Tensor, p_query: Tensor
    ) -> tuple[Float[Tensor, "batch n m"], Float[Tensor, "batch n_query m"]]:
        """What the layer computes, by :func:`~icl_lessons.models.attention.linear_attention`."""
        (_, n, d), m = xs.shape, ys.shape[2]
        out = linear_attention(
            self.tokens(xs, ys, p_context, x_query, p_query),
            *self.matrices(d, m, n, xs.dtype),
            context_mask(n, x_query.shape[1], device=xs.device),
        )
        return out[:, :n, d + m :], out[:, n:, d + m :]


@dataclass(frozen=True)
class ObjectiveStack:
    """A learner made of layers: each takes a step from where the one before it left the weights.

    Attributes:
        layers: in order; empty for a learner that predicts ``W_0 x``.
        initial_weights: ``W_0``, ``[m, d]`` or ``[batch, m, d]``; zeros if ``None``.
    """

    layers: Sequence[ObjectiveLayer]
    initial_weights: Tensor | None = None

    def __post_init__(self):
        if not isinstance(self.layers, Sequence):
            raise TypeError(f"layers: got {type(self.layers).__name__}; use a sequence of layers")

    def after(self, k: int) -> "ObjectiveStack":
        """The learner made of the first ``k`` layers; ``after(0)`` predicts ``W_0 x``."""
        check_integer("k", k, at_least=0)
        if k > len(self.layers):
            raise ValueError(f"k: got {k}; the stack has {len(self.layers)} layers")
        return ObjectiveStack(tuple(self.layers[:k]), self.initial_weights)

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        check_context(xs, ys, x_query)
        start = start_weights(xs, ys, self.initial_weights)
        p_context, p_query = xs @ start.mT, x_query @ start.mT
        for layer in self.layers:
            p_context, p_query = layer(xs, ys, p_context, x_query, p_query)
        return p_query


def gradient_step(
    loss: InnerLoss,
    weights: Float[Tensor, "batch m d"],
    xs: Float[Tensor, "batch n d"],
    ys: Float[Tensor, "batch n m"],
    step_size: float | int,
    *,
    preconditioner: Float[Tensor, "d d"] | None = None,
    leak: float | int = 0.0,
    example_weights: Tensor | None = None,
) -> Float[Tensor, "batch m d"]:
    """The weights after one step on ``1/N sum_i c_i l(W x_i, y_i) + leak / 2 |W|^2``, by autograd.

    What a layer is held to: it knows the loss and not its value map. The preconditioner applies to
    the gradient of the mean loss, not to that of the penalty.
    """
    check_context(xs, ys)
    check_loss(loss)
    if weights.shape[-2:] != (ys.shape[2], xs.shape[2]):
        raise ValueError(
            f"weights: got shape {tuple(weights.shape)}; use [batch, m, d] = "
            f"{(len(xs), ys.shape[2], xs.shape[2])}"
        )
    with torch.enable_grad():
        at = weights.detach().requires_grad_()
        losses = loss.loss(xs @ at.mT, ys)
        if example_weights is not None:
            losses = losses * example_weights.to(losses)
        (gradient,) = torch.autograd.grad(losses.mean(1).sum(), at)
    if preconditioner is not None:
        gradient = gradient @ preconditioner
    return (1 - step_size * leak) * weights - step_size * gradient


# --- is there a loss, and which? ----------------------------------------------------------------


def _check_alike(target: Tensor, prediction: Tensor) -> None:
    if target.shape != prediction.shape:
        raise ValueError(
            f"target: got shape {tuple(target.shape)}; prediction has {tuple(prediction.shape)}"
        )


def value_jacobian(
    value: ValueMap, prediction: Float[Tensor, "points m"], target: Float[Tensor, "points m"]
) -> Float[Tensor, "points m m"]:
    """``d v_a / d p_b`` at every point."""
    check_tensor("prediction", prediction, "points m")
    check_tensor("target", target, "points m")
    _check_alike(target, prediction)

    def one(p: Tensor, y: Tensor) -> Tensor:
        return value(p[None], y[None])[0]

    return torch.func.vmap(torch.func.jacrev(one))(prediction, target)


def curl(
    value: ValueMap, prediction: Float[Tensor, "points m"], target: Float[Tensor, "points m"]
) -> Float[Tensor, " points"]:
    """How far a value map is from descending anything: the antisymmetric share of its Jacobian.

    ``|J - J^T| / (2 |J|)`` in Frobenius norm with ``J = d v / d p``: 0 where the map is the
    gradient of some loss, 1 for a pure rotation, ``|sin a|`` for the residual turned by ``a`` in
    the plane. With ``m = 1`` it is 0 for every map. 0 also where ``J`` is.
    """
    jacobian = value_jacobian(value, prediction, target)
    antisymmetric = (jacobian - jacobian.mT).norm(dim=(1, 2))
    size = 2 * jacobian.norm(dim=(1, 2))
    return torch.where(size > 0, antisymmetric / size.clamp_min(torch.finfo(size.dtype).tiny), 0.0)


def recovered_loss(
    value: ValueMap,
    prediction: Float[Tensor, "points m"],
    target: Float[Tensor, "points m"],
    reference: Float[Tensor, "points m"] | None = None,
    through: Float[Tensor, "points m"] | None = None,
    nodes: int = 64,
) -> Float[Tensor, " points"]:
    """``l(prediction, y) - l(reference, y) = -int v . dp``: the loss that a value map descends.

    Args:
        reference: where the loss is called 0; the target itself if ``None``.
        through: a point to pass on the way. If the result depends on it, there is no loss.
        nodes: of the Gauss-Legendre rule on each straight piece. The rule is exact to rounding for
            smooth maps; a kink (Huber's) leaves an error of the order of ``1 / nodes^2``.
    """
    check_tensor("prediction", prediction, "points m")
    check_tensor("target", target, "points m")
    _check_alike(target, prediction)
    check_integer("nodes", nodes, at_least=1)
    places, shares = np.polynomial.legendre.leggauss(nodes)
    stops = [target if reference is None else reference]
    stops += [prediction] if through is None else [through, prediction]
    total = prediction.new_zeros(len(prediction))
    for start, end in zip(stops[:-1], stops[1:], strict=True):
        for place, share in zip(places, shares, strict=True):
            here = start + (1 + float(place)) / 2 * (end - start)
            total = total - float(share) / 2 * (value(here, target) * (end - start)).sum(-1)
    return total
