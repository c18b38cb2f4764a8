"""A reward that is learned from comparisons, and fine-tuning on it by policy gradient.

Two outputs for one prompt are sampled, a judge says which is better, a reward model is fitted to
many such verdicts, and the model is fine-tuned on what the reward model says. The judge is a rule
of the output alone: see :class:`Judge`. Verdicts are noisy as in the model of Bradley and Terry::

    P(first preferred) = sigmoid((score_1 - score_2) / temperature)

and the reward ``r_phi(o, o_before)`` is fitted by that model's likelihood. The policy is normal
around the model's output, ``a = o + std * noise``; its divergence from the policy before is
``(o - o_before)^2 / (2 std^2)``, exactly. Nothing here looks at the inner learner.
"""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from icl_lessons.mesa_optimization.output_fine_tuning import FineTuned, InnerThenReadout, Trains
from icl_lessons.runtime import check_integer, check_number

CLIP = 1.0  # norm of a step's gradient, as in the trainings by formula


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Prefers an allowed output; of two allowed ones that closer to the output before.

    Of two forbidden ones it prefers the one that is less so.

    Attributes:
        floor: outputs below it are forbidden.
        gap: by how much the worst allowed output that is sampled still beats a forbidden one; in
            units of outputs, and larger than the distances that are sampled.
        temperature: noise of the verdicts; 0 for none.
    """

    floor: float | int = -0.5
    gap: float | int = 4.0
    temperature: float | int = 0.5

    def __post_init__(self):
        check_number("gap", self.gap)
        check_number("temperature", self.temperature)

    def score(
        self, output: Float[Tensor, "*shape"], before: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """What the verdicts compare."""
        allowed = -(output - before).abs()
        return torch.where(output < self.floor, output - self.floor - self.gap, allowed)

    def probability(
        self, outputs: Float[Tensor, "pairs 2"], before: Float[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        """That the first of each pair is preferred."""
        first, second = self.score(outputs, before[:, None].expand_as(outputs)).unbind(-1)
        if self.temperature == 0:
            return (first > second).to(outputs)
        return torch.sigmoid((first - second) / self.temperature)


class Comparisons(NamedTuple):
    """Pairs of outputs for one prompt each, and the verdicts.

    Attributes:
        outputs: the two that were sampled.
        before: the output of the model that they were sampled around.
        first: whether the first was preferred.
    """

    outputs: Float[Tensor, "pairs 2"]
    before: Float[Tensor, " pairs"]
    first: Bool[Tensor, " pairs"]


def compared(
    before: Float[Tensor, " pairs"],
    judge: Judge,
    std: float | int,
    *,
    generator: torch.Generator,
) -> Comparisons:
    """Two outputs around each of ``before``, ``std`` times normal noise apart, and a verdict.

    Raises:
        ValueError: no prompt, or a ``std`` that is not above 0.
    """
    check_number("std", std, positive=True)
    if before.numel() == 0:
        raise ValueError("before: no output; give one for each prompt")
    noise = torch.randn(len(before), 2, generator=generator, dtype=before.dtype)
    outputs = before[:, None] + std * noise
    drawn = torch.rand(len(before), generator=generator, dtype=before.dtype)
    return Comparisons(outputs, before, drawn < judge.probability(outputs, before))


def preference_loss(
    first: Float[Tensor, " pairs"],
    second: Float[Tensor, " pairs"],
    preferred: Bool[Tensor, " pairs"],
) -> Float[Tensor, ""]:
    """Minus the mean log-likelihood of verdicts in the model of Bradley and Terry.

    Its derivative by a pair's difference of rewards is ``(sigmoid(difference) - verdict) / pairs``.

    Args:
        first: rewards of the first outputs; ``second``: of the second.
        preferred: whether the first was preferred.
    """
    return F.binary_cross_entropy_with_logits(first - second, preferred.to(first))


class RewardModel(nn.Module):
    """``r_phi(o, o_before)``, a network of two hidden layers.

    Args:
        hidden: units of each.
        generator: where its start comes from.
    """

    def __init__(self, hidden: int = 32, *, generator: torch.Generator):
        super().__init__()
        check_integer("hidden", hidden, at_least=1)
        sizes = (2, hidden, hidden, 1)
        self.layers = nn.ModuleList(
            nn.Linear(*pair) for pair in zip(sizes[:-1], sizes[1:], strict=True)
        )
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
                layer.bias.normal_(0, 0.5, generator=generator)

    def forward(
        self, output: Float[Tensor, "*shape"], before: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """The reward of each output."""
        hidden = torch.stack([output, before], -1)
        for layer in self.layers[:-1]:
            hidden = torch.tanh(layer(hidden))
        return self.layers[-1](hidden)[..., 0]

    def difference(self, pairs: Comparisons) -> Float[Tensor, " pairs"]:
        """Reward of the first of each pair less that of the second."""
        before = pairs.before[:, None].expand_as(pairs.outputs)
        first, second = self(pairs.outputs, before).unbind(-1)
        return first - second

    def agreement(self, pairs: Comparisons) -> float:
        """Share of pairs of which it prefers the one that was preferred."""
        with torch.no_grad():
            return ((self.difference(pairs) > 0) == pairs.first).double().mean().item()


def fitted_reward(
    pairs: Comparisons, *, steps: int, learning_rate: float, hidden: int, generator: torch.Generator
) -> RewardModel:
    """A reward model fitted to all pairs by :func:`preference_loss`, with Adam on the whole set."""
    check_integer("steps", steps, at_least=1)
    model = RewardModel(hidden, generator=generator).to(pairs.outputs.dtype)
    for _ in _descending(model, learning_rate, steps):
        difference = model.difference(pairs)
        preference_loss(difference, torch.zeros_like(difference), pairs.first).backward()
    return model.requires_grad_(False)


def policy_loss(
    output: Float[Tensor, " batch"],
    rewards: Float[Tensor, "samples batch"],
    noise: Float[Tensor, "samples batch"],
    std: float | int,
) -> Float[Tensor, ""]:
    """A number whose gradient estimates minus that of the expected reward (REINFORCE).

    The baseline of a sample is the mean reward of the other samples of its prompt, which leaves
    the estimate without bias: ``d log p(a | o) / d o = noise / std`` has mean 0.

    Args:
        output: mean of the policy, with a gradient.
        rewards: of the outputs ``output + std * noise``; no gradient goes through them.
        noise: standard normal.
        std: of the policy.

    Raises:
        ValueError: one sample a prompt, which leaves nothing for a baseline.
    """
    samples = len(rewards)
    if samples < 2:
        raise ValueError(f"rewards: {samples} sample a prompt; the baseline needs two or more")
    others = (rewards.sum(0) - rewards) / (samples - 1)
    return -((rewards - others).detach() * noise / std * output).mean()


def preference_tuned(
    model: InnerThenReadout,
    reward: RewardModel,
    task: Any,
    n_context: int,
    *,
    trains: Trains = "all",
    steps: int,
    learning_rate: float,
    batch_size: int,
    samples: int,
    std: float,
    divergence: float,
    generator: torch.Generator,
) -> InnerThenReadout:
    """The model after policy-gradient steps on a learned reward, less ``divergence`` times the
    Kullback-Leibler divergence from the policy before.

    Args:
        model: where it starts; it is not changed.
        reward: of sampled outputs.
        task: gives prompts; its targets are not looked at.
        n_context: examples in each prompt.
        trains: which weights move, as in
            :class:`~icl_lessons.mesa_optimization.output_fine_tuning.FineTuned`.
        steps, learning_rate, batch_size: of Adam, the rate falling linearly to 0.
        samples: outputs for each prompt.
        std: of the policy.
        divergence: weight of the penalty.
        generator: of prompts and noise.
    """
    check_integer("steps", steps, at_least=1)
    check_number("std", std, positive=True)
    check_number("divergence", divergence)
    tuned = FineTuned(copy.deepcopy(model), copy.deepcopy(model), trains)
    for _ in _descending(tuned, learning_rate, steps):
        prompts = task.sample(batch_size, n_context, generator=generator).context
        output, before = (m(*prompts).flatten() for m in (tuned.model, tuned.before))
        noise = torch.randn(samples, len(output), generator=generator)
        sampled = (output + std * noise).detach()
        rewards = reward(sampled, before.expand_as(sampled))
        away = (output - before).square().mean() / (2 * std**2)
        (policy_loss(output, rewards, noise, std) + divergence * away).backward()
    return tuned.model.requires_grad_(False)


def _descending(model: nn.Module, learning_rate: float | int, steps: int):
    """One turn for each step: the caller computes gradients, and Adam follows them."""
    check_number("learning_rate", learning_rate, positive=True)
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(moving, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for step in range(steps):
        optimizer.zero_grad()
        yield step
        nn.utils.clip_grad_norm_(moving, CLIP)
        optimizer.step()
        schedule.step()
