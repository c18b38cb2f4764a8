"""The experiment on sine curves: an MLP in front of attention, and attention alone."""

import dataclasses
import functools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.declare import experiment
from icl_lessons.gradient_descent.features import (
    FeatureDescent,
    SinusoidNetwork,
    best_step_on_sine_and_cosine,
    sine_and_cosine,
)
from icl_lessons.gradient_descent.figures import features as figures
from icl_lessons.measures.agreement import mean_squared_error, sensitivity
from icl_lessons.runtime import Scale, check_integer, check_number, one_thread, seeded
from icl_lessons.tasks.sinusoids import Sinusoids
from icl_lessons.training import TrainingConfig, train
from icl_lessons.types import Batch
from icl_lessons.zoo import models_from, recipe

VALIDATION_SEED, CURVE_SEED = 1_000_003, 1_000_081
LEARNERS = ("transformer", "descent", "attention")
GRID = 101


@dataclass(frozen=True, kw_only=True)
class SinusoidTraining:
    """What the weights depend on; the defaults are the lesson's.

    Attributes:
        width, hidden: of the network (40 and 160 in the paper).
        n_context: examples in each context.
        amplitudes: of the sine curves; ``(0.1, 5.0)`` is what the paper's text prints.
        batch_size, steps, clip, schedule: of the training.
        learning_rate: of the networks whose attention layer is learned.
        descent_learning_rate: of the network whose layer is fixed to a step of gradient descent.
        seeds: one model of each kind each.
    """

    width: int = 20
    hidden: int = 80
    n_context: int = 10
    amplitudes: tuple[float, float] = (0.1, 0.5)
    batch_size: int = 256
    steps: int = 2000
    learning_rate: float = 6e-3
    descent_learning_rate: float = 6e-3
    clip: float | None = 1.0
    schedule: str = "linear_decay"
    validate_every: int = 100
    n_validation: int = 10_000
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("width", "hidden", "n_context", "batch_size", "steps", "n_validation"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("learning_rate", "descent_learning_rate"):
            check_number(name, getattr(self, name), positive=True)
        if not self.seeds:
            raise ValueError("seeds: got none; give at least one")

    @property
    def task(self) -> Sinusoids:
        """The sine curves of this experiment."""
        return Sinusoids(amplitudes=self.amplitudes)

    def network(self, kind: str, generator: torch.Generator | None = None) -> SinusoidNetwork:
        """An untrained network: ``transformer``, ``descent`` (fixed layer) or ``attention``."""
        return SinusoidNetwork(
            self.width,
            self.hidden,
            self.n_context,
            attention="descent" if kind == "descent" else "learned",
            mlp=kind != "attention",
            generator=generator,
        )

    def validation(self) -> Batch:
        """The tasks that losses are measured on."""
        return self.task.sample(
            self.n_validation, self.n_context, generator=seeded(VALIDATION_SEED)
        )


def _losses(state: dict[str, Tensor], config: SinusoidTraining) -> dict[str, float]:
    batch = config.validation()
    return {
        f"{kind}, seed {seed}": mean_squared_error(model, batch)
        for kind in LEARNERS
        for seed, model in zip(
            config.seeds, models_from(config.network(kind), state, f"{kind}."), strict=True
        )
    }


@recipe("features_sinusoids", config=SinusoidTraining(), measure=_losses)
def sinusoid_weights(config: SinusoidTraining) -> dict[str, Tensor]:
    """Train the three kinds of network; their losses while training stand under ``history.``."""
    tensors = {}
    for kind in LEARNERS:
        rate = config.descent_learning_rate if kind == "descent" else config.learning_rate
        run = train(
            functools.partial(config.network, kind),
            config.task,
            TrainingConfig(
                steps=config.steps,
                batch_size=config.batch_size,
                n_context=config.n_context,
                learning_rate=rate,
                clip=config.clip,
                schedule=config.schedule,
                seeds=config.seeds,
                validate_every=config.validate_every,
            ),
            validate=config.validation(),
            progress=False,
            device=config.device,
        )
        tensors |= {f"{kind}.{name}": value for name, value in run.state.items()}
        tensors[f"history.{kind}"] = torch.from_numpy(run.history.validation.T).float()
        tensors["history.steps"] = torch.from_numpy(run.history.validation_steps)
    return tensors


@dataclass(frozen=True, kw_only=True)
class SinusoidFeaturesConfig:
    """Settings of :func:`sinusoid_features`.

    Attributes:
        training: of the networks.
        context_sizes: numbers of examples at which they are measured after training.
        n_curves: contexts whose predictions are kept as curves.
        seeds, device: of the training, and where to compute.
    """

    training: SinusoidTraining = SinusoidTraining()
    context_sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20)
    n_curves: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"

    def __post_init__(self):
        check_integer("n_curves", self.n_curves, at_least=1)
        if not self.context_sizes or min(self.context_sizes) < 1:
            raise ValueError(f"context_sizes: got {self.context_sizes}; use numbers of 1 or more")


@dataclass(frozen=True, kw_only=True)
class SinusoidFeaturesResult:
    """What came of it. Losses are ``1/2 E (y_hat - y)^2``; arrays have one row for each seed.

    ``transformer`` is the MLP with a learned attention layer, ``descent`` the MLP with the layer
    fixed to one step of gradient descent, ``attention`` a learned layer without an MLP.

    Attributes:
        n_context: examples in each context of the training.
        steps: updates before each measurement.
        transformer_path, descent_path, attention_path: loss then, ``[seeds, measurements]``.
        transformer_loss, descent_loss, attention_loss: after training, ``[seeds]``.
        zero_loss: of predicting 0, on the same tasks; ``exact_zero_loss`` in closed form.
        step_loss, step_size: the best single step on ``(sin x, cos x)`` from zero weights, exact.
        prior_step_loss, prior_step_size: the same from the mean task; ``prior_step_here``: its loss
            on the tasks that the networks are measured on.
        learned_step_size: of the fixed layer.
        sensitivity_correlation: between ``d y_hat / d x_q`` of transformer and descent, over tasks.
        attention_correlation: the same between attention alone and descent.
        prediction_difference: mean ``|y_hat_transformer - y_hat_descent|``; ``target_size``: mean
            ``|y|``.
        grid: inputs at which curves are drawn.
        guess, guess_transformer: prediction before any example has been seen, ``[seeds, grid]``.
        mean_curve: ``E y`` at each input, exact.
        kernel_similarity: cosine between the kernel of the descent network's features, at targets
            on the mean curve, and ``cos(x - x')``, over all pairs of the grid.
        kernel: of the first seed, ``eta f(x) . f(x')``, ``[grid, grid]``.
        context_sizes: numbers of examples.
        transformer_by_size, descent_by_size: loss with the weights as trained,
            ``[seeds, context_sizes]``.
        mean_descent_by_size: of the fixed layer with ``eta / N`` at the true ``N``.
        attention_by_size: of attention alone.
        curve_xs, curve_ys: examples of a few contexts, ``[curves, n_context]``.
        curves: predictions on the grid by kind, ``{kind: [curves, grid]}``, first seed.
        truth: the curves themselves.
    """

    n_context: int
    steps: Int[np.ndarray, " measurements"]
    transformer_path: Float[np.ndarray, "seeds measurements"]
    descent_path: Float[np.ndarray, "seeds measurements"]
    attention_path: Float[np.ndarray, "seeds measurements"]
    transformer_loss: Float[np.ndarray, " seeds"]
    descent_loss: Float[np.ndarray, " seeds"]
    attention_loss: Float[np.ndarray, " seeds"]
    zero_loss: float
    exact_zero_loss: float
    step_loss: float
    step_size: float
    prior_step_loss: float
    prior_step_size: float
    prior_step_here: float
    learned_step_size: Float[np.ndarray, " seeds"]
    sensitivity_correlation: Float[np.ndarray, " seeds"]
    attention_correlation: Float[np.ndarray, " seeds"]
    prediction_difference: Float[np.ndarray, " seeds"]
    target_size: float
    grid: Float[np.ndarray, " grid"]
    guess: Float[np.ndarray, "seeds grid"]
    guess_transformer: Float[np.ndarray, "seeds grid"]
    mean_curve: Float[np.ndarray, " grid"]
    kernel_similarity: Float[np.ndarray, " seeds"]
    kernel: Float[np.ndarray, "grid grid"]
    context_sizes: Int[np.ndarray, " context_sizes"]
    transformer_by_size: Float[np.ndarray, "seeds context_sizes"]
    descent_by_size: Float[np.ndarray, "seeds context_sizes"]
    mean_descent_by_size: Float[np.ndarray, "seeds context_sizes"]
    attention_by_size: Float[np.ndarray, "seeds context_sizes"]
    curve_xs: Float[np.ndarray, "curves n_context"]
    curve_ys: Float[np.ndarray, "curves n_context"]
    curves: dict[str, np.ndarray]
    truth: Float[np.ndarray, "curves grid"]
    models: dict[str, tuple[SinusoidNetwork, ...]] = field(
        repr=False, default_factory=dict, metadata={"stored": False}
    )

    def summary(self) -> str:
        """The result in a few lines."""
        rows = [
            ("MLP and learned attention", self.transformer_loss),
            ("MLP and one step", self.descent_loss),
            ("attention alone", self.attention_loss),
            ("sensitivity correlation", self.sensitivity_correlation),
            ("kernel against cos(x - x')", self.kernel_similarity),
        ]
        lines = [
            f"loss, 1/2 E (y_hat - y)^2; predicting 0: {self.zero_loss:.4f}; one step on (sin, "
            f"cos): {self.step_loss:.5f} from zero, {self.prior_step_loss:.5f} from the mean task "
            f"({self.prior_step_here:.5f} here)"
        ]
        lines += [f"{name:<28}" + "  ".join(f"{v:8.5f}" for v in row) for name, row in rows]
        return "\n".join(lines)


def _correlation(one: Tensor, two: Tensor) -> float:
    return torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1].item()


def _with_step_over(model: SinusoidNetwork, n_context: int) -> SinusoidNetwork:
    """The fixed layer with ``eta / n_context``: a true mean over another number of examples."""
    other = SinusoidNetwork(*model.mlp.w_out.shape, n_context, attention="descent")
    other.load_state_dict(model.state_dict())
    return other.requires_grad_(False)


def _before_any_example(model: SinusoidNetwork, grid: Tensor) -> np.ndarray:
    """Minus the target slot of each query token: what the layer then adds to."""
    return -model.tokens(grid[None], torch.zeros_like(grid)[None])[0, :, -1].numpy()


def _kernel(model: SinusoidNetwork, grid: Tensor, targets: Tensor) -> Tensor:
    """``eta f(x, y) . f(x', 0)`` between examples and queries on a grid."""
    examples, _ = model.features(grid[None], targets[None])
    queries, _ = model.features(grid[None], torch.zeros_like(grid)[None])
    return model.step_size * (examples @ queries.mT)[0]


@experiment(
    "sinusoid_features",
    paper="vonoswald2023transformers",
    chapter="gradient_descent/beyond_lines",
    configs={
        Scale.LESSON: SinusoidFeaturesConfig(),
        Scale.PAPER: SinusoidFeaturesConfig(
            training=SinusoidTraining(
                width=40,
                hidden=160,
                batch_size=2048,
                steps=20_000,
                learning_rate=1e-3,
                descent_learning_rate=3e-4,
                clip=10.0,
                schedule="constant",
                validate_every=500,
                seeds=(0, 1, 2, 3, 4),
            ),
            seeds=(0, 1, 2, 3, 4),
        ),
    },
    figure=figures.sinusoid_features,
)
def sinusoid_features(config: SinusoidFeaturesConfig) -> SinusoidFeaturesResult:
    """Train an MLP with attention on sine curves, beside gradient descent on learned features."""
    training = dataclasses.replace(config.training, seeds=config.seeds, device=config.device)
    task, n = training.task, training.n_context
    with one_thread():
        state = sinusoid_weights(training)
        models = {kind: models_from(training.network(kind), state, f"{kind}.") for kind in LEARNERS}
        batch = training.validation()
        sensitivities = {
            kind: [sensitivity(model, batch) for model in models[kind]] for kind in LEARNERS
        }
        with torch.no_grad():
            return _measure(config, task, n, state, models, batch, sensitivities)


def _measure(config, task, n, state, models, batch, sensitivities) -> SinusoidFeaturesResult:
    def losses(kind: str, on: Batch = batch) -> np.ndarray:
        return np.array([mean_squared_error(model, on) for model in models[kind]])

    def correlations(kind: str) -> np.ndarray:
        pairs = zip(sensitivities[kind], sensitivities["descent"], strict=True)
        return np.array([_correlation(one, two) for one, two in pairs])

    sized = [
        task.sample(min(len(batch), 4000), size, generator=seeded(VALIDATION_SEED + size))
        for size in config.context_sizes
    ]
    by_size = {kind: np.stack([losses(kind, on) for on in sized], 1) for kind in LEARNERS}
    true_mean = [
        [mean_squared_error(_with_step_over(model, on.xs.shape[1]), on) for on in sized]
        for model in models["descent"]
    ]
    grid = torch.linspace(-task.half_range, task.half_range, GRID)[:, None]
    mean_amplitude = sum(task.amplitudes) / 2
    mean_curve = 2 / math.pi * mean_amplitude * grid.cos()
    kernels = [_kernel(model, grid, mean_curve) for model in models["descent"]]
    ideal = (grid - grid.mT).cos().flatten()
    cosine = torch.nn.functional.cosine_similarity

    few = Sinusoids(amplitudes=task.amplitudes, n_query=GRID).sample(
        config.n_curves, n, generator=seeded(CURVE_SEED)
    )
    # Each context's own curve on the grid: its two coefficients from its noiseless examples.
    design = torch.cat([few.xs.sin(), few.xs.cos()], -1).double()
    coefficients = torch.linalg.lstsq(design, few.ys.double()).solution
    truth = torch.cat([grid.sin(), grid.cos()], -1).double() @ coefficients
    on_grid = grid.expand(config.n_curves, -1, -1)
    zero_step = best_step_on_sine_and_cosine(task, n)
    prior_step = best_step_on_sine_and_cosine(task, n, from_mean=True)
    mean_task = torch.tensor([[0.0, 2 / math.pi * mean_amplitude]])
    prior = FeatureDescent(sine_and_cosine, prior_step.step_size, 1, mean_task)
    pairs = zip(models["transformer"], models["descent"], strict=True)
    return SinusoidFeaturesResult(
        n_context=n,
        steps=state["history.steps"].numpy(),
        **{f"{kind}_path": state[f"history.{kind}"].numpy() for kind in LEARNERS},
        **{f"{kind}_loss": losses(kind) for kind in LEARNERS},
        zero_loss=0.5 * batch.y_query.square().mean().item(),
        exact_zero_loss=task.zero_loss,
        step_loss=zero_step.loss,
        step_size=zero_step.step_size,
        prior_step_loss=prior_step.loss,
        prior_step_size=prior_step.step_size,
        prior_step_here=mean_squared_error(prior, batch),
        learned_step_size=np.array([model.step_size.item() for model in models["descent"]]),
        sensitivity_correlation=correlations("transformer"),
        attention_correlation=correlations("attention"),
        prediction_difference=np.array(
            [(a(*batch.context) - b(*batch.context)).abs().mean().item() for a, b in pairs]
        ),
        target_size=batch.y_query.abs().mean().item(),
        grid=grid[:, 0].numpy(),
        guess=np.stack([_before_any_example(model, grid) for model in models["descent"]]),
        guess_transformer=np.stack(
            [_before_any_example(model, grid) for model in models["transformer"]]
        ),
        mean_curve=mean_curve[:, 0].numpy(),
        kernel_similarity=np.array([cosine(k.flatten(), ideal, dim=0).item() for k in kernels]),
        kernel=kernels[0].numpy(),
        context_sizes=np.array(config.context_sizes),
        **{f"{kind}_by_size": by_size[kind] for kind in LEARNERS},
        mean_descent_by_size=np.array(true_mean),
        curve_xs=few.xs[..., 0].numpy(),
        curve_ys=few.ys[..., 0].numpy(),
        curves={
            kind: models[kind][0](few.xs, few.ys, on_grid)[..., 0].numpy() for kind in LEARNERS
        },
        truth=truth[..., 0].numpy(),
        models={kind: tuple(models[kind]) for kind in LEARNERS},
    )
