"""Objective surgery on trained models: where the edit does what it says, and where it does not."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.estimators.least_squares import least_squares_weights, ridge_weights
from icl_lessons.measures.agreement import squared_error
from icl_lessons.measures.label_influence import implied_preconditioner
from icl_lessons.mesa_optimization.experiments.surgery_models import (
    SurgeryTraining,
    surgery_weights,
    trained_layers,
    trained_transformers,
)
from icl_lessons.mesa_optimization.figures import surgery as figures
from icl_lessons.mesa_optimization.goal_misgeneralization import fitted_layer
from icl_lessons.mesa_optimization.inner_losses import (
    INNER_LOSSES,
    ObjectiveLayer,
    ObjectiveStack,
)
from icl_lessons.mesa_optimization.surgery import (
    add_leak,
    blind_comparison,
    blind_read_in,
    clip_values,
    flip_labels,
    flip_sign,
    forget_feature,
    replace_loss,
    reweight,
    scale_attention_writes,
    scale_step,
    set_metric,
    shrink_after,
)
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.spurious_feature import SpuriousFeature
from icl_lessons.types import Batch, Learner

TEST_SEED, CUE_SEED, TRANSFORMER_SEED = 1_310_011, 1_310_029, 1_310_041
CUE_MODES = ("corr", "dec", "queryflip")
CUE_EDITS = ("trained", "cue deleted", "metric installed")
WHERE = ("first block", "last block", "both")
BLINDED = ("as trained", "compare, first", "compare, last", "compare, both", "never read")


@dataclass(frozen=True, kw_only=True)
class SurgeryConfig:
    """Settings of :func:`surgery`; the defaults are the lesson's.

    Attributes:
        training: of the linear layers and the Transformers; its seeds are replaced by ``seeds``.
        n_test: contexts for the linear layer; ``n_transformer`` for the Transformer.
        delta: threshold of the clipped values.
        penalty: ``lambda`` of the leak, in stacks of ``stack`` layers at half the step.
        cue_d, cue_context, cue_prompts: of the layer that trusts a cue, fitted to so many prompts;
            ``cue_test`` prompts to test it.
        factors: on the attention writes of the Transformer; -1 and 0 among them.
        seeds: one of each model for every seed.
        device: where to train.
    """

    training: SurgeryTraining = SurgeryTraining()
    n_test: int = 500
    delta: float = 1.0
    penalty: float = 0.5
    stack: int = 100
    cue_d: int = 4
    cue_context: int = 20
    cue_prompts: int = 60_000
    cue_test: int = 10_000
    n_transformer: int = 300
    factors: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_test", "stack", "cue_d", "cue_context", "cue_prompts", "n_transformer"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("delta", "penalty"):
            check_number(name, getattr(self, name), positive=True)
        if not {-1.0, 0.0, 0.5} <= set(self.factors):
            raise ValueError(f"factors: got {self.factors}; include -1, 0 and 0.5")
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class SurgeryResult:
    """What came of it. Differences are root mean squares over that of the step that is meant.

    Attributes:
        edits: names of the edits of the trained linear layer.
        before: difference of the layer as trained from the edited textbook layer, by edit and seed:
            how far the edit has to go.
        after: of the edited trained layer from the edited textbook layer.
        context_loss: ``1/2 E |p - y|^2`` on the context before the layer and after it, as trained
            and with its sign flipped, ``[seeds, 3]``.
        strays: largest entry of the trained layer that the construction lacks (``A``, ``C``, and
            what parts ``B`` and ``Gamma`` from the identity), by seed.
        stack_to: names of the targets of stacks of layers; ``stack_difference`` from them.
        cue_error: ``E (y_hat - y)^2`` of the layer that trusts a cue, by edit, mode and seed; the
            zero predictor has 1.
        factors: on the writes of the Transformer's attention.
        slope, r_squared: of the edited on the trained predictions through the origin, by where the
            factor acts, factor and seed.
        labels_slope, labels_r_squared: when every label is read with the other sign.
        forget_distance: mean square from least squares that never saw the feature, over its own
            mean square, by how the feature is hidden and seed; ``forget_target`` is that of least
            squares with all features.
        forget_entry: implied metric at the feature over its mean at the others.
        transformer_error: ``E (y_hat - y)^2`` as trained, by seed, where predicting 0 has
            ``transformer_zero``.
    """

    edits: tuple[str, ...]
    before: Float[np.ndarray, "edits seeds"]
    after: Float[np.ndarray, "edits seeds"]
    context_loss: Float[np.ndarray, "seeds 3"]
    strays: Float[np.ndarray, " seeds"]
    stack_to: tuple[str, ...]
    stack_difference: Float[np.ndarray, "targets seeds"]
    cue_error: Float[np.ndarray, "cue_edits modes seeds"]
    factors: Float[np.ndarray, " factors"]
    slope: Float[np.ndarray, "where factors seeds"]
    r_squared: Float[np.ndarray, "where factors seeds"]
    labels_slope: Float[np.ndarray, " seeds"]
    labels_r_squared: Float[np.ndarray, " seeds"]
    forget_distance: Float[np.ndarray, "blinded seeds"]
    forget_target: float
    forget_entry: Float[np.ndarray, "blinded seeds"]
    transformer_error: Float[np.ndarray, " seeds"]
    transformer_zero: float
    layers: tuple[ObjectiveLayer, ...] = field(repr=False, default=(), metadata={"stored": False})
    transformers: tuple[Transformer, ...] = field(
        repr=False, default=(), metadata={"stored": False}
    )

    def at(self, factor: float) -> int:
        """The column of a factor."""
        return int(np.flatnonzero(self.factors == factor)[0])

    def summary(self) -> str:
        """The result in a few lines."""

        def row(name: str, values) -> str:
            return f"  {name:<34}" + "".join(f"{value:9.4f}" for value in np.ravel(values))

        lines = ["trained linear layer: difference from the edited textbook layer, before | after"]
        for name, before, after in zip(self.edits, self.before, self.after, strict=True):
            lines.append(row(name, [*before, *after]))
        lines.append("stacks of the trained layer: difference from")
        lines += map(row, self.stack_to, self.stack_difference)
        lines.append(f"layer that trusts a cue: error on {', '.join(CUE_MODES)}, mean over seeds")
        lines += map(row, CUE_EDITS, self.cue_error.mean(2))
        lines.append("Transformer, attention writes times -1, 0, 0.5: slope, then R squared")
        columns = [self.at(factor) for factor in (-1.0, 0.0, 0.5)]
        for where, slope, share in zip(WHERE, self.slope, self.r_squared, strict=True):
            lines.append(row(where, [*slope[columns].mean(1), *share[columns].mean(1)]))
        lines.append(row("labels read with the other sign", self.labels_slope))
        lines.append("a feature hidden: distance from regression without it | metric there")
        for name, far, entry in zip(BLINDED, self.forget_distance, self.forget_entry, strict=True):
            lines.append(row(name, [*far, *entry]))
        return "\n".join(lines)


def _rms_ratio(got: Tensor, meant: Tensor, start: Tensor) -> float:
    """Root mean square of ``got - meant`` over that of the step ``meant - start``."""
    return ((got - meant).square().mean() / (meant - start).square().mean()).sqrt().item()


def _layer_edits(config: SurgeryConfig) -> dict[str, Callable[[ObjectiveLayer], ObjectiveLayer]]:
    d, n = config.training.d, config.training.n_context
    half = torch.ones(n)
    half[: n // 2] = 0
    return {
        "none": lambda layer: layer,
        "half the step": lambda layer: scale_step(layer, 0.5),
        "sign flipped": flip_sign,
        "ridge": lambda layer: add_leak(layer, config.penalty),
        "half the examples": lambda layer: reweight(layer, half),
        "feature forgotten": lambda layer: forget_feature(layer, 0, d),
        "values clipped": lambda layer: clip_values(layer, config.delta),
        "cosine for squared": lambda layer: replace_loss(layer, INNER_LOSSES["cosine"]),
    }


def _on_layers(config: SurgeryConfig, layers) -> dict[str, Any]:
    training = config.training
    d, m, n = training.d, training.m, training.n_context
    generator = seeded(TEST_SEED)
    batch = training.task.sample(config.n_test, n, generator=generator)
    start = torch.randn(config.n_test, m, d, generator=generator)
    textbook = ObjectiveLayer(INNER_LOSSES["squared"].value, 1 / (1 + (1 + d) / n))
    edits = _layer_edits(config)
    before, after = np.empty((2, len(edits), len(layers)))
    for i, (name, edit) in enumerate(edits.items()):
        # From 0 as in training; a leak and a cosine need weights that are not 0.
        w = start if name in ("ridge", "cosine for squared") else torch.zeros_like(start)
        begun = batch.x_query @ w.mT
        meant = ObjectiveStack([edit(textbook)], w)(*batch.context)
        for j, layer in enumerate(layers):
            before[i, j] = _rms_ratio(ObjectiveStack([layer], w)(*batch.context), meant, begun)
            after[i, j] = _rms_ratio(ObjectiveStack([edit(layer)], w)(*batch.context), meant, begun)

    def loss_on_context(*stack: ObjectiveLayer) -> float:
        fitted = ObjectiveStack(stack)(batch.xs, batch.ys, batch.xs)
        return 0.5 * (fitted - batch.ys).square().sum(-1).mean().item()

    identity = torch.eye(d), torch.eye(m)
    strays = [
        max(
            part.abs().max().item()
            for part in (
                layer.key_stray,
                layer.value_stray,
                layer.preconditioner - identity[0],
                layer.mix - identity[1],
            )
        )
        for layer in layers
    ]
    return {
        "edits": tuple(edits),
        "before": before,
        "after": after,
        "context_loss": np.array(
            [
                [loss_on_context(), loss_on_context(layer), loss_on_context(flip_sign(layer))]
                for layer in layers
            ]
        ),
        "strays": np.array(strays),
        **_stacks(config, layers, batch),
    }


def _stacks(config: SurgeryConfig, layers, batch: Batch) -> dict[str, Any]:
    """Many layers at half the step: do they settle where the edited objective has its minimum?"""
    n, penalty = config.training.n_context, config.penalty
    ridge = ridge_weights(batch.xs, batch.ys, penalty * n)  # 1/(2N) sum of squares + penalty / 2
    plain = least_squares_weights(batch.xs, batch.ys)
    rows: dict[str, list[float]] = {}
    for layer in (scale_step(layer, 0.5) for layer in layers):
        too_late = shrink_after(layer, penalty)
        stronger = ridge_weights(batch.xs, batch.ys, too_late.leak * n)
        for name, edited, weights in (
            ("no leak: least squares", layer, plain),
            ("no leak: ridge", layer, ridge),
            ("leak: ridge", add_leak(layer, penalty), ridge),
            ("shrunk after: ridge", too_late, ridge),
            ("shrunk after: larger penalty", too_late, stronger),
        ):
            got = ObjectiveStack([edited] * config.stack)(*batch.context)
            meant = batch.x_query @ weights.mT
            rows.setdefault(name, []).append(_rms_ratio(got, meant, torch.zeros_like(meant)))
    return {"stack_to": tuple(rows), "stack_difference": np.array(list(rows.values()))}


def _on_cue(config: SurgeryConfig) -> Float[np.ndarray, "cue_edits modes seeds"]:
    """The layer fitted where a cue repeats the target: as it is, cue deleted, metric installed."""
    d, n = config.cue_d, config.cue_context
    good = torch.zeros(d + 1, d + 1, dtype=torch.float64)
    good[:d, :d] = torch.eye(d, dtype=torch.float64) / (1 + (1 + d) / n)
    errors = np.empty((len(CUE_EDITS), len(CUE_MODES), len(config.seeds)))
    for j, seed in enumerate(config.seeds):
        draw = {"generator": seeded(CUE_SEED + seed), "dtype": torch.float64}
        fitted = fitted_layer(SpuriousFeature(d=d).sample(config.cue_prompts, n, **draw))
        layer = ObjectiveLayer(INNER_LOSSES["squared"].value, 1.0, fitted.matrix)
        edited = (layer, forget_feature(layer, d, d + 1), set_metric(layer, good))
        for k, mode in enumerate(CUE_MODES):
            batch = SpuriousFeature(d=d, mode=mode).sample(config.cue_test, n, **draw)
            for i, one in enumerate(edited):
                errors[i, k, j] = squared_error(ObjectiveStack([one]), batch)
    return errors


def _slope(got: Tensor, reference: Tensor) -> tuple[float, float]:
    """Least squares of ``got`` on ``reference`` through the origin: slope and share explained."""
    slope = (got * reference).sum() / reference.square().sum()
    left = (got - slope * reference).square().sum() / got.square().sum()
    return slope.item(), 1 - left.item()


def _on_transformers(config: SurgeryConfig, models) -> dict[str, Any]:
    training, seeds = config.training, len(config.seeds)
    batch = training.transformer_task.sample(
        config.n_transformer, training.transformer_context, generator=seeded(TRANSFORMER_SEED)
    )
    without = batch.x_query[..., 1:] @ least_squares_weights(batch.xs[..., 1:], batch.ys).mT
    everything = batch.x_query @ least_squares_weights(batch.xs, batch.ys).mT
    size = without.square().mean()

    def distance(prediction: Tensor) -> float:
        return ((prediction - without).square().mean() / size).item()

    def entry(learner: Learner) -> float:
        diagonal = implied_preconditioner(learner, batch).preconditioner.diagonal()
        return (diagonal[0] / diagonal[1:].mean()).item()

    fits = np.empty((len(WHERE), len(config.factors), seeds, 2))
    labels = np.empty((seeds, 2))
    far, entries = np.empty((2, len(BLINDED), seeds))
    error = np.empty(seeds)
    last = training.blocks - 1
    for j, model in enumerate(models):
        trained = model(*batch.context)
        error[j] = squared_error(model, batch)
        for k, factor in enumerate(config.factors):
            first = scale_attention_writes(model, 0, factor)
            edited = (
                first,
                scale_attention_writes(model, last, factor),
                scale_attention_writes(first, last, factor),
            )
            for i, one in enumerate(edited):
                fits[i, k, j] = _slope(one(*batch.context), trained)
        labels[j] = _slope(flip_labels(model)(*batch.context), trained)
        first = blind_comparison(model, 0, 0)
        hidden = (
            model,
            first,
            blind_comparison(model, last, 0),
            blind_comparison(first, last, 0),
            blind_read_in(model, 0),
        )
        for i, one in enumerate(hidden):
            far[i, j], entries[i, j] = distance(one(*batch.context)), entry(one)
    return {
        "factors": np.array(config.factors),
        "slope": fits[..., 0],
        "r_squared": fits[..., 1],
        "labels_slope": labels[:, 0],
        "labels_r_squared": labels[:, 1],
        "forget_distance": far,
        "forget_target": distance(everything),
        "forget_entry": entries,
        "transformer_error": error,
        "transformer_zero": batch.y_query.square().mean().item(),
    }


@experiment(
    "surgery",
    paper="vonoswald2023transformers",
    chapter="mesa_optimization/surgery",
    configs={
        Scale.LESSON: SurgeryConfig(),
        Scale.PAPER: SurgeryConfig(
            training=SurgeryTraining(
                d=10,
                n_context=50,
                layer_batch=2048,
                layer_steps=5000,
                transformer_d=10,
                transformer_context=40,
                width=128,
                blocks=6,
                steps=20_000,
                learning_rate=1e-3,
            ),
            n_test=5000,
            n_transformer=2000,
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.surgery,
)
def surgery(config: SurgeryConfig) -> SurgeryResult:
    """Edit trained layers and Transformers, and compare with the learner that the edit means."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    config = replace(config, training=training)
    with one_thread():
        state = surgery_weights(training)
        layers, models = trained_layers(state, training), trained_transformers(state, training)
        with torch.no_grad():
            return SurgeryResult(
                **_on_layers(config, layers),
                cue_error=_on_cue(config),
                **_on_transformers(config, models),
                layers=tuple(layers),
                transformers=tuple(models),
            )
