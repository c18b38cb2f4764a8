"""Objective surgery: edit a layer, and it descends another loss.

Every edit takes a layer and returns another; none changes the layer it is given.

=================== ========================================== ===================================
edit                what changes in the layer                  the new inner problem
=================== ========================================== ===================================
``scale_step``      ``P -> c P``                               step ``c eta``
``flip_sign``       ``P -> -P``                                gradient *ascent* on the old loss
``add_leak``        a token-wise ``p -> p - eta lambda p``     ``L + lambda/2 |W|^2``
``reweight``        values (or keys) times ``c_i``             ``1/N sum_i c_i l_i``
``set_metric``      ``W_K^T W_Q -> Gamma`` on the input slots  the same loss, step times ``Gamma``
``clip_values``     the value map clips at ``delta``           Huber's loss for the squared one
``forget_feature``  row and column ``j`` of ``Gamma`` to 0     the same loss without input ``j``
``replace_loss``    the value map                              any other loss
=================== ========================================== ===================================

The edits act on a layer that was written down
(:class:`~icl_lessons.mesa_optimization.inner_losses.ObjectiveLayer`), where they are exact, and on
a trained one (:class:`TrainedLayer`), where they are as exact as training was.
"""

import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.mesa_optimization.inner_losses import InnerLoss, ObjectiveLayer, check_loss
from icl_lessons.models.attention import SelfAttention
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import check_integer, check_number, check_tensor

# --- edits ----------------------------------------------------------------------------------------


def scale_step(layer: ObjectiveLayer, factor: float | int) -> ObjectiveLayer:
    """``eta -> factor * eta``, of the leak as well: the same objective, another step."""
    if not isinstance(factor, float | int):
        raise TypeError(f"factor: got {factor!r}; use a number, a negative one to climb")
    return replace(layer, step_size=factor * layer.step_size)


def flip_sign(layer: ObjectiveLayer) -> ObjectiveLayer:
    """``P -> -P``: gradient ascent on what the layer descended, its penalty included."""
    return scale_step(layer, -1)


def add_leak(layer: ObjectiveLayer, penalty: float | int) -> ObjectiveLayer:
    """Add ``penalty / 2 |W|^2`` to the objective, by shrinking each prediction *before* the step.

    The shrinking map is token-wise, ``p -> p - eta penalty p``, and needs no attention: the
    prediction of every token is linear in ``W``, so shrinking all predictions shrinks ``W``.
    """
    check_number("penalty", penalty)
    return replace(layer, leak=layer.leak + penalty)


def shrink_after(layer: ObjectiveLayer, penalty: float | int) -> ObjectiveLayer:
    """The tempting mistake: ``W <- (1 - eta penalty) (W - eta grad)``, shrinking after the step.

    It differs from the step of :func:`add_leak` by ``eta^2 penalty grad``, and is itself the
    right step of another problem: step ``eta (1 - eta penalty)``, penalty ``penalty / (1 - eta
    penalty)``. So a stack of such layers settles on ridge with too large a penalty.

    Raises:
        ValueError: a layer that leaks already, or ``eta penalty`` of 1 or more.
    """
    check_number("penalty", penalty)
    if layer.leak != 0:
        raise ValueError(f"layer: leaks already (leak {layer.leak}); give one without")
    kept = 1 - layer.step_size * penalty
    if not kept > 0:
        raise ValueError(f"penalty: got {penalty}; use one below 1 / step_size")
    return replace(layer, step_size=layer.step_size * kept, leak=penalty / kept)


def reweight(layer: ObjectiveLayer, weights: Float[Tensor, "..."]) -> ObjectiveLayer:
    """Multiply what each example counts by ``c_i``: ``[n_context]`` or ``[batch, n_context]``."""
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights: got {weights!r}; use a tensor, one number for each example")
    if layer.example_weights is not None:
        weights = layer.example_weights * weights
    return replace(layer, example_weights=weights)


def set_metric(layer: ObjectiveLayer, metric: Float[Tensor, "d d"]) -> ObjectiveLayer:
    """``W_K^T W_Q -> Gamma`` on the input slots. For a trained layer: put in another comparison."""
    check_tensor("metric", metric, "d d")
    return replace(layer, preconditioner=metric)


def clip_values(layer: ObjectiveLayer, delta: float | int) -> ObjectiveLayer:
    """Clip each coordinate of the value at ``delta``: of squared loss this makes Huber's.

    A loss that is a sum over coordinates stays a loss when its gradient is clipped. The cosine is
    not, and the clipped cosine layer descends nothing
    (:func:`~icl_lessons.mesa_optimization.inner_losses.curl` is not 0).
    """
    check_number("delta", delta, positive=True)
    value = layer.value
    return replace(layer, value=lambda p, y: value(p, y).clamp(-delta, delta))


def replace_loss(layer: ObjectiveLayer, loss: InnerLoss) -> ObjectiveLayer:
    """Put the value map of another loss in place of the layer's own."""
    check_loss(loss)
    return replace(layer, value=loss.value)


def forget_feature(layer: ObjectiveLayer, feature: int, d: int) -> ObjectiveLayer:
    """Zero row and column ``feature`` of ``Gamma``: inputs are compared without that coordinate.

    The weight of the feature then stays where it started. From a start of 0 there, the layer takes
    the step of the regression that never saw the feature; it still *predicts* targets that the
    feature helped to make, so what it explained is noise now.

    Args:
        feature: from 0.
        d: input coordinates.

    Raises:
        ValueError: no such feature.
    """
    check_integer("d", d, at_least=1)
    check_integer("feature", feature, at_least=0)
    if feature >= d:
        raise ValueError(f"feature: got {feature}; use one from 0 to {d - 1}")
    gamma = torch.eye(d) if layer.preconditioner is None else layer.preconditioner
    keep = torch.ones(d, dtype=gamma.dtype)
    keep[feature] = 0
    changes = {"preconditioner": keep[:, None] * gamma * keep}
    if isinstance(layer, TrainedLayer):
        changes |= {"key_stray": layer.key_stray * keep, "value_stray": layer.value_stray * keep}
    return replace(layer, **changes)


# --- trained linear attention ---------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedLayer(ObjectiveLayer):
    """A trained linear attention layer, read into the form in which the edits are made.

    Nothing is left out of what the layer predicts: with targets or residuals ``v`` in the context
    and an empty slot in the query, the layer adds

    .. math::
        \\Delta p_q = \\frac\\eta N \\sum_i (B v_i + C x_i)(x_i^\\top \\Gamma + v_i^\\top A) x_q .

    The construction has ``B = I`` and ``A = C = 0``. From a start that is not 0, ``v`` is what the
    value map makes of prediction and target, as in any other layer.

    Attributes:
        preconditioner: ``Gamma``, with a mean diagonal of 1.
        mix: ``B``, ``[m, m]``, with a mean diagonal of 1.
        key_stray: ``A``, ``[m, d]``: how far targets enter the comparison.
        value_stray: ``C``, ``[m, d]``: how far inputs enter the values.
    """

    mix: Tensor | None = None
    key_stray: Tensor | None = None
    value_stray: Tensor | None = None

    def weight_step(self, xs: Tensor, ys: Tensor, p_context: Tensor) -> Float[Tensor, "batch m d"]:
        """``eta / N sum_i (B v_i + C x_i) (x_i^T Gamma + v_i^T A)``, example weights inside."""
        v = self.value(p_context, ys)
        c = 1.0 if self.example_weights is None else self.example_weights.to(v)[..., None]
        values = c * (v @ self.mix.mT + xs @ self.value_stray.mT)
        keys = xs @ self.preconditioner + v @ self.key_stray
        return self.step_size / xs.shape[1] * (values.mT @ keys)

    def matrices(
        self, d: int, m: int, n_context: int, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(W_Q, W_K, W_V, P)`` on tokens ``[x | v | p]``, the stray entries included."""
        w_query, w_key, w_value, projection = super().matrices(d, m, n_context, dtype)
        w_query = torch.eye(d, d + 2 * m, dtype=dtype)[None]
        w_key[0, :, :d], w_key[0, :, d : d + m] = self.preconditioner.mT, self.key_stray.mT
        w_value[0, :, :d], w_value[0, :, d : d + m] = self.value_stray, self.mix
        return w_query, w_key, w_value, projection


def read_trained(layer: SelfAttention, d: int, n_context: int) -> TrainedLayer:
    """The blocks of a trained one-head layer on tokens ``(x, y)``, with an empty query slot.

    The scale of the two products is free: ``W_K^T W_Q`` is divided by the mean ``beta`` of its
    first ``d`` diagonal entries and ``P W_V`` multiplied by it.

    Args:
        d: input coordinates; the other slots hold the target. The prediction is what the layer
            adds to the query's target slot.
        n_context: ``N`` of training: the weights hold ``eta / N``.

    Raises:
        ValueError: several heads, or softmax attention, which cannot be read this way.
    """
    check_integer("d", d, at_least=1)
    check_integer("n_context", n_context, at_least=1)
    if not isinstance(layer, SelfAttention):
        raise TypeError(f"layer: got {type(layer).__name__}; use a SelfAttention")
    if layer.w_query.shape[0] != 1 or layer.kind != "linear":
        raise ValueError("layer: use one head of linear attention; others do not have this form")
    if not d < layer.w_query.shape[2]:
        raise ValueError(f"d: got {d}; a token of {layer.w_query.shape[2]} slots has a target too")
    key_query, write = layer.key_query()[0].detach(), layer.projection_value()[0].detach()
    beta = key_query.diagonal()[:d].mean()
    step = n_context * beta * write[d:, d:].diagonal().mean()
    if step == 0:
        raise ValueError("layer: a step of size 0; there is nothing to read")
    values = n_context * beta / step * write[d:]
    return TrainedLayer(
        value=lambda p, y: y - p,
        step_size=step.item(),
        preconditioner=key_query[:d, :d] / beta,
        mix=values[:, d:],
        key_stray=key_query[d:, :d] / beta,
        value_stray=values[:, :d],
    )


# --- trained transformers -------------------------------------------------------------------------


@torch.no_grad()
def scale_attention_writes(model: Transformer, block: int, factor: float | int) -> Transformer:
    """A copy in which one block's attention adds ``factor`` times what it added.

    In a linear layer this scales the step; in a transformer with norms, an MLP and more blocks
    nothing guarantees it, and the experiment measures what happens.
    """
    edited = _copy(model, block)
    edited.blocks[block].attention.write.weight.mul_(factor)
    return edited


@torch.no_grad()
def blind_comparison(model: Transformer, block: int, feature: int) -> Transformer:
    """A copy in which one block's queries and keys cannot see the direction that input ``feature``
    was read in along (as the norm before them passes it on: centred)."""
    edited = _copy(model, block)
    direction = _read_in_direction(edited, feature)
    if edited.config.layer_norm:
        direction = direction - direction.mean()
        direction = direction * edited.blocks[block].norm_attention.weight
    direction = direction / direction.norm()
    matrix = edited.blocks[block].attention.query_key_value.weight
    width = edited.config.width
    matrix[: 2 * width] -= (matrix[: 2 * width] @ direction)[:, None] * direction
    return edited


@torch.no_grad()
def blind_read_in(model: Transformer, feature: int) -> Transformer:
    """A copy that never reads input ``feature``: all of the model is blind to it."""
    edited = _copy(model, 0)
    _read_in_direction(edited, feature)
    edited.read_in.weight[:, feature] = 0
    return edited


@torch.no_grad()
def flip_labels(model: Transformer) -> Transformer:
    """A copy that reads every target with the other sign (``pair`` layout)."""
    edited = _copy(model, 0)
    d, m = edited.config.d, edited.config.m
    edited.read_in.weight[:, d : d + m].neg_()
    return edited


def _read_in_direction(model: Transformer, feature: int) -> Tensor:
    check_integer("feature", feature, at_least=0)
    if feature >= model.config.d:
        raise ValueError(f"feature: got {feature}; use one from 0 to {model.config.d - 1}")
    return model.read_in.weight[:, feature].clone()


def _copy(model: Transformer, block: int) -> Transformer:
    check_integer("block", block, at_least=0)
    if block >= len(model.blocks):
        raise ValueError(f"block: got {block}; the model has {len(model.blocks)}")
    if model.config.layout != "pair":
        raise ValueError(f"model: laid out as {model.config.layout!r}; these edits are for 'pair'")
    return copy.deepcopy(model)
