"""What is claimed of attacks on trained models, and whether it holds here."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.mesa_optimization.claims.poisoned_contexts import ANWAR, OWN
from icl_lessons.mesa_optimization.experiments.poisoned_contexts import PoisonedContextsResult
from icl_lessons.runtime import Scale

REPORT = ANWAR | {"where": "reported results, from a secondary source"}


def _result(scale: Scale) -> PoisonedContextsResult:
    return result_of("poisoned_contexts", scale)


def _of(scale: Scale, field: str, learner: str) -> np.ndarray:
    """One learner's part of a field of the experiment, first axis the seeds."""
    result = _result(scale)
    return getattr(result, field)[:, result.learners.index(learner)]


@claim(
    "anwar2024-one-example-drives-linear",
    kind="experiment",
    says="One example drives a trained single-layer linear transformer to an arbitrary output.",
    **REPORT,
)
def one_example_drives_linear(scale: Scale) -> Evidence:
    share = _of(scale, "hijacked", "linear layer")
    off = np.abs(share - 1)
    return Evidence(
        measured=off.max().item(),
        bound=0.1,
        unit="share of the way by which a pair made for one step misses, median, worst seed",
        samples=passed(off <= 0.1),
        note="One target, 25 standard deviations of a target away. The pair is computed for one "
        "step of descent; the trained layer's weights are not used.",
    )


@claim(
    "anwar2024-softmax-resists-transfer",
    kind="experiment",
    says="A softmax transformer hardly moves under the pair that hijacks one step of descent.",
    **REPORT,
)
def softmax_resists_transfer(scale: Scale) -> Evidence:
    share = np.abs(_of(scale, "hijacked", "transformer"))
    return Evidence(
        measured=share.max().item(),
        bound=0.1,
        unit="share of the way to the target, median, worst seed",
        samples=passed(share <= 0.1),
        note="Ridge moves by "
        f"{words(_of(scale, 'hijacked', 'ridge'))} of the way under the same pair.",
    )


@claim(
    "anwar2024-softmax-falls-to-gradients",
    kind="experiment",
    says="A gradient attack on one example moves the softmax transformer too.",
    **REPORT,
)
def softmax_falls_to_gradients(scale: Scale) -> Evidence:
    result = _result(scale)
    own = result.own_shift[1]
    ratio = (
        own[:, result.learners.index("transformer")] / own[:, result.learners.index("linear layer")]
    )
    return Evidence(
        measured=ratio.min().item(),
        bound=0.5,
        comparison="at least",
        unit="mean shift over that of the linear layer under its own attack, worst seed",
        samples=passed(ratio >= 0.5),
        note="One label within 3 and its input within 2, each attack made on the model itself.",
    )


@claim(
    "survey-final-norm-bounds-the-output",
    kind="experiment",
    says="What a gradient attack makes the transformer say stays below a bound of its read-out.",
    **OWN,
)
def final_norm_bounds(scale: Scale) -> Evidence:
    result = _result(scale)
    ratio = result.output_largest / result.output_bound
    return Evidence(
        measured=ratio.max().item(),
        bound=1.0,
        unit="largest prediction met over the bound, worst seed",
        samples=passed(ratio <= 1),
        note="That it stays below is a theorem: a layer norm before the read-out bounds every "
        f"output, at {words(result.output_bound)} for the seeds. What is measured is how near "
        "attacks come. None can reach an arbitrary output, which says nothing about learning "
        "in context.",
    )


@claim(
    "anwar2024-transfer-between-small-models",
    kind="experiment",
    says="Attacks carry over between small models of one kind trained from different seeds.",
    **REPORT,
)
def transfer_between_seeds(scale: Scale) -> Evidence:
    result = _result(scale)
    i = result.learners.index("transformer")
    shares = result.transfer[:, i, i]
    return Evidence(
        measured=shares.min().item(),
        bound=0.5,
        comparison="at least",
        unit="shift over that of the model that the attack was made on, mean, worst pair of seeds",
        samples=passed(shares >= 0.5),
        note="Gradient attacks on one label and its input, transformer to transformer.",
    )


@claim(
    "anwar2024-transfer-to-least-squares",
    kind="experiment",
    says="Attacks made on a trained model carry over poorly to least squares.",
    **REPORT,
)
def transfer_to_ridge(scale: Scale) -> Evidence:
    result = _result(scale)
    to = result.learners.index("ridge")
    own = [result.learners.index(name) for name in ("linear layer", "transformer")]
    shares, labels = result.transfer[:, own, to], result.transfer_labels[:, own, to]
    return Evidence(
        measured=shares.max().item(),
        bound=0.5,
        partial_bound=0.6,
        unit="shift over that of ridge's own worst attack, mean, worst seed and model",
        samples=passed(shares <= 0.5),
        note="Labels and inputs attacked, linear layer "
        f"{words(shares[:, 0])} and transformer {words(shares[:, 1])}. Labels alone: "
        f"{words(labels[:, 0])} and {words(labels[:, 1])}.",
    )


@claim(
    "survey-scaling-attack-linear-layer",
    kind="experiment",
    says="Under a pair of growing input the trained linear layer's output grows in proportion.",
    **OWN,
)
def scaling_on_linear_layer(scale: Scale) -> Evidence:
    result = _result(scale)
    said = _of(scale, "scaled", "linear layer")
    tenfold = list(result.scales).index(10), list(result.scales).index(100)
    exponent = np.log10(said[:, tenfold[1]] / said[:, tenfold[0]])
    return Evidence(
        measured=np.abs(exponent - 1).max().item(),
        bound=0.1,
        unit="error of the exponent between lengths 10 and 100, worst seed",
        samples=passed(np.abs(exponent - 1) <= 0.1),
        note="As one step's does, with nothing to stop it at greater lengths.",
    )


@claim(
    "survey-scaling-attack-transformer",
    kind="experiment",
    says="Under the same pair the transformer rises less than ridge, and returns as ridge does.",
    **OWN,
)
def scaling_on_transformer(scale: Scale) -> Evidence:
    said, ridge = (np.abs(_of(scale, "scaled", name)) for name in ("transformer", "ridge"))
    peak = said.max(1) / ridge.max(1)
    returns = said[:, -1] <= 0.5 * said.max(1)
    return Evidence(
        measured=peak.max().item(),
        bound=0.5,
        unit="its highest mean prediction over ridge's, worst seed",
        samples=passed((peak <= 0.5) & returns),
        note="A seed passes that also came back below half of its highest at length 100.",
    )


def _predicted_over_worst(scale: Scale, budget: float | int) -> np.ndarray:
    at = list(_result(scale).budgets).index(budget)
    predicted, worst = (_of(scale, name, "transformer")[:, at] for name in ("predicted", "worst"))
    return predicted / worst


@claim(
    "survey-influence-predicts-small-changes",
    kind="experiment",
    says="Label Jacobians predict the transformer's worst label within a small budget.",
    **OWN,
)
def influence_predicts_small(scale: Scale) -> Evidence:
    budgets = list(_result(scale).budgets)
    at = budgets.index(0.3)
    ratio = (
        _of(scale, "worst", "transformer")[:, at] / _of(scale, "predicted", "transformer")[:, at]
    )
    return Evidence(
        measured=np.abs(ratio - 1).max().item(),
        bound=0.2,
        unit="relative error of the predicted worst shift at 0.3 standard deviations, worst seed",
        samples=passed(np.abs(ratio - 1) <= 0.2),
    )


@claim(
    "survey-influence-predicts-large-changes",
    kind="experiment",
    says="Label Jacobians predict the transformer's worst label within a large budget.",
    **OWN,
)
def influence_predicts_large(scale: Scale) -> Evidence:
    budgets = list(_result(scale).budgets)
    at = budgets.index(10)
    ratio = (
        _of(scale, "predicted", "transformer")[:, at] / _of(scale, "worst", "transformer")[:, at]
    )
    return Evidence(
        measured=ratio.max().item(),
        bound=1.2,
        unit="predicted over measured worst shift at 10 standard deviations, worst seed",
        samples=passed(ratio <= 1.2),
        note="The transformer stops listening to a label that is far off; its slopes at the clean "
        "context do not know that. For learners linear in labels the ratio is 1.",
    )


@claim(
    "survey-parity-flip-linear-layer",
    kind="experiment",
    says="Influence predicts how many flipped labels turn the trained linear layer's answer.",
    **OWN,
)
def flips_of_linear_layer(scale: Scale) -> Evidence:
    agree = _of(scale, "flips_agree", "linear layer")
    return Evidence(
        measured=agree.min().item(),
        bound=0.9,
        comparison="at least",
        unit="share of contexts with the predicted number, worst seed",
        samples=passed(agree >= 0.9),
        note=f"On average {words(_of(scale, 'flips', 'linear layer'))} of 20 labels turn it; in a "
        f"random order {words(_of(scale, 'flips_random', 'linear layer'))}.",
    )


@claim(
    "survey-parity-flip-transformer",
    kind="experiment",
    says="Influence predicts how many flipped labels turn the transformer's answer.",
    **OWN,
)
def flips_of_transformer(scale: Scale) -> Evidence:
    agree = _of(scale, "flips_agree", "transformer")
    return Evidence(
        measured=agree.min().item(),
        bound=0.9,
        comparison="at least",
        unit="share of contexts with the predicted number, worst seed",
        samples=passed(agree >= 0.9),
        note=f"Predicted {words(_of(scale, 'flips_predicted', 'transformer'))} of 20, needed "
        f"{words(_of(scale, 'flips', 'transformer'))} in that order.",
    )
