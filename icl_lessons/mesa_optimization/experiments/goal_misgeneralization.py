"""The experiment on goal misgeneralisation: one cue, two models, two kinds of failure."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from icl_lessons.declare import experiment
from icl_lessons.measures.agreement import sensitivity, squared_error
from icl_lessons.measures.label_influence import implied_preconditioner
from icl_lessons.mesa_optimization.experiments.goal_misgeneralization_models import (
    MODEL_LAWS,
    CueTraining,
    cue_weights,
    trained_models,
)
from icl_lessons.mesa_optimization.figures import goal_misgeneralization as figures
from icl_lessons.mesa_optimization.goal_misgeneralization import (
    TEST_MODES,
    TRAINING_LAWS,
    MergedLinearAttention,
    cue_share,
    fitted_layer,
    label_use,
    population_loss,
    population_weights,
)
from icl_lessons.models.transformer import Transformer
from icl_lessons.runtime import Scale, check_integer, one_thread, seeded
from icl_lessons.tasks.spurious_feature import SpuriousFeature

FIT_SEED, TEST_SEED = 1_906_100, 1_906_200


@dataclass(frozen=True, kw_only=True)
class GoalMisgeneralizationConfig:
    """Settings of :func:`goal_misgeneralization`; the defaults are the lesson's.

    Attributes:
        d, n_context: of the linear layer's task: core inputs, examples.
        n_fit: prompts on which each layer is fitted, drawn afresh for each seed.
        n_test: prompts for each error.
        n_labels: prompts on which derivatives by labels are measured.
        training: of the Transformers, but for the seeds.
        seeds: one layer for each law and seed, and one Transformer.
    """

    d: int = 4
    n_context: int = 20
    n_fit: int = 10_000
    n_test: int = 3000
    n_labels: int = 300
    training: CueTraining = CueTraining()
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("d", "n_context", "n_fit", "n_test", "n_labels"):
            check_integer(name, getattr(self, name), at_least=1)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")


@dataclass(frozen=True, kw_only=True)
class GoalMisgeneralizationResult:
    """Errors ``E (y_hat - y)^2`` (no half) and what derivatives show of the inside.

    Attributes:
        modes: at test, the columns of the errors.
        laws: the linear layers were fitted under.
        layer_error: of the fitted layers; ``layer_exact``: of the best layer over all prompts.
        layer_matrix: ``M`` of each fitted layer, in float64; ``recovered``: the same matrix read
            from derivatives by labels alone, and ``layer_r_squared``: what it explains of them.
        exact_weights: ``(a, b)`` of the best layer ``diag(a, ..., a, b)``.
        layer_cue_share: the cue's share of the diagonal.
        layer_label_use: as :func:`~icl_lessons.mesa_optimization.goal_misgeneralization.label_use`,
            on prompts of the law ``corr``.
        model_laws: the Transformers were trained under.
        model_error: of the Transformers.
        query_slope: root mean square of ``d y_hat / d z_q`` on ``corr`` prompts, cue last.
        label_use: of the Transformers, on prompts whose cue follows and whose cue is free.
        implied: the metric closest to their label influence on prompts whose cue is free;
            ``implied_r_squared``: what it explains, there and on ``corr`` prompts.
    """

    modes: tuple[str, ...]
    laws: tuple[str, ...]
    layer_error: Float[np.ndarray, "laws seeds modes"]
    layer_exact: Float[np.ndarray, "laws modes"]
    layer_matrix: Float[np.ndarray, "laws seeds inputs inputs"]
    recovered: Float[np.ndarray, "laws seeds inputs inputs"]
    layer_r_squared: Float[np.ndarray, "laws seeds"]
    exact_weights: Float[np.ndarray, "laws 2"]
    layer_cue_share: Float[np.ndarray, "laws seeds"]
    layer_label_use: Float[np.ndarray, "laws seeds"]
    model_laws: tuple[str, ...]
    model_error: Float[np.ndarray, "model_laws seeds modes"]
    query_slope: Float[np.ndarray, "model_laws seeds model_inputs"]
    label_use: Float[np.ndarray, "model_laws seeds 2"]
    implied: Float[np.ndarray, "model_laws seeds model_inputs model_inputs"]
    implied_r_squared: Float[np.ndarray, "model_laws seeds 2"]
    models: tuple[Transformer, ...] = field(repr=False, default=(), metadata={"stored": False})

    def error(self, which: str, law: str, mode: str) -> Float[np.ndarray, " seeds"]:
        """Errors of the ``"layer"`` or the ``"model"`` of one law in one mode, one a seed."""
        laws = self.laws if which == "layer" else self.model_laws
        table = self.layer_error if which == "layer" else self.model_error
        return table[laws.index(law), :, self.modes.index(mode)]

    def summary(self) -> str:
        """The two tables, means over seeds."""
        lines = [f"{'':<26}" + "".join(f"{mode:>11}" for mode in self.modes)]
        for kind, laws, errors, extra in (
            ("layer", self.laws, self.layer_error, self.layer_cue_share),
            ("Transformer", self.model_laws, self.model_error, self.label_use[..., 0]),
        ):
            word = "share of the cue" if kind == "layer" else "use of labels"
            for law, table, other in zip(laws, errors, extra, strict=True):
                cells = "".join(f"{value:11.3f}" for value in table.mean(0))
                lines.append(f"{kind + ' on ' + law:<26}{cells}   {word} {other.mean():.2f}")
        return "\n".join(lines)


def _layers(config: GoalMisgeneralizationConfig) -> dict[str, np.ndarray]:
    """Linear layers, fitted under each law for each seed."""

    def task(mode: str) -> SpuriousFeature:
        return SpuriousFeature(d=config.d, mode=mode)

    n, how = config.n_context, {"dtype": torch.float64}
    labels = task("corr").sample(config.n_labels, n, generator=seeded(TEST_SEED), **how)
    tests = [task(m).sample(config.n_test, n, generator=seeded(TEST_SEED)) for m in TEST_MODES]
    rows: dict[str, list] = {}
    for law in TRAINING_LAWS:
        weights = population_weights(task(law), n)
        rows.setdefault("exact_weights", []).append(weights.numpy())
        rows.setdefault("layer_exact", []).append(
            [population_loss(weights, task(mode), n) for mode in TEST_MODES]
        )
        cells: dict[str, list] = {}
        for seed in config.seeds:
            prompts = task(law).sample(config.n_fit, n, generator=seeded(FIT_SEED + seed), **how)
            layer = fitted_layer(prompts)
            single = MergedLinearAttention(layer.matrix.float())
            read = implied_preconditioner(layer, labels)
            for name, value in {
                "layer_matrix": layer.matrix.numpy(),
                "recovered": read.preconditioner.numpy(),
                "layer_r_squared": read.r_squared,
                "layer_cue_share": cue_share(layer.matrix),
                "layer_label_use": label_use(layer, labels),
                "layer_error": [squared_error(single, batch) for batch in tests],
            }.items():
                cells.setdefault(name, []).append(value)
        for name, values in cells.items():
            rows.setdefault(name, []).append(values)
    return {name: np.array(values) for name, values in rows.items()}


def _model(model: Transformer, config: GoalMisgeneralizationConfig) -> dict[str, Any]:
    """One trained Transformer."""
    training, n = config.training, config.training.n_context
    tests = {
        mode: training.task(mode).sample(config.n_test, n, generator=seeded(TEST_SEED + 1))
        for mode in TEST_MODES
    }
    follows, free = (
        training.task(mode).sample(config.n_labels, n, generator=seeded(TEST_SEED + 2))
        for mode in ("corr", "dec")
    )
    implied, on_corr = implied_preconditioner(model, free), implied_preconditioner(model, follows)
    slope = sensitivity(model, follows)[:, 0, 0]
    return {
        "model_error": [squared_error(model, batch) for batch in tests.values()],
        "query_slope": slope.square().mean(0).sqrt().numpy(),
        "label_use": [label_use(model, follows), label_use(model, free)],
        "implied": implied.preconditioner.numpy(),
        "implied_r_squared": [on_corr.r_squared, implied.r_squared],
    }


@experiment(
    "goal_misgeneralization",
    paper="hubinger2019risks",
    chapter="mesa_optimization/learned_optimizers",
    configs={
        Scale.LESSON: GoalMisgeneralizationConfig(),
        Scale.PAPER: GoalMisgeneralizationConfig(
            d=20,
            n_context=100,
            n_fit=20_000,
            training=CueTraining(
                d=20,
                n_context=60,
                width=128,
                layers=6,
                mlp_ratio=4.0,
                steps=(5000, 50_000),
                batch_size=128,
                learning_rate=1e-3,
            ),
        ),
    },
    figure=figures.goal_misgeneralization,
)
def goal_misgeneralization(config: GoalMisgeneralizationConfig) -> GoalMisgeneralizationResult:
    """What a linear layer and a Transformer learn where a cue tells the target in training."""
    training = replace(config.training, seeds=config.seeds, device=config.device)
    with one_thread():
        layers = _layers(config)
        state = cue_weights(training)
        models = [trained_models(state, training, law) for law in MODEL_LAWS]
        cells = [[_model(model, config) for model in row] for row in models]
    return GoalMisgeneralizationResult(
        modes=TEST_MODES,
        laws=TRAINING_LAWS,
        model_laws=MODEL_LAWS,
        models=tuple(model for row in models for model in row),
        **layers,
        **{name: np.array([[cell[name] for cell in row] for row in cells]) for name in cells[0][0]},
    )
