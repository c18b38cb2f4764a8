"""The context taken in token by token: a path of weight matrices, and why it is a descent.

Two paths lead from ``W_0`` to weights that stand for the whole context.

* *Additive* [dherin2025learning, proposition 3.1]: ``W_i`` stands for the first ``i`` tokens. With
  ``A_i = A(c_1 ... c_i, x)``,

  .. math:: W_{i+1} = W_i - h \\nabla L_i(W_i), \\quad h = \\frac{1}{\\|A_0\\|^2}, \\quad
            L_i(W) = \\mathrm{tr}(G_i^\\top W), \\quad G_i = W_0 (A_i - A_{i+1}) A_0^\\top.

  Every step changes the same direction of the dense layer's input, so the change never has a rank
  above one, however many tokens there are.
* *Factorised* [dherin2025learning, appendix B]: tokens are absorbed from the front while the rest
  stay as context. With ``B_i = A(c_{i+1} ... c_n, x)``,

  .. math:: W_i = W_{i-1} \\big(I + h_i (B_{i-1} - B_i) B_i^\\top\\big), \\quad
            h_i = \\frac{1}{\\|B_i\\|^2}.

Both end where the block alone answers as with its context, at different matrices. The "losses" are
linear, have no minimum and are made from the step that follows: any path of matrices is a descent
on such losses. What a path says about learning has to be measured.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.implicit_dynamics.contextual_blocks import (
    Context,
    ContextualBlock,
    Query,
    check_tokens,
)


@dataclass(frozen=True)
class TokenPath:
    """Where the weights go as the context is read from the front, by the additive path.

    Attributes:
        initial: ``W_0``, ``[hidden, dense_width]``.
        inputs: ``A_0, ..., A_n``: what the dense layer is fed after each number of tokens,
            ``[batch, n_context + 1, dense_width]``.
        biases: change of what is added to the output, ``[batch, n_context + 1, width]``.
    """

    initial: Float[Tensor, "hidden dense_width"]
    inputs: Float[Tensor, "batch n_context_plus_1 dense_width"]
    biases: Float[Tensor, "batch n_context_plus_1 width"]

    @property
    def step_size(self) -> Float[Tensor, " batch"]:
        """``h = 1 / |A_0|^2``, the same at every token."""
        return 1 / self.inputs[:, 0].square().sum(-1)

    @property
    def weights(self) -> Float[Tensor, "batch n_context_plus_1 hidden dense_width"]:
        """``W_0, ..., W_n``."""
        added = self.inputs - self.inputs[:, :1]
        left = torch.einsum("b,hd,btd->bth", self.step_size, self.initial, added)
        return self.initial + left[..., None] * self.inputs[:, :1, None, :]

    @property
    def gradients(self) -> Float[Tensor, "batch n_context hidden dense_width"]:
        """``G_0, ..., G_{n-1}``: gradients of the ``L_i``, the same at any weights."""
        left = (self.inputs[:, :-1] - self.inputs[:, 1:]) @ self.initial.mT
        return left[..., None] * self.inputs[:, :1, None, :]

    def loss(self, weights: Float[Tensor, "batch hidden dense_width"], token: int) -> Tensor:
        """``L_i(W) = tr(G_i^T W)`` of each context; ``token`` is ``i``, from 0."""
        return (self.gradients[:, token] * weights).sum((-2, -1))

    @property
    def increments(self) -> Float[Tensor, "batch n_context"]:
        """``|W_{i+1} - W_i|_F``: how far each token moves the weights."""
        moved = (self.inputs[:, 1:] - self.inputs[:, :-1]) @ self.initial.mT
        return moved.norm(dim=-1) * self.step_size.sqrt()[:, None]


def _check_fed(inputs: Tensor) -> None:
    if not (inputs.square().sum(-1) > 0).all():
        raise ValueError(
            "query: the dense layer is fed 0 at a point of the path, A(x) = 0; no change of its "
            "weights can have an effect there"
        )


def token_path(block: ContextualBlock, context: Context, query: Query) -> TokenPath:
    """The additive path: after ``i`` tokens, the weights that stand for these ``i``.

    Args:
        block: any contextual block.
        context: ``[batch, n_context, width]``, in the order in which it is read.
        query: ``[batch, width]``.

    Raises:
        ValueError: tokens that do not fit, or ``A(x) = 0``.
    """
    check_tokens(context, query)
    readings = [block.read(context[:, :i], query) for i in range(context.shape[1] + 1)]
    inputs = torch.stack([reading.dense_input for reading in readings], 1)
    residuals = torch.stack([reading.residual for reading in readings], 1)
    _check_fed(inputs[:, 0])
    return TokenPath(block.dense_weight, inputs, residuals - residuals[:, :1])


def factorised_path(
    block: ContextualBlock, context: Context, query: Query
) -> Float[Tensor, "batch n_context_plus_1 hidden dense_width"]:
    """``W_0, ..., W_n``: after step ``i`` the block with ``W_i`` reads ``c_{i+1} ... c_n`` only.

    Args and errors as :func:`token_path`.
    """
    check_tokens(context, query)
    n = context.shape[1]
    fed = [block.read(context[:, i:], query).dense_input for i in range(n + 1)]
    _check_fed(torch.stack(fed[1:], 1) if n else fed[0])
    weights = block.dense_weight.expand(context.shape[0], -1, -1)
    path = [weights]
    for before, after in zip(fed[:-1], fed[1:], strict=True):
        step = (weights @ (before - after)[..., None]) * after[:, None, :]
        weights = weights + step / after.square().sum(-1)[:, None, None]
        path.append(weights)
    return torch.stack(path, 1)
