"""Training against poisoned contexts: what it does to the inner step, and a step that clips.

A context in which one label is hit by noise of standard deviation ``sigma`` costs a learner that
is linear in labels ``a_i^2 sigma^2``, so the only defence within its family is to listen less. For
one step of size ``gamma`` on normal inputs and targets of variance 1 the expected error is a
parabola,

.. math:: E (\\hat y - y)^2 = 1 - 2\\gamma + \\gamma^2 \\Big(1 + \\frac{d+1}{N}
          + \\frac{d\\,\\sigma^2}{N^2}\\Big),

whose lowest point moves towards 0 as the poison grows: the inner step shrinks and keeps its
direction. A step on another loss does better. Clipping the labels at ``delta`` is one step of
gradient descent from zero on the sum of Huber losses, and no single example moves it by more than
:func:`clipped_step_bound`.

Errors in this module are ``E (y_hat - y)^2`` without a half; a target has variance 1.
"""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.measures.agreement import squared_error as squared_error
from icl_lessons.measures.label_influence import label_influence
from icl_lessons.mesa_optimization.poisoned_contexts import Inputs, Labels, Query, check_single
from icl_lessons.runtime import check_context, check_integer, check_number
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Batch, Learner


def unit_task(d: int) -> LinearRegression:
    """Noiseless regression with ``x ~ N(0, I)`` and ``w ~ N(0, I / d)``: targets of variance 1."""
    check_integer("d", d, at_least=1)
    return LinearRegression(d=d, task_scale=d**-0.5)


@dataclass(frozen=True, kw_only=True)
class PoisonedRegression:
    """Contexts of :func:`unit_task` in which some labels, drawn at random, are hit by noise.

    Attributes:
        d: coordinates of an input.
        noise_std: of what is added to a label that is hit.
        poisoned: how many labels of a context are; the rest, and the query's target, are right.
    """

    d: int = 5
    noise_std: float = 20.0
    poisoned: int = 1

    def __post_init__(self):
        check_integer("d", self.d, at_least=1)
        check_number("noise_std", self.noise_std)
        check_integer("poisoned", self.poisoned, at_least=0)

    def sample(
        self,
        batch_size: int,
        n_context: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Batch:
        """Draw contexts; arguments as in :meth:`LinearRegression.sample`.

        Raises:
            ValueError: fewer examples than are to be poisoned.
        """
        if n_context < self.poisoned:
            raise ValueError(f"n_context: got {n_context}; {self.poisoned} labels are poisoned")
        how = {"generator": generator, "dtype": dtype}
        batch = unit_task(self.d).sample(batch_size, n_context, **how)
        which = torch.rand(batch_size, n_context, **how).argsort(1) < self.poisoned
        noise = self.noise_std * torch.randn(batch_size, n_context, **how)
        batch = dataclasses.replace(batch, ys=batch.ys + (which * noise)[..., None])
        return batch.to("cpu" if device is None else device)


def poisoned_step_error(
    step_size: float | int, d: int, n_context: int, noise_std: float | int = 0.0
) -> float:
    """``E (y_hat - y)^2`` of one step on :class:`PoisonedRegression` with one label hit: exact."""
    check_number("step_size", step_size)
    return 1 - 2 * step_size + step_size**2 * _curvature(d, n_context, noise_std)


def best_poisoned_step(d: int, n_context: int, noise_std: float | int = 0.0) -> float:
    """The step size at which :func:`poisoned_step_error` is lowest; there it is 1 minus it."""
    return 1 / _curvature(d, n_context, noise_std)


def _curvature(d: int, n_context: int, noise_std: float | int) -> float:
    check_integer("d", d, at_least=1)
    check_integer("n_context", n_context, at_least=1)
    check_number("noise_std", noise_std)
    return 1 + (d + 1) / n_context + d * noise_std**2 / n_context**2


@dataclass(frozen=True)
class ClippedStep:
    """``gamma/N sum_i clip(y_i, +-delta) x_i^T x_q``: one step from zero on a sum of Huber losses.

    Attributes:
        step_size: ``gamma``.
        clip: ``delta``; infinite for the step on squared errors.
    """

    step_size: float
    clip: float = float("inf")

    def __post_init__(self):
        check_number("step_size", self.step_size)
        if not self.clip > 0:
            raise ValueError(f"clip: got {self.clip!r}; use a number above 0, or infinity for none")

    def __call__(
        self, xs: Inputs, ys: Float[Tensor, "batch n_context m"], x_query: Tensor
    ) -> Tensor:
        check_context(xs, ys, x_query)
        heard = ys.clamp(-self.clip, self.clip)
        return self.step_size / xs.shape[1] * x_query @ xs.mT @ heard


def clipped_step_bound(
    x: Float[Tensor, "batch d"],
    x_query: Query,
    n_context: int,
    step_size: float | int,
    clip: float | int,
) -> Float[Tensor, " batch"]:
    """``2 delta gamma |x_a^T x_q| / N``: the most that a label at ``x_a`` moves a clipped step.

    Args:
        x: ``x_a``, the input whose label is changed, to any number.
        n_context: ``N``, the examples that are in the prompt, that one counted.
    """
    check_integer("n_context", n_context, at_least=1)
    check_number("step_size", step_size)
    check_number("clip", clip, positive=True)
    return 2 * clip * step_size * (x * x_query[:, 0]).sum(-1).abs() / n_context


def tuned_clipped_step(batch: Batch, clip: float | int) -> ClippedStep:
    """The clipped step of smallest error on a batch: for a given clip its size is a parabola's."""
    unit = ClippedStep(1.0, float(clip))(*batch.context)
    size = (unit * batch.y_query).sum() / unit.square().sum()
    return ClippedStep(max(size.item(), 0.0), float(clip))


# --- what training and measuring need ---------------------------------------------------------


def attacked_labels(
    learner: Learner, batch: Batch, sizes: Float[Tensor, " batch"]
) -> Float[Tensor, "batch n_context 1"]:
    """The labels after one gradient step of an attacker.

    In each context the label of steepest squared error moves by ``sizes`` in the direction in which
    the error rises. No gradient flows back through the attacker's choice.
    """

    def error(ys: Labels) -> Float[Tensor, ""]:
        return (learner(batch.xs, ys, batch.x_query) - batch.y_query).square().sum()

    slope = torch.func.grad(error)(batch.ys).detach()
    steepest = slope.abs().argmax(1, keepdim=True)
    at = torch.zeros_like(slope).scatter(1, steepest, 1.0)
    return batch.ys + at * slope.sign() * sizes[:, None, None]


def prefix_error(model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
    """Half the squared error of every prefix's prediction, against targets without any poison."""
    xs = torch.cat([batch.xs, batch.x_query], 1)
    ys = torch.cat([batch.ys, batch.y_query], 1)
    return 0.5 * (model.predict_prefixes(xs, ys) - xs @ batch.weights.mT).square().mean()


def attacked_loss(model: nn.Module, batch: Batch, *, budget: float) -> Float[Tensor, ""]:
    """The loss after :func:`attacked_labels`, with attacks of all sizes up to the budget.

    The contexts of a batch are alike in law, so the sizes are dealt out in equal steps from 0 to
    ``budget``. A model with ``predict_prefixes`` is trained on every prefix, another on its query.
    """
    sizes = torch.linspace(0, budget, len(batch.xs), dtype=batch.xs.dtype, device=batch.xs.device)
    poisoned = dataclasses.replace(batch, ys=attacked_labels(model, batch, sizes))
    if hasattr(model, "predict_prefixes"):
        return prefix_error(model, poisoned)
    return 0.5 * (model(*poisoned.context) - batch.y_query).square().mean()


def inner_step(learner: Learner, batch: Batch) -> tuple[float, float]:
    """The step size that the label influences imply, and their cosine with those of one step.

    The influences ``d f / d y_i`` are compared with ``x_i^T x_q / N``, those of a step of size 1:
    the size is their regression coefficient, and the cosine does not change with it. It is the
    one number that :func:`~icl_lessons.measures.label_influence.implied_preconditioner` fits if the
    metric has to be a multiple of the identity. A learner that hears no label has size and cosine
    0.
    """
    check_single(*batch.context)
    influence = label_influence(learner, batch)[:, 0, 0, :, 0]
    step = (batch.x_query @ batch.xs.mT)[:, 0] / batch.xs.shape[1]
    product = (influence * step).sum()
    size = product / step.square().sum()
    if not influence.any():
        return 0.0, 0.0
    cosine = product / (influence.norm() * step.norm())
    return size.item(), cosine.item()
