"""Fine-tuning on outputs, and what it does to the optimiser inside.

A model of two parts: an inner learner, one linear attention layer whose answer is
``u = beta M x_q`` with ``beta = 1/N sum_i y_i x_i^T``, and a readout ``o = u + mlp(u)``. It is
trained to regress, and then fine-tuned, all its weights, on a reward that looks at ``o`` alone::

    reward = -punish * max(0, floor - o)^2 - 1/2 (o - o_before)^2 wherever o_before >= floor

which forbids outputs below ``floor`` and pays for staying close elsewhere. The question is how far
``M`` moves; :class:`InnerChange` is the answer, and it holds three numbers because each alone
misleads: a cosine does not see a change of length, and a length does not see a turn.

The reward is differentiable and the output has no randomness, so its gradient is followed directly.
Outputs that are sampled, a judge who compares them, and a reward learned from verdicts are in
:mod:`~icl_lessons.mesa_optimization.preference_reward`.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from icl_lessons.measures.label_influence import implied_preconditioner
from icl_lessons.mesa_optimization.adversarial_training import best_poisoned_step
from icl_lessons.mesa_optimization.goal_misgeneralization import MergedLinearAttention
from icl_lessons.runtime import check_choice, check_integer, check_number
from icl_lessons.tasks.regression import LinearRegression
from icl_lessons.types import Batch

Trains = Literal["all", "inner", "readout"]
TRAINS = ("all", "inner", "readout")


class InnerThenReadout(nn.Module):
    """``o = u + mlp(u)`` on top of ``u = beta M x_q``: a learner with an inner learner.

    Args:
        d: coordinates of an input.
        hidden: units of the readout's one hidden layer.
        generator: where its start comes from.
    """

    def __init__(self, d: int, hidden: int = 16, *, generator: torch.Generator):
        super().__init__()
        check_integer("d", d, at_least=1)
        check_integer("hidden", hidden, at_least=1)
        self.matrix = nn.Parameter(0.1 * torch.randn(d, d, generator=generator))
        self.read, self.write = nn.Linear(1, hidden), nn.Linear(hidden, 1)
        with torch.no_grad():
            self.read.weight.normal_(generator=generator)
            self.read.bias.normal_(generator=generator)
            self.write.weight.normal_(0, 0.1 * hidden**-0.5, generator=generator)
            self.write.bias.zero_()

    def inner(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context 1"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query 1"]:
        """The answer ``u`` of the inner learner."""
        return MergedLinearAttention(self.matrix)(xs, ys, x_query)

    def forward(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context 1"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query 1"]:
        """The output ``o``."""
        inner = self.inner(xs, ys, x_query)
        return inner + self.write(torch.tanh(self.read(inner)))


@dataclass(frozen=True, kw_only=True)
class Reward:
    """What outputs are paid: see the module.

    Attributes:
        floor: outputs below it are punished.
        punish: weight of the punishment.
        margin: an output counts as forbidden in :meth:`forbidden` when it is below
            ``floor - margin``.
    """

    floor: float | int = -0.5
    punish: float | int = 1.0
    margin: float | int = 0.05

    def __post_init__(self):
        check_number("punish", self.punish)
        check_number("margin", self.margin)

    def __call__(self, output: Tensor, before: Tensor) -> Float[Tensor, ""]:
        """The mean reward of outputs, given those of the model before fine-tuning."""
        below = F.relu(self.floor - output).square()
        away = 0.5 * (output - before).square() * (before >= self.floor)
        return -(self.punish * below + away).mean()

    def forbidden(self, output: Tensor) -> float:
        """Share of outputs that are forbidden."""
        return (output < self.floor - self.margin).double().mean().item()


class FineTuned(nn.Module):
    """A learner that is being fine-tuned, beside a frozen copy of what it was.

    Args:
        model: the learner, whose weights move.
        before: the same learner, which stays as it is.
        trains: ``"all"`` weights, or with an :class:`InnerThenReadout` those of the ``"inner"``
            learner or of the ``"readout"`` alone.
    """

    def __init__(self, model: nn.Module, before: nn.Module, trains: Trains = "all"):
        super().__init__()
        check_choice("trains", trains, TRAINS)
        self.model, self.before = model, before
        for name, parameter in model.named_parameters():
            part = "inner" if name == "matrix" else "readout"
            parameter.requires_grad_(trains in ("all", part))
        before.requires_grad_(False)

    def forward(self, xs: Tensor, ys: Tensor, x_query: Tensor) -> Tensor:
        return self.model(xs, ys, x_query)


def lost_reward(tuned: FineTuned, batch: Batch, reward: Reward) -> Float[Tensor, ""]:
    """What fine-tuning minimises: minus the reward. Targets of the batch are not looked at."""
    return -reward(tuned(*batch.context), tuned.before(*batch.context))


@dataclass(frozen=True)
class PoisonedLabels:
    """A regression task in which one label of each context is hit by normal noise.

    Attributes:
        task: the clean task; queries stay clean.
        std: of the noise on the one label.
    """

    task: LinearRegression
    std: float | int = 20.0

    def __post_init__(self):
        check_number("std", self.std)

    def sample(self, batch_size: int, n_context: int, *, generator, **how: Any) -> Batch:
        """As the task's own ``sample``; the noise hits the first label, and order is nothing."""
        batch = self.task.sample(batch_size, n_context, generator=generator, **how)
        shape = (batch_size, batch.ys.shape[2])
        noise = torch.randn(shape, generator=generator, dtype=batch.ys.dtype)
        ys = batch.ys.clone()
        ys[:, 0] += self.std * noise.to(ys)
        return Batch(batch.xs, ys, batch.x_query, batch.y_query, batch.weights)


def best_scale(d: int, n_context: int, poison_std: float | int = 0.0) -> float:
    """``c`` of the best inner learner ``M = c I`` on normal inputs and tasks of ``E |w|^2 = 1``.

    .. math:: c = \\frac{1}{1 + (d + 1) / N + d\\, \\tau^2 / N^2}

    with ``tau`` the noise that hits one label of each context. Exact over all prompts: the best
    single step of :func:`~icl_lessons.mesa_optimization.adversarial_training.best_poisoned_step`.
    """
    check_number("poison_std", poison_std)
    return best_poisoned_step(d, n_context, poison_std)


class InnerChange(NamedTuple):
    """How far an inner metric moved.

    Attributes:
        cosine: between the matrices, as vectors.
        relative: ``|M' - M| / |M|``, Frobenius norms.
        scale: ``<M', M> / |M|^2``: the step that is left of the old one.
    """

    cosine: float
    relative: float
    scale: float


def inner_change(
    before: Float[Tensor, "rows columns"], after: Float[Tensor, "rows columns"]
) -> InnerChange:
    """The three numbers of :class:`InnerChange`, of two matrices of one shape.

    Raises:
        ValueError: a ``before`` of zeros, against which nothing can be measured.
    """
    if before.shape != after.shape:
        raise ValueError(f"after: got shape {tuple(after.shape)}; before has {tuple(before.shape)}")
    size, now = before.norm(), after.norm()
    if size == 0:
        raise ValueError("before: a matrix of zeros; there is no inner step to compare with")
    inner = (before * after).sum()
    return InnerChange(
        (inner / (size * now)).item() if now > 0 else 0.0,
        ((after - before).norm() / size).item(),
        (inner / size**2).item(),
    )


def inner_learner(model: InnerThenReadout) -> MergedLinearAttention:
    """The inner learner by itself, its weights detached."""
    return MergedLinearAttention(model.matrix.detach())


def spared(model: nn.Module, batch: Batch, above: float | int = 0.2) -> Batch:
    """The contexts whose output lies above a number: the reward there asks for no change.

    Args:
        model: before fine-tuning.
        batch: of one query for each context.
        above: well above the floor of the reward.

    Raises:
        ValueError: several queries, or no context above.
    """
    if batch.x_query.shape[1] != 1:
        raise ValueError(f"batch: {batch.x_query.shape[1]} queries in each context; use one")
    with torch.no_grad():
        keep = model(*batch.context)[:, 0, 0] > above
    if not keep.any():
        raise ValueError(f"above: no output lies above {above}")
    return Batch(*(tensor[keep] for tensor in (*batch.context, batch.y_query)))


def outside_change(before: nn.Module, after: nn.Module, batch: Batch) -> InnerChange:
    """The same three numbers without looking inside: of the metrics that label influence implies.

    An inner step can shrink while the readout grows, and then nothing has changed that an output
    could show; this measure does not see such a trade, :func:`inner_change` of the weights does.
    """
    metrics = (implied_preconditioner(model, batch).preconditioner for model in (before, after))
    return inner_change(*metrics)
