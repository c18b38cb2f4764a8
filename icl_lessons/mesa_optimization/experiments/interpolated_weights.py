"""A trained layer on sequences beside Proposition 1: its blocks, the way between, a part of it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.mesa_optimization.experiments.sequence_depth import (
    STEP_SEED,
    VALIDATION_SEED,
    SequenceDepthTraining,
    sequence_depth_weights,
    trained_models,
)
from icl_lessons.mesa_optimization.figures import interpolated_weights as figures
from icl_lessons.mesa_optimization.sequence_construction import next_step_descent
from icl_lessons.mesa_optimization.trained_sequences import (
    Products,
    best_step_size,
    block_shares,
    compressed,
    constructed_products,
    from_second,
    layer_from,
    mixed,
    position_losses,
    products_of,
    without_small_blocks,
)
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded


@dataclass(frozen=True, kw_only=True)
class InterpolatedWeightsConfig:
    """Settings of :func:`interpolated_weights`; the defaults are the lesson's.

    Attributes:
        training: of the experiment ``sequence_depth``, whose first model is taken: one layer on
            pairs.
        shares: points between trained (0) and constructed (1) weights.
        n_validation: sequences on which the losses are measured; as many others fix step sizes.
        seeds: of the trained layers; overrides those of ``training``.
        device: where to train.
    """

    training: SequenceDepthTraining = SequenceDepthTraining()
    shares: tuple[float, ...] = tuple(i / 10 for i in range(11))
    n_validation: int = 2048
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_validation", self.n_validation, at_least=1)
        for share in self.shares:
            check_number("shares", share)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class InterpolatedWeightsResult:
    """What came of it. Losses are ``1/2 E |f_t - s_{t+1}|^2`` from the second prediction on.

    Attributes:
        key_query: ``W_K^T W_Q`` of each seed, its ``(s_{t-1}, s_t)`` block of mean diagonal 1,
            ``[seeds, 3 d, 3 d]``, rows for the key.
        projection_value: ``P W_V`` likewise, rows for what is written.
        key_query_shares: part of its squared entries in each block, ``[seeds, 3, 3]``.
        value_shares: the same of the rows of ``P W_V`` that write the prediction, ``[seeds, 3]``.
        off_identity: part of the squared entries of the two blocks of Proposition 1 that is not a
            multiple of the identity, ``[seeds, 2]``.
        fitted_step: mean diagonal of the block ``(prediction, s_t)`` of ``P W_V``: the trained
            layer's step size, ``[seeds]``.
        step_size: of the best single step, on other sequences.
        shares: points between trained (0) and constructed (1) weights.
        between: loss there, ``[seeds, shares]``; what a layer writes is clamped, as in training,
            the constructed one's too.
        descent_loss, zero_loss: of the best step, not clamped, and of predicting 0.
        trained, compressed, two_blocks: loss of the trained layer; with each block replaced by a
            multiple of the identity; with all but the two blocks of Proposition 1 removed.
        two_blocks_rescaled: that of the two blocks alone with the step size that is best for them.
        numbers: that the layer's two products hold, and that are left after compression.
    """

    key_query: Float[np.ndarray, "seeds width width"]
    projection_value: Float[np.ndarray, "seeds width width"]
    key_query_shares: Float[np.ndarray, "seeds slots slots"]
    value_shares: Float[np.ndarray, "seeds slots"]
    off_identity: Float[np.ndarray, "seeds products"]
    fitted_step: Float[np.ndarray, " seeds"]
    step_size: float
    shares: Float[np.ndarray, " shares"]
    between: Float[np.ndarray, "seeds shares"]
    descent_loss: float
    zero_loss: float
    trained: Float[np.ndarray, " seeds"]
    compressed: Float[np.ndarray, " seeds"]
    two_blocks: Float[np.ndarray, " seeds"]
    two_blocks_rescaled: Float[np.ndarray, " seeds"]
    numbers: tuple[int, int]

    def summary(self) -> str:
        """Losses, step sizes and shares."""
        rows = {
            "trained": self.trained,
            "halfway": self.between[:, len(self.shares) // 2],
            "compressed": self.compressed,
            "two blocks": self.two_blocks,
            "two blocks, own step": self.two_blocks_rescaled,
            "fitted step": self.fitted_step,
            "share of W_K^T W_Q": self.key_query_shares[:, -1, 1],
            "share of P W_V": self.value_shares[:, 1],
            "off the identity": self.off_identity.max(1),
        }
        lines = [f"one step {self.descent_loss:.4f} (size {self.step_size:.4f})"]
        lines += [f"{name:<22}" + " ".join(f"{v:.4f}" for v in row) for name, row in rows.items()]
        return "\n".join(lines)


def _off_identity(block: Float[torch.Tensor, "d d"]) -> float:
    rest = block - block.diagonal().mean() * torch.eye(len(block))
    return (rest.square().sum() / block.square().sum()).item()


def _flat(blocks: torch.Tensor) -> np.ndarray:
    slots, d = blocks.shape[1:3]
    return blocks.transpose(1, 2).reshape(slots * d, slots * d).numpy()


@experiment(
    "interpolated_weights",
    paper="vonoswald2023uncovering",
    chapter="mesa_optimization/sequence_models",
    configs={
        Scale.LESSON: InterpolatedWeightsConfig(),
        Scale.PAPER: InterpolatedWeightsConfig(
            training=SequenceDepthTraining(d=10, length=50, batch_size=256, seeds=(0, 1, 2, 3, 4)),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.interpolated_weights,
)
def interpolated_weights(config: InterpolatedWeightsConfig) -> InterpolatedWeightsResult:
    """What one trained layer on pairs holds, and what of it is needed."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    task, length = training.task, training.length
    with one_thread():
        models = trained_models(sequence_depth_weights(training), training, training.models[0].name)
        states, other = (
            task.sample(config.n_validation, length, generator=seeded(seed)).states
            for seed in (VALIDATION_SEED, STEP_SEED)
        )
        step_size = best_step_size(other)
        construction = constructed_products(training.d, step_size)
        found = [products_of(model) for model in models]
        clamp = models[0].config.clamp

        def loss(products: Products) -> float:
            model = layer_from(products, max_length=length, clamp=clamp)
            return from_second(position_losses(model, states)).item()

        def with_best_step(products: Products) -> Products:
            made = layer_from(products, max_length=length, clamp=None)(other[:, :-1])
            factor = (made * other[:, 1:]).sum() / made.square().sum()
            return Products(products.key_query, factor * products.projection_value)

        def each(change) -> np.ndarray:
            return np.array([loss(change(products)) for products in found])

        shares = [block_shares(products) for products in found]
        own = [(p.key_query[-1, 1], p.projection_value[0, 1]) for p in found]
        width = models[0].config.stream_width
        return InterpolatedWeightsResult(
            key_query=np.stack([_flat(p.key_query) for p in found]),
            projection_value=np.stack([_flat(p.projection_value) for p in found]),
            key_query_shares=np.stack([one.numpy() for one, _ in shares]),
            value_shares=np.stack([two.numpy() for _, two in shares]),
            off_identity=np.array([[_off_identity(block) for block in pair] for pair in own]),
            fitted_step=np.array([pair[1].diagonal().mean().item() for pair in own]),
            step_size=step_size,
            shares=np.array(config.shares),
            between=np.stack(
                [each(lambda p, t=share: mixed(p, construction, t)) for share in config.shares], 1
            ),
            descent_loss=from_second(
                position_losses(lambda seen: next_step_descent(seen, step_size)[1], states)
            ).item(),
            zero_loss=from_second(position_losses(torch.zeros_like, states)).item(),
            trained=each(lambda p: p),
            compressed=each(compressed),
            two_blocks=each(without_small_blocks),
            two_blocks_rescaled=each(lambda p: with_best_step(without_small_blocks(p))),
            numbers=(2 * width**2, 2 * (width // training.d) ** 2),
        )
