"""What is claimed of training on poisoned contexts, and whether it holds here."""

import numpy as np
import torch

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error, squared_error
from icl_lessons.mesa_optimization.adversarial_training import (
    ClippedStep,
    PoisonedRegression,
    best_poisoned_step,
    clipped_step_bound,
    poisoned_step_error,
)
from icl_lessons.mesa_optimization.experiments.adversarial_training import (
    AdversarialTrainingResult,
)
from icl_lessons.runtime import Scale, seeded

SURGERY = "mesa_optimization/surgery"
ANWAR = {"paper": "anwar2024adversarial", "chapter": SURGERY, "kind": "experiment"}
OWN = ANWAR | {"where": "the course's own analysis of the setting"}
REPORT = ANWAR | {"where": "reported results, from a secondary source"}
ERROR = "E (y_hat - y)^2, a target having variance 1"


@claim(
    "survey-clipped-step-bound",
    says="One label moves a clipped step by 2 delta gamma |x_a . x_q| / N at most, and can.",
    **OWN | {"kind": "identity"},
)
def clipped_bound(scale: Scale) -> Evidence:
    generator, worst = seeded(70), 0.0
    for _ in range(40):
        d, n = (int(torch.randint(1, k, (), generator=generator)) for k in (9, 30))
        how = {"generator": generator, "dtype": torch.float64}
        xs, ys, x_query = (torch.randn(3, *shape, **how) for shape in ((n, d), (n, 1), (1, d)))
        size, clip = (0.1 + torch.rand(2, **how)).tolist()
        learner = ClippedStep(size, clip)
        high, low = ys.clone(), ys.clone()
        high[:, -1], low[:, -1] = 1e6, -1e6
        moved = (learner(xs, high, x_query) - learner(xs, low, x_query))[:, 0, 0].abs()
        bound = clipped_step_bound(xs[:, -1], x_query, n, size, clip)
        worst = max(worst, relative_error(moved, bound))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="From minus a million to a million. N counts the examples that are in the prompt.",
    )


def _tuned(noise: float, test_noise: float, said: float) -> Evidence:
    """A step tuned on one law, on another: the closed form beside a draw, and the figure said."""
    size = best_poisoned_step(5, 20, noise)
    exact = poisoned_step_error(size, 5, 20, test_noise)
    law = PoisonedRegression(noise_std=test_noise, poisoned=1)
    batch = law.sample(40_000, 20, generator=seeded(71))
    drawn = squared_error(ClippedStep(size), batch)
    return Evidence(
        measured=exact,
        bound=1.05 * said,
        partial_bound=1.1 * said,
        unit=ERROR,
        samples=passed([abs(drawn / exact - 1) <= 0.1, abs(exact / said - 1) <= 0.05]),
        note=f"Exact; {drawn:.3f} in a draw of 40,000 contexts, which has to agree to 10%, as "
        f"{said} has to 5% on either side. Step size {size:.3f}.",
    )


@claim(
    "survey-clean-step-on-clean",
    says="The best single step leaves an error of about 0.234 on clean contexts, d = 5 and N = 20.",
    **OWN,
)
def clean_step_on_clean(scale: Scale) -> Evidence:
    return _tuned(0.0, 0.0, 0.234)


@claim(
    "survey-clean-step-on-poison",
    says="One label hit by noise of 20 makes that step worse than saying 0: about 3.28.",
    **OWN,
)
def clean_step_on_poison(scale: Scale) -> Evidence:
    return _tuned(0.0, 20.0, 3.28)


@claim(
    "survey-poison-step-on-poison",
    says="Tuned on poison, a single step does little better than saying 0: about 0.85.",
    **OWN,
)
def poison_step_on_poison(scale: Scale) -> Evidence:
    return _tuned(20.0, 20.0, 0.85)


@claim(
    "survey-poison-step-on-clean",
    says="It pays on clean contexts: about 0.73.",
    **OWN,
)
def poison_step_on_clean(scale: Scale) -> Evidence:
    return _tuned(20.0, 0.0, 0.73)


def _result(scale: Scale) -> AdversarialTrainingResult:
    return result_of("adversarial_training", scale)


@claim(
    "survey-clipped-step-on-poison",
    says="A step that clips its labels, tuned on poison, loses little: about 0.25 clean and 0.28 "
    "poisoned.",
    **OWN,
)
def clipped_on_poison(scale: Scale) -> Evidence:
    result = _result(scale)
    clean, poisoned = result.of(result.noise, "clipped step")[:, :2].T
    return Evidence(
        measured=poisoned.mean().item(),
        bound=0.279 * 1.1,
        unit=ERROR,
        samples=passed(poisoned <= 1.2 * clean),
        note=f"Clean {clean.mean():.3f}. Tuned to delta = {result.clip:g} and gamma = "
        f"{result.clipped_size:.2f}; a first search found 1 and 1.2, with 0.249 and 0.279. A "
        "seed passes whose poisoned error is within 20% of its clean one.",
    )


@claim(
    "survey-poison-training-shrinks-step",
    says="Training on poisoned labels shrinks the trained linear layer's inner step to 0.16.",
    **OWN,
)
def poison_shrinks_step(scale: Scale) -> Evidence:
    result = _result(scale)
    step = result.of(result.step, "linear layer, noise")
    before = result.of(result.step, "linear layer, clean")
    exact = best_poisoned_step(5, 20, 20.0)
    off = np.abs(step - exact)
    return Evidence(
        measured=step[off.argmax()].item(),
        bound=exact + 0.03,
        unit="step size implied by the labels' influences, the seed furthest from the exact one",
        samples=passed(off <= 0.03),
        note=f"Before: {words(before)}; the exact best steps are "
        f"{best_poisoned_step(5, 20):.3f} and {exact:.3f}. A seed passes within 0.03.",
    )


@claim(
    "survey-poison-training-keeps-direction",
    says="Its influences keep their direction: their cosine with one step's does not change.",
    **OWN,
)
def poison_keeps_direction(scale: Scale) -> Evidence:
    result = _result(scale)
    cosine = result.of(result.cosine, "linear layer, noise")
    return Evidence(
        measured=cosine.min().item(),
        bound=0.99,
        comparison="at least",
        unit="cosine of label influences with those of one step, worst seed",
        samples=passed(cosine >= 0.99),
        note="A cosine near 1 on both sides of a change by four fifths: report sizes beside it.",
    )


@claim(
    "survey-poison-training-shrinks-transformer-step",
    says="Training on poisoned labels shrinks the inner step of a softmax transformer as well.",
    **OWN,
)
def poison_shrinks_transformer_step(scale: Scale) -> Evidence:
    result = _result(scale)
    before, after = (
        result.of(result.step, f"transformer, {regime}") for regime in ("clean", "noise")
    )
    ratio = after / before
    return Evidence(
        measured=ratio.max().item(),
        bound=0.5,
        unit="step size implied by influences on clean contexts, after over before, worst seed",
        samples=passed(ratio <= 0.5),
        note="It need not: it learns which labels not to hear, and hears the others as before.",
    )


@claim(
    "survey-worst-case-training-ends-learning",
    says="Trained on the worst label within 20, a linear layer stops learning from its context.",
    **OWN,
)
def worst_case_ends_learning(scale: Scale) -> Evidence:
    result = _result(scale)
    step = np.abs(result.of(result.step, "linear layer, attack"))
    clean = result.of(result.noise, "linear layer, attack")[:, 0]
    return Evidence(
        measured=step.max().item(),
        bound=0.01,
        unit="step size implied by the labels' influences, worst seed",
        samples=passed(step <= 0.01),
        note=f"Error on clean contexts {words(clean)}: it says 0. Robust, and of no use.",
    )


@claim(
    "anwar2024-adversarial-training-helps",
    says="Adversarial training lowers the softmax transformer's error under the poison trained on.",
    **REPORT,
)
def training_helps(scale: Scale) -> Evidence:
    result = _result(scale)
    before, after = (
        result.of(result.noise, f"transformer, {regime}")[:, 1] for regime in ("clean", "noise")
    )
    ratio = after / before
    return Evidence(
        measured=ratio.max().item(),
        bound=0.7,
        partial_bound=0.95,
        unit="error with one label hit, after over before, worst seed",
        samples=passed(ratio <= 0.7),
        note=f"Before {words(before)}, after {words(after)}; one step has "
        f"{words(result.of(result.noise, 'step, clean')[:, 1])}.",
    )


@claim(
    "survey-poison-training-price",
    says="Adversarial training costs the transformer little on clean contexts.",
    **OWN,
)
def training_price(scale: Scale) -> Evidence:
    result = _result(scale)
    before, after = (
        result.of(result.noise, f"transformer, {regime}")[:, 0] for regime in ("clean", "attack")
    )
    ratio = after / before
    return Evidence(
        measured=ratio.max().item(),
        bound=1.25,
        partial_bound=1.5,
        unit="error on clean contexts, after training on attacks over before, worst seed",
        samples=passed(ratio <= 1.25),
        note="The further training also means more updates than the clean model had.",
    )


@claim(
    "anwar2024-holds-against-more-labels",
    says="Trained on one poisoned label, the transformer also does better when four are.",
    **REPORT,
)
def holds_against_more(scale: Scale) -> Evidence:
    result = _result(scale)
    at = result.hit.index(4)
    before, after = (
        result.of(result.noise, f"transformer, {regime}")[:, at] for regime in ("clean", "noise")
    )
    ratio = after / before
    return Evidence(
        measured=ratio.max().item(),
        bound=0.7,
        partial_bound=0.95,
        unit="error with four labels hit, after over before, worst seed",
        samples=passed(ratio <= 0.7),
    )


@claim(
    "anwar2024-holds-against-searched-labels",
    says="Trained on noise, it also does better against the worst label that a search finds.",
    **REPORT,
)
def holds_against_search(scale: Scale) -> Evidence:
    result = _result(scale)
    at = list(result.budgets).index(100)
    before, after, attack = (
        result.of(result.worst, f"transformer, {regime}")[:, at]
        for regime in ("clean", "noise", "attack")
    )
    ratio = after / before
    return Evidence(
        measured=ratio.max().item(),
        bound=0.8,
        partial_bound=0.95,
        unit="worst error over one label within 100, after over before, worst seed",
        samples=passed(ratio <= 0.8),
        note=f"Before {words(before)}, after {words(after)}, trained on attacks {words(attack)}: "
        "better, and far above the error on clean contexts.",
    )


@claim(
    "survey-poison-training-inputs",
    says="Trained on poisoned labels, it is safe from a gradient attack on a label and its input.",
    **OWN,
)
def holds_against_inputs(scale: Scale) -> Evidence:
    result = _result(scale)
    before, after = (
        result.of(result.gradient, f"transformer, {regime}") for regime in ("clean", "attack")
    )
    return Evidence(
        measured=after.max().item(),
        bound=0.5,
        unit=f"error after the attack, worst seed; {ERROR}",
        samples=passed(after <= 0.5),
        note=f"Label within 3, input within 2. Trained on clean contexts {words(before)}, on label "
        f"attacks {words(after)}; saying 0 costs 1.",
    )


@claim(
    "survey-poison-training-scaling",
    says="Trained on poisoned labels, a transformer also does better under an added pair of input "
    "length 3.",
    **OWN,
)
def holds_against_scaling(scale: Scale) -> Evidence:
    result = _result(scale)
    at = list(result.scales).index(3)
    before, after = (
        result.of(result.scaled, f"transformer, {regime}")[:, at] for regime in ("clean", "noise")
    )
    clipped = result.of(result.scaled, "clipped step")[:, -1]
    ratio = after / before
    return Evidence(
        measured=ratio.max().item(),
        bound=0.7,
        partial_bound=0.95,
        unit="error at input length 3 and label 10, after over before, worst seed",
        samples=passed(ratio <= 0.7),
        note=f"A clipped step is not protected: its bound grows with the input, and at length "
        f"{result.scales[-1]:g} its error is {words(clipped)}.",
    )
