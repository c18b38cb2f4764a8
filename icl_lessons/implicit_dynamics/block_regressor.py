"""The model of the paper's experiment: one block that learns regression in context.

Tokens ``(x_i, y_i)`` and the query ``(x_q, 0)`` go through a linear read-in, softmax attention and
an MLP, with no skip around it, no norm and no positions; a linear read-out of the query's token is
the prediction [dherin2025learning, section 4]. What the context is worth as a change of the MLP's
first matrix can then be used as a learner of its own: the block with that change, and no context.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.implicit_dynamics.contextual_blocks import (
    AttentionBlock,
    AttentionBlockConfig,
    Query,
    block_output,
)


class BlockRegressor(nn.Module):
    """A learner of one block.

    Args:
        d: coordinates of an input; targets have one.
        config: the block's shape.
        generator: where the start comes from; a seed of 0 if ``None``.
        dtype: of the weights.
    """

    def __init__(
        self,
        d: int,
        config: AttentionBlockConfig,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        generator = torch.Generator().manual_seed(0) if generator is None else generator

        def normal(*shape: int) -> nn.Parameter:
            drawn = torch.randn(shape, generator=generator, dtype=dtype)
            return nn.Parameter(shape[-1] ** -0.5 * drawn)

        self.read_in = normal(config.width, d + 1)
        self.block = AttentionBlock(config, generator=generator, dtype=dtype)
        self.read_out = normal(1, config.width)

    def tokens(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context 1"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> tuple[Float[Tensor, "items n_context width"], Float[Tensor, "items width"]]:
        """Context and query as the block reads them, one item for each query of each context.

        The context may be empty: that is the block without its context.
        """
        n_query = x_query.shape[1]
        examples = torch.cat([xs, ys], -1) @ self.read_in.mT
        questions = F.pad(x_query, (0, 1)) @ self.read_in.mT
        context = examples[:, None].expand(-1, n_query, -1, -1)
        return context.flatten(0, 1), questions.flatten(0, 1)

    def predict(self, output: Query) -> Float[Tensor, "items 1"]:
        """The prediction that a block's output stands for."""
        return output @ self.read_out.mT

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context 1"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query 1"]:
        output = block_output(self.block, *self.tokens(xs, ys, x_query))
        return self.predict(output).view(*x_query.shape[:2], 1)


def without_context(
    model: BlockRegressor,
    x_query: Float[Tensor, "batch n_query d"],
    weights: Float[Tensor, "batch hidden width"],
) -> Float[Tensor, "batch n_query 1"]:
    """Predictions of the block on queries alone, with a dense matrix for each context.

    Args:
        x_query: where to predict, the queries of each context.
        weights: what stands in the place of the block's dense matrix, one for each context.
    """
    batch, n_query, d = x_query.shape
    nothing = x_query.new_zeros(batch, 0, d), x_query.new_zeros(batch, 0, 1)
    context, query = model.tokens(*nothing, x_query)
    reading = model.block.read(context, query)
    fed = reading.dense_input.view(batch, n_query, -1)
    hidden = (fed @ weights.mT).flatten(0, 1)
    return model.predict(model.block.finish(hidden, reading.residual)).view(batch, n_query, 1)
