"""What is claimed of linear layers trained on sequences, and of probes; each with a check."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.mesa_optimization.experiments.interpolated_weights import (
    InterpolatedWeightsResult,
)
from icl_lessons.mesa_optimization.experiments.sequence_depth import SequenceDepthResult
from icl_lessons.mesa_optimization.experiments.sequence_probes import SequenceProbesResult
from icl_lessons.runtime import Scale

PAPER, PAGE = "vonoswald2023uncovering", "mesa_optimization/sequence_models"
LINEAR = "section on linear self-attention models"
DEEP = "section on deeper models and probes"
SOFTMAX = "section on softmax models and the mesa layer"
PROBE_UNIT = "error after the last layer over that before the first, mean of seeds, worst position"


def _depth(scale: Scale) -> SequenceDepthResult:
    return result_of("sequence_depth", scale)


def _weights(scale: Scale) -> InterpolatedWeightsResult:
    return result_of("interpolated_weights", scale)


def _probes(scale: Scale) -> SequenceProbesResult:
    return result_of("sequence_probes", scale)


def percent(ratio: np.ndarray) -> np.ndarray:
    """How far ratios of losses stand above 1, to the digit that reproduces."""
    return np.round(100 * (ratio - 1), 1)


def _listed(values: np.ndarray) -> str:
    return ", ".join(str(int(value)) for value in values)


# --- linear attention on pairs ------------------------------------------------------------------


@claim(
    "vonoswald2023b-one-layer-loss",
    paper=PAPER,
    where=LINEAR,
    kind="experiment",
    says="One layer of linear attention, trained on sequences, reaches the loss of the best single "
    "step of gradient descent.",
    chapter=PAGE,
)
def one_layer_loss(scale: Scale) -> Evidence:
    result = _depth(scale)
    excess = percent(result.mean("1 layer") / result.mean("descent"))
    return Evidence(
        measured=excess.max().item(),
        bound=2.0,
        unit="% above the loss of one step, worst seed",
        samples=passed(excess <= 2.0),
        note="Part of that is the clamp on what a layer writes: above a step that is clamped too, "
        f"each seed is {words(percent(result.mean('1 layer') / result.mean('own')[0]))} %.",
    )


@claim(
    "vonoswald2023b-one-layer-outputs",
    paper=PAPER,
    where=LINEAR,
    kind="experiment",
    says="Its predictions point where that step's do.",
    chapter=PAGE,
)
def one_layer_outputs(scale: Scale) -> Evidence:
    cosine = _depth(scale).cosine
    return Evidence(
        measured=cosine.min().item(),
        bound=0.95,
        comparison="at least",
        unit="mean cosine between the predictions, worst seed",
        samples=passed(cosine >= 0.95),
        note="The paper calls its fit near-exact and prints no cosine. A cosine does not see "
        "lengths; the losses are compared in the claim before.",
    )


@claim(
    "vonoswald2023b-depth",
    paper=PAPER,
    where=DEEP,
    kind="experiment",
    says="With depth, linear attention comes closer to least squares.",
    chapter=PAGE,
)
def depth(scale: Scale) -> Evidence:
    result = _depth(scale)
    names = [name for name in result.names if "layer" in name and name != "mesa layer"]
    losses = np.stack([result.mean(name) for name in names])
    gap = result.mean("descent") - result.mean("least_squares")
    way = (result.mean("descent") - losses[-1]) / gap
    falls = (np.diff(losses, axis=0) < 0).all(0)
    return Evidence(
        measured=way.min().item(),
        bound=0.5,
        comparison="at least",
        unit="share of the way from one step to least squares, deepest model, worst seed",
        samples=passed(falls & (way >= 0.5)),
        note="Losses by depth: " + words(losses.mean(1)) + ". A seed passes if it falls each time.",
    )


@claim(
    "vonoswald2023b-layers-are-solver-steps",
    paper=PAPER,
    where=DEEP,
    kind="experiment",
    says="A model of k layers performs like a solver of Proposition 2 of k layers, tuned for "
    "performance.",
    chapter=PAGE,
)
def layers_are_solver_steps(scale: Scale) -> Evidence:
    result = _depth(scale)
    depths = [int(name.split()[0]) for name in result.names if name[0].isdigit()]
    depths = [k for k in depths if k - 1 in result.solver_steps]
    solvers = dict(zip(result.solver_steps, result.mean("own"), strict=True))
    ratios = [
        (result.mean(f"{k} layer{'s' * (k > 1)}") / solvers[k - 1]).mean().item() for k in depths
    ]
    excess = percent(np.array(ratios))
    return Evidence(
        measured=excess[np.abs(excess).argmax()].item(),
        bound=10.0,
        comparison="within",
        unit="% above the tuned solver's loss, the depth where they differ most",
        samples=passed(np.abs(excess) <= 10.0),
        note=f"Depths {', '.join(map(str, depths))}: {words(excess)} %. Deep trained models are "
        "better than Richardson steps with sizes of their own: they also use other blocks.",
    )


@claim(
    "vonoswald2023b-mesa-layer-trains",
    paper=PAPER,
    where="section on the mesa layer",
    kind="experiment",
    says="A mesa layer trained on sequences reaches the loss of least squares on every prefix.",
    chapter=PAGE,
)
def mesa_layer_trains(scale: Scale) -> Evidence:
    result = _depth(scale)
    excess = percent(result.mean("mesa layer") / result.mean("least_squares"))
    return Evidence(
        measured=excess.max().item(),
        bound=5.0,
        unit="% above the loss of least squares, worst seed",
        samples=passed(excess <= 5.0),
        note="Averaged over prefixes. On pairs (0, s_t, s_{t-1}); matrices and lambda are learnt.",
    )


@claim(
    "vonoswald2023b-dominant-blocks",
    paper=PAPER,
    where=f"{LINEAR}, figure of the weights",
    kind="experiment",
    says="The trained weights show the blocks of Proposition 1.",
    chapter=PAGE,
)
def dominant_blocks(scale: Scale) -> Evidence:
    result = _weights(scale)
    shares = np.stack([result.key_query_shares[:, -1, 1], result.value_shares[:, 1]])
    return Evidence(
        measured=shares.min().item(),
        bound=0.9,
        comparison="at least",
        partial_bound=0.75,
        unit="share of a product's squared entries that lies in its block, worst",
        note=f"Keys and queries {words(shares[0])}, values {words(shares[1])}.",
    )


@claim(
    "vonoswald2023b-scaled-identities",
    paper=PAPER,
    where=f"{LINEAR}, figure of the weights",
    kind="experiment",
    says="Those blocks are multiples of the identity.",
    chapter=PAGE,
)
def scaled_identities(scale: Scale) -> Evidence:
    result = _weights(scale)
    rest = result.off_identity.max(1)
    return Evidence(
        measured=rest.max().item(),
        bound=0.01,
        unit="share of a block's squared entries off its multiple of the identity, worst",
        samples=passed(rest <= 0.01),
        note="Step sizes read from the weights: "
        + ", ".join(f"{step:.4f}" for step in result.fitted_step)
        + f"; the best single step is {result.step_size:.4f}.",
    )


@claim(
    "vonoswald2023b-interpolated-weights",
    paper=PAPER,
    where=f"{LINEAR}, interpolation",
    kind="experiment",
    says="Halfway between trained and constructed weights the loss is no higher than at the worse "
    "of the two ends.",
    chapter=PAGE,
)
def interpolated(scale: Scale) -> Evidence:
    result = _weights(scale)
    halfway = result.between[:, len(result.shares) // 2]
    excess = percent(halfway / result.between[:, [0, -1]].max(1))
    return Evidence(
        measured=excess.max().item(),
        bound=0.0,
        unit="% above the higher end, worst seed",
        samples=passed(excess <= 0.0),
        note="Both brought to one scale of keys and queries.",
    )


@claim(
    "vonoswald2023b-compressed-weights",
    paper=PAPER,
    where=f"{DEEP}, compressed weights",
    kind="experiment",
    says="One number for each block keeps the loss of the trained weights.",
    chapter=PAGE,
)
def compressed(scale: Scale) -> Evidence:
    result = _weights(scale)
    excess = percent(result.compressed / result.trained)
    many, few = result.numbers
    return Evidence(
        measured=excess.max().item(),
        bound=2.0,
        unit="% above the trained loss, worst seed",
        samples=passed(excess <= 2.0),
        note=f"{few} numbers in place of {many}. The paper's six-layer model goes from 3200 to 16 "
        "numbers for each head; with the two blocks of Proposition 1 alone ours is "
        f"{words(percent(result.two_blocks / result.trained))} % worse.",
    )


# --- probes -------------------------------------------------------------------------------------


@claim(
    "vonoswald2023b-target-probe",
    paper=PAPER,
    where=f"{DEEP}, target probes",
    kind="experiment",
    says="The next state can be read better after the last layer than before the first.",
    chapter=PAGE,
)
def target_probe(scale: Scale) -> Evidence:
    result = _probes(scale)
    ratio = (result.target[:, -1] / result.target[:, 0]).mean(0)
    return Evidence(
        measured=ratio.max().item(),
        bound=0.5,
        unit=PROBE_UNIT,
        samples=passed(ratio <= 0.5),
        note=f"After {_listed(result.positions)} states: {words(ratio)}. By layer after the most: "
        f"{words(result.target[..., -1].mean(0))}.",
    )


@claim(
    "vonoswald2023b-preconditioning-probe",
    paper=PAPER,
    where=f"{DEEP}, preconditioning probes",
    kind="experiment",
    says="The preconditioned input can be read better after the last layer than before the first.",
    chapter=PAGE,
)
def preconditioning_probe(scale: Scale) -> Evidence:
    result = _probes(scale)
    ratio = (result.preconditioned[:, -1] / result.preconditioned[:, 0]).mean(0)
    return Evidence(
        measured=ratio.max().item(),
        bound=0.9,
        unit=PROBE_UNIT,
        samples=passed(ratio <= 0.9),
        note=f"After {_listed(result.positions)} states: {words(ratio)}. By layer after the most: "
        f"{words(result.preconditioned[..., -1].mean(0))}. What a layer no longer needs need not "
        "stay readable.",
    )


@claim(
    "vonoswald2023b-first-layer-binds",
    paper=PAPER,
    where=SOFTMAX,
    kind="experiment",
    says="After the first softmax layer of two, each position holds the state before it.",
    chapter=PAGE,
)
def first_layer_binds(scale: Scale) -> Evidence:
    result = _probes(scale)
    errors = result.previous[result.names.index("softmax, softmax")][:, 1]
    return Evidence(
        measured=errors.max().item(),
        bound=0.1,
        unit="normalised error of a probe of the state before, worst seed",
        samples=passed(errors <= 0.1),
        note=f"Before training {result.untrained_previous[1]:.2f}.",
    )


@claim(
    "vonoswald2023b-binding-everywhere",
    paper=PAPER,
    where=SOFTMAX,
    kind="experiment",
    says="Every trained model binds each state to the one before in its first layer.",
    chapter=PAGE,
)
def binding_everywhere(scale: Scale) -> Evidence:
    result = _probes(scale)
    errors = result.previous[:, :, 1].max(1)
    named = "; ".join(f"{n} {e:.2f}" for n, e in zip(result.names, errors, strict=True))
    return Evidence(
        measured=errors.max().item(),
        bound=0.1,
        unit="normalised error of a probe of the state before, worst model and seed",
        samples=passed(errors <= 0.1),
        note=f"By model, worst seed: {named}. What is bound depends on what stands above.",
    )


@claim(
    "vonoswald2023b-first-layer-attention",
    paper=PAPER,
    where=f"{SOFTMAX}, attention of the first layer",
    kind="experiment",
    says="A head of the first layer looks at the state before, whatever the data.",
    chapter=PAGE,
)
def first_layer_attention(scale: Scale) -> Evidence:
    result = _probes(scale)
    model = result.names.index("softmax, softmax")
    looks = result.looks[model, :, :, 1]
    head = looks.argmax(1)
    share = looks.max(1)
    varies = result.looks_vary[model][np.arange(len(head)), head]
    return Evidence(
        measured=share.min().item(),
        bound=0.9,
        comparison="at least",
        unit="share of that head's attention on the state before, two softmax layers, worst seed",
        samples=passed((share >= 0.9) & (varies <= 0.1)),
        note=f"From sequence to sequence it varies by {words(varies)} (standard deviation); a seed "
        "passes if that is at most 0.1 as well.",
    )
