"""Multi-head softmax attention trained on regression in context, and what it is close to.

The experiment of He et al. [he2025incontext] with the references that say how good the pattern is
(the best plain and debiased step, ridge), tests on other lengths and on shifted data, and many
random starts. Losses are ``E (y_hat - y)^2`` without a half; the query's noise is added exactly.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import ridge_weights
from icl_lessons.implicit_dynamics.debiased_descent import (
    DebiasedDescent,
    approximate_loss,
    best_outputs,
)
from icl_lessons.implicit_dynamics.experiments.multi_head_softmax_models import (
    TEST_SEED,
    Design,
    HeadsTraining,
    heads_weights,
    moments_kept,
    starts_read,
    trained_layers,
    unequal_read,
)
from icl_lessons.implicit_dynamics.figures import multi_head_softmax as figures
from icl_lessons.implicit_dynamics.multi_head_softmax import MultiHeadLayer, best_step
from icl_lessons.runtime import Scale, check_integer, one_thread, seeded
from icl_lessons.types import Batch, Learner

PLAIN, DEBIASED = "best plain step", "best debiased step"


@dataclass(frozen=True, kw_only=True)
class MultiHeadSoftmaxConfig(HeadsTraining):
    """The layers, and what is measured of them.

    Attributes:
        n_test, n_query: contexts, and queries in each, that losses are measured on.
        lengths: of the test contexts; ``n_context`` is among them.
        label_shifts: constants added to the context's targets.
        input_shifts: lengths of a mean, along ``(1, .., 1)``, that all inputs get.
        scores: ``|omega|`` at which the best one and two heads of the pattern are fitted.
    """

    n_test: int = 2000
    n_query: int = 4
    lengths: tuple[int, ...] = (20, 40, 80, 200)
    label_shifts: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    input_shifts: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    scores: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_test", self.n_test, at_least=1)
        check_integer("n_query", self.n_query, at_least=1)
        if self.n_context not in self.lengths or min(self.lengths) < 2:
            raise ValueError(f"lengths: got {self.lengths}; 2 or more, with {self.n_context}")
        for name in ("label_shifts", "input_shifts"):
            if getattr(self, name)[0] != 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; begin with 0")

    @property
    def training(self) -> HeadsTraining:
        """What the weights depend on."""
        names = HeadsTraining.__dataclass_fields__
        return HeadsTraining(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class MultiHeadSoftmaxResult:
    """What came of it. Heads that a design does not have are NaN.

    Attributes:
        designs: names of the layers; the last is linear attention.
        lengths: of the test contexts; ``trained_at`` is the column of those trained on.
        loss: by design, length and seed. The chance of the test contexts is taken out with the
            best plain step, whose loss is known: what it has on them, less what it has on all
            contexts, is subtracted from every loss here.
        undivided: the same for linear attention whose sum over examples is not divided by their
            number but by that of training, as a layer without the division would have learned it.
        plain, debiased: losses of the best plain and debiased step at each length, exact;
            ``ridge`` is the Bayes optimum, ``zero`` the loss of predicting 0.
        omega, mu, stray, label_share: the pattern, by design, seed and head.
        best_mu: ``mu*(omega)`` of the approximate loss at the trained ``omega``.
        approximate: the approximate loss at the trained ``omega`` and ``mu``.
        from_pattern, from_debiased, from_plain: root mean square difference of predictions from
            the layer's own pattern, from the best debiased and from the best plain step, over the
            root mean square of the latter.
        moments: updates of the weights at which the pattern was kept, with ``kept_omega``,
            ``kept_mu`` and ``kept_loss``, the mean training loss since the moment before.
        scores: ``|omega|``, and the loss of the best one head and the best two opposite heads.
        shifted: learners under the shifts: designs, then the best plain and debiased step.
        label_shifts, label_loss: error against ``w.x_q`` when the context's targets are moved.
        input_shifts, input_loss: when all inputs get a mean.
        start_heads: numbers of heads started many times. ``start_loss``, by number, moment and
            start, at ``start_moments``; ``one_sign``: whether all ``omega`` ended with one sign;
            ``sign_kept``: share of heads that ended with the sign of ``omega + mu`` at the start;
            ``one_sign_at_start``: whether those signs were all the same.
        variances: unequal variances of the inputs, for which ``score_matrix`` is the trained
            ``sum_h mu_h W_h`` on the inputs, with ``cosine`` to the identity, to the inverse
            covariance and to the best preconditioner, by seed.
        layers: the trained layers of each design.
    """

    designs: tuple[str, ...]
    lengths: Int[np.ndarray, " lengths"]
    trained_at: int
    loss: Float[np.ndarray, "designs lengths seeds"]
    undivided: Float[np.ndarray, "lengths seeds"]
    plain: Float[np.ndarray, " lengths"]
    debiased: Float[np.ndarray, " lengths"]
    ridge: Float[np.ndarray, " lengths"]
    zero: float
    omega: Float[np.ndarray, "designs seeds heads"]
    mu: Float[np.ndarray, "designs seeds heads"]
    stray: Float[np.ndarray, "designs seeds heads"]
    label_share: Float[np.ndarray, "designs seeds heads"]
    best_mu: Float[np.ndarray, "designs seeds heads"]
    approximate: Float[np.ndarray, "designs seeds"]
    from_pattern: Float[np.ndarray, "designs seeds"]
    from_debiased: Float[np.ndarray, "designs seeds"]
    from_plain: Float[np.ndarray, "designs seeds"]
    moments: Int[np.ndarray, " moments"]
    kept_omega: Float[np.ndarray, "designs moments seeds heads"]
    kept_mu: Float[np.ndarray, "designs moments seeds heads"]
    kept_loss: Float[np.ndarray, "designs moments seeds"]
    scores: Float[np.ndarray, " scores"]
    best_one_head: Float[np.ndarray, " scores"]
    best_two_heads: Float[np.ndarray, " scores"]
    shifted: tuple[str, ...]
    label_shifts: Float[np.ndarray, " label_shifts"]
    label_loss: Float[np.ndarray, "shifted label_shifts seeds"]
    input_shifts: Float[np.ndarray, " input_shifts"]
    input_loss: Float[np.ndarray, "shifted input_shifts seeds"]
    start_heads: tuple[int, ...]
    start_moments: Int[np.ndarray, " start_moments"]
    start_loss: Float[np.ndarray, "counts start_moments starts"]
    one_sign: Bool[np.ndarray, "counts starts"]
    one_sign_at_start: Bool[np.ndarray, "counts starts"]
    sign_kept: Float[np.ndarray, " counts"]
    variances: Float[np.ndarray, " d"]
    score_matrix: Float[np.ndarray, "seeds d d"]
    cosine: Float[np.ndarray, "compared seeds"]
    layers: dict[str, list[MultiHeadLayer]] = field(
        repr=False, default_factory=dict, metadata={"stored": False}
    )

    def row(self, heads: int, start: str = "random", attention: str = "softmax") -> int:
        """Where a design stands in the arrays."""
        return self.designs.index(Design(heads, start, attention).name)

    @property
    def sum_of_outputs(self) -> Float[np.ndarray, "designs seeds"]:
        """``|sum_h mu_h| / max_h |mu_h|``: 0 for a predictor that is debiased."""
        return np.abs(np.nansum(self.mu, -1)) / np.nanmax(np.abs(self.mu), -1)

    @property
    def spread(self) -> Float[np.ndarray, "designs seeds"]:
        """Largest less smallest ``|omega|`` over the largest, of heads with a tenth of the largest
        ``|mu|`` or more."""
        size = np.abs(self.mu)
        counted = np.where(
            size >= 0.1 * np.nanmax(size, -1, keepdims=True), np.abs(self.omega), np.nan
        )
        return 1 - np.nanmin(counted, -1) / np.nanmax(counted, -1)

    @property
    def opposed(self) -> Bool[np.ndarray, "designs seeds"]:
        """Whether a layer has heads of both signs."""
        return (np.nanmin(self.omega, -1) < 0) & (np.nanmax(self.omega, -1) > 0)

    def both_signs(self, values: np.ndarray) -> np.ndarray:
        """Of an array by design and seed, the entries of layers with heads of both signs."""
        return values[self.opposed]

    def summary(self) -> str:
        """The result in a few lines."""

        def line(name: str, values) -> str:
            return f"  {name:<28}" + "".join(f"{value:9.4f}" for value in np.ravel(values))

        lines = [f"E (y_hat - y)^2 at lengths {self.lengths.tolist()}, mean over seeds"]
        lines += map(line, self.designs, self.loss.mean(-1))
        lines += map(line, (PLAIN, DEBIASED, "ridge"), (self.plain, self.debiased, self.ridge))
        lines.append("omega | mu, one line for each seed")
        for name, omega, mu in zip(self.designs, self.omega, self.mu, strict=True):
            for pair in zip(omega, mu, strict=True):
                lines.append(line(name, np.concatenate([row[~np.isnan(row)] for row in pair])))
        lines.append("predictions from the pattern, the debiased step, the plain step")
        apart = (self.from_pattern, self.from_debiased, self.from_plain)
        lines += map(line, self.designs, np.stack([each.mean(1) for each in apart], 1))
        lines.append("random starts that ended with one sign, and share of signs kept")
        counts = (f"{heads} heads" for heads in self.start_heads)
        lines += map(line, counts, np.stack([self.one_sign.mean(1), self.sign_kept], 1))
        lines.append(line("cosines, unequal variances", self.cosine.mean(1)))
        return "\n".join(lines)


def _error(learner: Learner, batch: Batch, noise_variance: float) -> float:
    """Against ``w.x_q``, the variance of the query's noise added."""
    target = batch.x_query @ batch.weights.mT
    return (learner(*batch.context) - target).square().mean().item() + noise_variance


def _difference(learner: Learner, reference: Learner, batch: Batch) -> float:
    expected = reference(*batch.context)
    return ((learner(*batch.context) - expected).norm() / expected.norm()).item()


def _moved(batch: Batch, label_shift: float, input_shift: float) -> Batch:
    """The same tasks and noise, a constant on the context's targets or a mean on all inputs."""
    d = batch.xs.shape[-1]
    mean = torch.full((d,), input_shift * d**-0.5).to(batch.xs)
    extra = (mean @ batch.weights.mT)[:, None]
    return Batch(
        batch.xs + mean,
        batch.ys + extra + label_shift,
        batch.x_query + mean,
        batch.y_query + extra,
        batch.weights,
    )


def _padded(rows, heads: int) -> np.ndarray:
    """Values by row, seed and head, with NaN for heads that a row does not have."""
    out = np.full((len(rows), len(rows[0]), heads), np.nan)
    for i, row in enumerate(rows):
        for j, values in enumerate(row):
            out[i, j, : len(values)] = values
    return out


def _over_time(designs: list[Tensor], heads: int) -> np.ndarray:
    """The same for each moment: by design, moment, seed and head."""
    return np.stack([_padded(moments, heads) for moments in designs])


def _patterns(config: HeadsTraining, layers: list[list[MultiHeadLayer]], batch: Batch) -> dict:
    """The pattern of every layer, and how much of what it predicts is explained by it."""
    law = (config.d, config.n_context, config.noise_variance)
    plain = GradientDescent(best_step(*law).step_size)
    debiased = DebiasedDescent(best_step(*law, debiased=True).step_size)
    rows: dict[str, list] = {}
    for group in layers:
        patterns = [layer.pattern for layer in group]
        softmax = group[0].attention == "softmax"
        apart = {"from_debiased": debiased, "from_plain": plain}
        values = {
            **{key: [getattr(p, key) for p in patterns] for key in patterns[0]._fields},
            "best_mu": [
                best_outputs(p.omega.double(), *law) if softmax else torch.full_like(p.mu, np.nan)
                for p in patterns
            ],
            "approximate": [
                approximate_loss(p.mu, p.omega, *law).item() if softmax else np.nan
                for p in patterns
            ],
            "from_pattern": [
                _difference(layer, layer.heads_alone, batch) if softmax else np.nan
                for layer in group
            ],
            **{key: [_difference(x, other, batch) for x in group] for key, other in apart.items()},
        }
        for key, value in values.items():
            rows.setdefault(key, []).append(value)
    heads = max(config.heads)
    by_head = (*layers[0][0].pattern._fields, "best_mu")
    return {
        key: _padded(value, heads) if key in by_head else np.array(value)
        for key, value in rows.items()
    }


def _best_of_pattern(batch: Batch, scores: tuple[float, ...], offset: float) -> dict:
    """The best one head, and the best two opposite heads, of each size of the scores."""
    target = (batch.x_query @ batch.weights.mT).flatten()
    products = batch.x_query @ batch.xs.mT
    losses = np.empty((2, len(scores)))
    for i, omega in enumerate(scores):
        ahead, behind = (
            ((sign * omega * products).softmax(-1) @ batch.ys).flatten() for sign in (1, -1)
        )
        for j, feature in enumerate((ahead, ahead - behind)):
            mu = (feature @ target) / feature.square().sum()
            losses[j, i] = (mu * feature - target).square().mean().item() + offset
    return {"scores": np.array(scores), "best_one_head": losses[0], "best_two_heads": losses[1]}


@experiment(
    "multi_head_softmax",
    paper="he2025incontext",
    chapter="implicit_dynamics/training_dynamics",
    configs={
        Scale.LESSON: MultiHeadSoftmaxConfig(),
        Scale.PAPER: MultiHeadSoftmaxConfig(
            heads=(1, 2, 4, 8),
            stages=((1e-3, 500_000),),
            batch_size=256,
            start_batch=256,
            start_steps=50_000,
            keep_every=1000,
            n_test=10_000,
        ),
    },
    figure=figures.multi_head_softmax,
)
def multi_head_softmax(config: MultiHeadSoftmaxConfig) -> MultiHeadSoftmaxResult:
    """Softmax attention of 1, 2 and 4 heads: its pattern, what it costs, and when it fails."""
    training, noise = config.training, config.noise_variance
    state = heads_weights(training)
    layers = [trained_layers(state, training, design) for design in config.designs]
    names = tuple(design.name for design in config.designs)
    task = replace(config.task, n_query=config.n_query)
    with one_thread(), torch.no_grad():
        batches = [
            task.sample(config.n_test, n, generator=seeded(TEST_SEED)) for n in config.lengths
        ]
        trained_at = config.lengths.index(config.n_context)
        batch, law = batches[trained_at], (config.d, config.n_context, noise)
        steps = {
            PLAIN: GradientDescent(best_step(*law).step_size),
            DEBIASED: DebiasedDescent(best_step(*law, debiased=True).step_size),
        }
        shifted = [*layers, *([learner] * len(config.seeds) for learner in steps.values())]

        def exact(**options) -> np.ndarray:
            return np.array([best_step(config.d, n, noise, **options).loss for n in config.lengths])

        chance = [
            _error(GradientDescent(best_step(config.d, n, noise).step_size), batch, noise) - best
            for n, batch, best in zip(config.lengths, batches, exact(), strict=True)
        ]

        def losses(groups, batches, chance) -> np.ndarray:
            pairs = list(zip(batches, chance, strict=True))
            return np.array(
                [[[_error(x, b, noise) - c for x in g] for b, c in pairs] for g in groups]
            )

        def summed(layer: Learner) -> Learner:
            return lambda xs, ys, x: layer(xs, ys, x) * xs.shape[1] / config.n_context

        def shifted_losses(moved: list[Batch]) -> np.ndarray:
            return losses(shifted, moved, [chance[trained_at]] * len(moved))

        def ridge(xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
            return x_query @ ridge_weights(xs, ys, config.d * noise).mT

        kept = {key: [state[f"{name}.{key}"] for name in names] for key in ("omega", "mu", "loss")}
        moments = moments_kept(config, len(kept["loss"][0]), sum(n for _, n in config.stages))
        return MultiHeadSoftmaxResult(
            designs=names,
            lengths=np.array(config.lengths),
            trained_at=trained_at,
            loss=losses(layers, batches, chance),
            undivided=losses([list(map(summed, layers[-1]))], batches, chance)[0],
            plain=exact(),
            debiased=exact(debiased=True),
            ridge=np.array([_error(ridge, b, noise) for b in batches]),
            zero=1 + noise,
            **_patterns(config, layers, batch),
            moments=moments,
            kept_omega=_over_time(kept["omega"], max(config.heads)),
            kept_mu=_over_time(kept["mu"], max(config.heads)),
            kept_loss=torch.stack(kept["loss"]).numpy(),
            **_best_of_pattern(batch, config.scores, noise - chance[trained_at]),
            shifted=(*names, *steps),
            label_shifts=np.array(config.label_shifts),
            label_loss=shifted_losses([_moved(batch, c, 0.0) for c in config.label_shifts]),
            input_shifts=np.array(config.input_shifts),
            input_loss=shifted_losses([_moved(batch, 0.0, c) for c in config.input_shifts]),
            **starts_read(training, state),
            **unequal_read(training, state),
            layers=dict(zip(names, layers, strict=True)),
        )
