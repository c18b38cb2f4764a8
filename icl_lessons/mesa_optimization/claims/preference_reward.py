"""What is claimed of a reward learned from comparisons, each claim with a check."""

import numpy as np
import torch

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.experiments.preference_reward import PreferenceRewardResult
from icl_lessons.mesa_optimization.preference_reward import policy_loss, preference_loss
from icl_lessons.runtime import Scale, seeded

PAGE = "mesa_optimization/surgery"
SURVEY, GAP = "anonymous2024regression", "the RLHF gap"
FREE = ("divergence 0.2", "divergence 0.05")


def _result(scale: Scale) -> PreferenceRewardResult:
    return result_of("preference_reward", scale)


def _free(result: PreferenceRewardResult, name: str) -> np.ndarray:
    """Both treatments in which all weights move, one after the other."""
    return np.concatenate([result.of(name, treatment) for treatment in FREE])


def expected_gradient(
    coefficients: torch.Tensor, output: torch.Tensor, std: float | int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean gradient of :func:`policy_loss` with two samples, and that of the mean reward.

    The reward is a polynomial in the output, so that Gauss-Hermite nodes give both exactly.

    Args:
        coefficients: of the polynomial, lowest first.
        output: mean of the policy.
        std: of the policy.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(len(coefficients) + 1)
    nodes, weights = torch.tensor(nodes), torch.tensor(weights / weights.sum())
    powers = torch.arange(len(coefficients))

    def reward(sampled: torch.Tensor) -> torch.Tensor:
        return (coefficients * sampled[..., None] ** powers).sum(-1)

    mean = output.clone().requires_grad_(True)
    (exact,) = torch.autograd.grad((weights * reward(mean + std * nodes)).sum(), mean)
    estimate = torch.zeros_like(mean)
    for i, first in enumerate(nodes):
        for j, second in enumerate(nodes):
            noise = torch.stack([first, second])[:, None]
            loss = policy_loss(mean, reward(output + std * noise), noise, std)
            estimate -= weights[i] * weights[j] * torch.autograd.grad(loss, mean)[0]
    return estimate, exact


@claim(
    "survey-preference-policy-gradient",
    paper=SURVEY,
    where=GAP,
    kind="identity",
    says="With the other samples' mean as baseline, the policy gradient is that of the expected "
    "reward, in expectation.",
    chapter=PAGE,
)
def unbiased(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(91)
    for _ in range(12):
        size = int(torch.randint(2, 7, (), generator=generator))
        coefficients = torch.randn(size, generator=generator, dtype=torch.float64)
        output = torch.randn(1, generator=generator, dtype=torch.float64)
        std = 0.1 + torch.rand((), generator=generator).item()
        worst = max(worst, relative_error(*expected_gradient(coefficients, output, std)))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="12 random polynomial rewards, expectations by Gauss-Hermite nodes.",
    )


@claim(
    "survey-preference-likelihood",
    paper=SURVEY,
    where=GAP,
    kind="identity",
    says="The likelihood of Bradley and Terry pulls each pair's difference of rewards by the "
    "probability it gives less the verdict, and by nothing else.",
    chapter=PAGE,
)
def likelihood(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(92)
    for _ in range(25):
        n = int(torch.randint(1, 40, (), generator=generator))
        first, second = torch.randn(2, n, generator=generator, dtype=torch.float64).mul(3)
        first.requires_grad_(True)
        verdict = torch.rand(n, generator=generator) < 0.5
        (pull,) = torch.autograd.grad(preference_loss(first, second, verdict), first)
        odds = first.detach().exp() / (first.detach().exp() + second.exp())
        worst = max(worst, relative_error(pull, (odds - verdict.double()) / n))
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR, note="25 random sets.")


@claim(
    "survey-preference-reward-model",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="A reward fitted to noisy verdicts agrees with the judge's rule on nine in ten held-out "
    "pairs.",
    chapter=PAGE,
)
def reward_model(scale: Scale) -> Evidence:
    result = _result(scale)
    share = result.agreement_rule
    return Evidence(
        measured=share.min().item(),
        bound=0.9,
        comparison="at least",
        unit="share of held-out pairs ordered as the rule orders them, least of the seeds",
        samples=passed(share >= 0.9),
        note=f"{words(share)}; with the noisy verdicts {words(result.agreement)}, where the rule "
        f"itself agrees with {words(result.best_agreement)} of them.",
    )


@claim(
    "survey-preference-outputs-reshaped",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="Fine-tuning on the learned reward makes forbidden outputs ten times rarer.",
    chapter=PAGE,
)
def outputs_reshaped(scale: Scale) -> Evidence:
    result = _result(scale)
    fall = result.forbidden_before / np.stack([result.of("forbidden", name) for name in FREE])
    return Evidence(
        measured=fall.min().item(),
        bound=10.0,
        comparison="at least",
        partial_bound=5.0,
        unit="share of forbidden outputs before over after, least of the seeds and of both weights "
        "of the divergence",
        samples=passed(fall.flatten() >= 10),
        note=f"{words(fall[0])} times at a divergence weighed with 0.2, {words(fall[1])} at 0.05.",
    )


@claim(
    "survey-preference-weights-stay",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="It leaves the weights of the inner learner within a tenth of what they were.",
    chapter=PAGE,
)
def weights_stay(scale: Scale) -> Evidence:
    result = _result(scale)
    cosine, change, _ = _free(result, "inside").T
    return Evidence(
        measured=change.max().item(),
        bound=0.1,
        partial_bound=0.25,
        unit="|M' - M| / |M|, worst of the seeds and of both weights of the divergence",
        samples=passed(change <= 0.1),
        note=f"{words(change)} at cosines of {cosine.min():.4f} or more.",
    )


@claim(
    "survey-preference-update-stays",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="On prompts whose outputs were allowed, the inner update that outputs show stays within "
    "a tenth.",
    chapter=PAGE,
)
def update_stays(scale: Scale) -> Evidence:
    result = _result(scale)
    change = _free(result, "outside")[:, 1]
    return Evidence(
        measured=change.max().item(),
        bound=0.1,
        partial_bound=0.25,
        unit="relative change of the metric that label influence implies, worst of the seeds and "
        "of both weights of the divergence",
        samples=passed(change <= 0.1),
        note=f"{words(change)}, where M itself changes by {words(_free(result, 'inside')[:, 1])}. "
        f"Left of the step is {words(_free(result, 'outside')[:, 2])} as outputs show it. For a "
        "reward by formula, which asks for nothing there, see survey-inner-update-stays.",
    )


@claim(
    "survey-preference-cannot-reach-inside",
    paper=SURVEY,
    where=GAP,
    kind="dispute",
    says="A reward learned from preferences for outputs cannot reach the inner learner.",
    chapter=PAGE,
)
def cannot_reach(scale: Scale) -> Evidence:
    change = _result(scale).of("inside", "readout frozen")[:, 1]
    return Evidence(
        measured=change.min().item(),
        bound=0.1,
        unit="|M' - M| / |M| when the readout cannot move, least of the seeds",
        samples=passed(change <= 0.1),
        note=f"{words(change)}.",
    )


@claim(
    "survey-preference-forbidden-returns",
    paper=SURVEY,
    where=GAP,
    kind="experiment",
    says="Labels four times as large bring forbidden outputs back here, too.",
    chapter=PAGE,
)
def forbidden_returns(scale: Scale) -> Evidence:
    result = _result(scale)
    share = _free(result, "scaled")
    return Evidence(
        measured=share.min().item(),
        bound=0.1,
        comparison="at least",
        unit="share of forbidden outputs at labels times four, least of the seeds and of both "
        "weights of the divergence",
        samples=passed(share >= 0.1),
        note=f"{words(share)}; at labels as they are {words(_free(result, 'forbidden'))}, and "
        f"before fine-tuning {words(result.scaled_before)} at labels times four.",
    )
