"""The experiment on fine-tuning by outputs: what changes outside, and what changes inside."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.declare import experiment
from icl_lessons.measures.label_influence import implied_preconditioner, label_influence
from icl_lessons.measures.probes import normalized_error, ridge_readout
from icl_lessons.mesa_optimization.experiments.output_fine_tuning_models import (
    CONTINUED,
    PRESSURES,
    TREATMENTS,
    FineTuning,
    TransformerTuning,
    drift_weights,
    fine_tuned_weights,
    models_of,
    transformer_weights,
)
from icl_lessons.mesa_optimization.figures import output_fine_tuning as figures
from icl_lessons.mesa_optimization.output_fine_tuning import (
    InnerThenReadout,
    Reward,
    best_scale,
    inner_change,
    outside_change,
    spared,
)
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.types import Batch

TEST_SEED = 1_906_400


@dataclass(frozen=True, kw_only=True)
class OutputFineTuningConfig:
    """Settings of :func:`output_fine_tuning`; the defaults are the lesson's.

    Attributes:
        training: of the models with an inner learner and a readout.
        transformers: of the Transformers; both without the seeds.
        n_test: prompts for shares and errors.
        n_labels: prompts on which derivatives by labels are measured.
        label_scale: by which the labels of a context are multiplied to look for what returns.
        low: a truth below it calls for a forbidden answer.
        seeds: one model each, and every treatment of it.
    """

    training: FineTuning = FineTuning()
    transformers: TransformerTuning = TransformerTuning()
    n_test: int = 3000
    n_labels: int = 400
    label_scale: float = 4.0
    low: float = -0.8
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_test", self.n_test, at_least=1)
        check_integer("n_labels", self.n_labels, at_least=1)
        check_number("label_scale", self.label_scale, positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class OutputFineTuningResult:
    """What came of every treatment of the same pretrained models.

    The change of the inner learner is given three times three: cosine, relative change and the step
    that is left, of the weights ``M`` and, from outside, of the metric that label influence implies
    on prompts that the reward leaves alone.

    Attributes:
        treatments: the rows.
        forbidden_before: share of forbidden outputs before, ``[seeds]``; ``forbidden`` after.
        scaled_before, scaled: the same with the labels of the context scaled up.
        inside: of ``M``, ``[treatments, seeds, 3]`` as in
            :class:`~icl_lessons.mesa_optimization.output_fine_tuning.InnerChange`.
        outside: of the metric implied on spared prompts.
        correlation: of the inner answer ``u`` after with that before.
        low_inner_before, low_inner, low_output_before, low_output: mean ``u`` and mean output on
            prompts whose truth is below ``low``.
        exact_poisoned: what is left of the best inner step where labels are poisoned, exactly.
        model_treatments: of the Transformers: rows of what follows, two rewards and then, as
            controls, as many further steps without one.
        model_forbidden_before, model_forbidden, model_scaled_before, model_scaled: as above.
        model_outside: as ``outside``; ``model_r_squared``: what the metric explains before.
        model_influence: the three numbers for the label influence itself, all its entries.
        model_probe_before, model_probe: normalised error of a linear probe that reads the truth
            from the stream before the last readout, fitted on each model's own stream;
            ``model_probe_kept``: of the probe that was fitted before fine-tuning.
        model_output_error: normalised error of the outputs themselves, before and after.
        model_weight_change: relative change of the weights of the blocks and of the readout.
    """

    treatments: tuple[str, ...]
    forbidden_before: Float[np.ndarray, " seeds"]
    forbidden: Float[np.ndarray, "treatments seeds"]
    scaled_before: Float[np.ndarray, " seeds"]
    scaled: Float[np.ndarray, "treatments seeds"]
    inside: Float[np.ndarray, "treatments seeds 3"]
    outside: Float[np.ndarray, "treatments seeds 3"]
    correlation: Float[np.ndarray, "treatments seeds"]
    low_inner_before: Float[np.ndarray, " seeds"]
    low_inner: Float[np.ndarray, "treatments seeds"]
    low_output_before: Float[np.ndarray, " seeds"]
    low_output: Float[np.ndarray, "treatments seeds"]
    exact_poisoned: float
    model_treatments: tuple[str, ...]
    model_forbidden_before: Float[np.ndarray, " seeds"]
    model_forbidden: Float[np.ndarray, "model_treatments seeds"]
    model_scaled_before: Float[np.ndarray, " seeds"]
    model_scaled: Float[np.ndarray, "model_treatments seeds"]
    model_outside: Float[np.ndarray, "model_treatments seeds 3"]
    model_r_squared: Float[np.ndarray, "model_treatments seeds"]
    model_influence: Float[np.ndarray, "model_treatments seeds 3"]
    model_probe_before: Float[np.ndarray, " seeds"]
    model_probe: Float[np.ndarray, "model_treatments seeds"]
    model_probe_kept: Float[np.ndarray, "model_treatments seeds"]
    model_output_error: Float[np.ndarray, "model_treatments seeds 2"]
    model_weight_change: Float[np.ndarray, "model_treatments seeds 2"]
    models: dict[str, tuple[nn.Module, ...]] = field(
        repr=False, default_factory=dict, metadata={"stored": False}
    )

    def of(self, name: str, treatment: str) -> Float[np.ndarray, "..."]:
        """One array's row for a treatment, one value (or three) a seed."""
        rows = self.model_treatments if name.startswith("model_") else self.treatments
        return getattr(self, name)[rows.index(treatment)]

    def summary(self) -> str:
        """One line for each treatment, means over seeds."""
        lines = [f"forbidden before: {100 * self.forbidden_before.mean():.1f} %"]
        for i, name in enumerate(self.treatments):
            inside, outside = self.inside[i].mean(0), self.outside[i].mean(0)
            lines.append(
                f"{name:<26} forbidden {100 * self.forbidden[i].mean():4.1f} %   inside: cosine "
                f"{inside[0]:.4f}, change {100 * inside[1]:2.0f} %   from outside: cosine "
                f"{outside[0]:.4f}, change {100 * outside[1]:2.0f} %"
            )
        for i, name in enumerate(self.model_treatments):
            change = self.model_influence[i].mean(0)
            lines.append(
                f"{'Transformer, ' + name:<26} forbidden "
                f"{100 * self.model_forbidden_before.mean():.1f} % -> "
                f"{100 * self.model_forbidden[i].mean():.1f} %   label influence: cosine "
                f"{change[0]:.3f}, change {100 * change[1]:.0f} %"
            )
        return "\n".join(lines)


def _scaled(batch: Batch, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    return batch.xs, scale * batch.ys, batch.x_query


def _layer_rows(before, after, batch: Batch, few: Batch, config) -> dict[str, Any]:
    """One treatment of one model with an inner learner."""
    assert isinstance(before, InnerThenReadout)
    reward, low = Reward(floor=config.training.floor), batch.y_query < config.low
    outside = outside_change(before, after, spared(before, few))
    with torch.no_grad():
        inner = [model.inner(*batch.context) for model in (before, after)]
        output = [model(*batch.context) for model in (before, after)]
        scaled = [model(*_scaled(batch, config.label_scale)) for model in (before, after)]
    pair = torch.corrcoef(torch.stack([u.flatten() for u in inner]))
    found = {
        "forbidden": [reward.forbidden(o) for o in output],
        "scaled": [reward.forbidden(o) for o in scaled],
        "low_inner": [u[low].mean().item() for u in inner],
        "low_output": [o[low].mean().item() for o in output],
    }
    rows = {name: now for name, (_, now) in found.items()}
    rows |= {f"{name}_before": then for name, (then, _) in found.items()}
    rows["inside"] = inner_change(before.matrix, after.matrix)
    return rows | {"outside": outside, "correlation": pair[0, 1].item()}


@torch.no_grad()
def last_stream(model: Transformer, batch: Batch) -> Float[Tensor, "batch width"]:
    """What a Transformer's readout reads at the first query."""
    kept: list[Tensor] = []
    handle = model.read_out.register_forward_hook(lambda _, inputs, output: kept.append(inputs[0]))
    try:
        model(*batch.context)
    finally:
        handle.remove()
    return kept[0][:, batch.xs.shape[1]]


def _weight_change(before: Transformer, after: Transformer) -> list[float]:
    """Relative change of all weights but the readout's, and of the readout's."""
    changes, then, now = [], before.state_dict(), after.state_dict()
    for last in (False, True):
        names = [name for name in then if name.startswith("read_out") is last]
        change = sum((now[name] - then[name]).square().sum() for name in names)
        changes.append((change / sum(then[name].square().sum() for name in names)).sqrt().item())
    return changes


def _transformer_rows(before, after, batch: Batch, few: Batch, config) -> dict[str, Any]:
    """One treatment of one Transformer."""
    reward, kept = Reward(floor=config.transformers.floor), spared(before, few)
    influence = [label_influence(model, kept).flatten()[:, None] for model in (before, after)]
    half, truth = len(batch) // 2, batch.y_query[:, 0].double()
    streams = [last_stream(model, batch).double() for model in (before, after)]
    probes = [ridge_readout(stream[:half], truth[:half]) for stream in streams]

    def read(stream: Tensor, probe: tuple[Tensor, Tensor]) -> float:
        return normalized_error(stream[half:] @ probe[0].mT + probe[1], truth[half:])

    with torch.no_grad():
        output = [model(*batch.context) for model in (before, after)]
        scaled = [model(*_scaled(batch, config.label_scale)) for model in (before, after)]
    return {
        "forbidden_before": reward.forbidden(output[0]),
        "forbidden": reward.forbidden(output[1]),
        "scaled_before": reward.forbidden(scaled[0]),
        "scaled": reward.forbidden(scaled[1]),
        "outside": outside_change(before, after, kept),
        "r_squared": implied_preconditioner(before, kept).r_squared,
        "influence": inner_change(*influence),
        "probe_before": read(streams[0], probes[0]),
        "probe": read(streams[1], probes[1]),
        "probe_kept": read(streams[1], probes[0]),
        "output_error": [normalized_error(o[:, 0].double(), truth) for o in output],
        "weight_change": _weight_change(before, after),
    }


def _table(state, training: FineTuning, treatments, rows, config) -> dict[str, np.ndarray]:
    """``rows`` of every treatment and seed as arrays; what is of before keeps one row."""
    n, task = training.n_context, training.task
    batch = task.sample(config.n_test, n, generator=seeded(TEST_SEED))
    few = task.sample(config.n_labels, n, generator=seeded(TEST_SEED + 1))
    before = models_of(state, training, "before")
    cells = [
        [
            rows(then, now, batch, few, config)
            for then, now in zip(before, models_of(state, training, treatment), strict=True)
        ]
        for treatment in treatments
    ]
    table = {k: np.array([[cell[k] for cell in row] for row in cells]) for k in cells[0][0]}
    return {k: v[0] if k.endswith("_before") else v for k, v in table.items()}


@experiment(
    "output_fine_tuning",
    paper="anonymous2024regression",
    chapter="mesa_optimization/surgery",
    configs={
        Scale.LESSON: OutputFineTuningConfig(),
        Scale.PAPER: OutputFineTuningConfig(
            training=FineTuning(
                d=20, n_context=80, hidden=64, steps=10_000, tuning_steps=10_000, batch_size=512
            ),
            transformers=TransformerTuning(
                d=10,
                n_context=40,
                width=128,
                layers=6,
                mlp_ratio=4.0,
                steps=50_000,
                learning_rate=1e-3,
                tuning_steps=10_000,
                tuning_rate=1e-4,
                batch_size=128,
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.output_fine_tuning,
)
def output_fine_tuning(config: OutputFineTuningConfig) -> OutputFineTuningResult:
    """Fine-tune on a reward for outputs, and measure how far the inner learner moved."""
    same = {"seeds": config.seeds, "device": config.device}
    training, transformers = replace(config.training, **same), replace(config.transformers, **same)
    few = (f"punish {PRESSURES[0]:g}", f"punish {PRESSURES[-1]:g}", *CONTINUED)
    with one_thread():
        states = (
            fine_tuned_weights(training),
            transformer_weights(transformers) | drift_weights(transformers),
        )
        layers = _table(states[0], training, TREATMENTS, _layer_rows, config)
        models = _table(states[1], transformers, few, _transformer_rows, config)
    size = training.d, training.n_context
    return OutputFineTuningResult(
        treatments=TREATMENTS,
        exact_poisoned=best_scale(*size, training.poison_std) / best_scale(*size),
        model_treatments=few,
        models={name: tuple(models_of(states[1], transformers, name)) for name in ("before", *few)},
        **layers,
        **{f"model_{name}": values for name, values in models.items()},
    )
