"""The block that learns regression with a sum in place of an average: linear attention."""

from dataclasses import dataclass

import torch

from icl_lessons.implicit_dynamics.block_regressor import BlockRegressor
from icl_lessons.implicit_dynamics.contextual_blocks import AttentionBlockConfig
from icl_lessons.implicit_dynamics.experiments.token_by_token import (
    BlockTraining,
    block_losses,
)
from icl_lessons.training import TrainingConfig, train
from icl_lessons.zoo import State, recipe

CLIP = 1.0  # of the gradient: sums have larger ones


@dataclass(frozen=True, kw_only=True)
class LinearBlockTraining(BlockTraining):
    """As :class:`BlockTraining`, where attention is a sum and gradients are clipped."""

    def build(self, generator: torch.Generator) -> BlockRegressor:
        """A block before training; its scores begin divided by the number of examples."""
        shape = AttentionBlockConfig(
            width=self.width,
            hidden=self.hidden,
            heads=self.heads,
            head_width=self.width // self.heads,
            attention="linear",
            reads="attention",
            skip=False,
        )
        model = BlockRegressor(self.d, shape, generator=generator)
        with torch.no_grad():
            model.block.w_query /= self.n_context
        return model


@recipe("linear_block_regressor", config=LinearBlockTraining(), measure=block_losses)
def linear_block_weights(config: LinearBlockTraining) -> State:
    """Trained blocks of linear attention, one row for each seed."""
    settings = TrainingConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        n_context=config.n_context,
        learning_rate=config.learning_rate,
        clip=CLIP,
        seeds=config.seeds,
    )
    return train(config.build, config.task, settings, device=config.device).state
