"""What is claimed of trained weights, and of abilities while weights move."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.runtime import Scale
from icl_lessons.tasks.attribute_text import NAMES

PAPER, PAGE = "shen2024pretrained", "language_models/gradient_descent"
SPARSE, DRIFT = "section 3.2, figures 2 and 10", "figure 3 and appendix B"
OWN = "not in the paper; "


def shen_claim(name: str, says: str, *, where: str, kind: str = "experiment"):
    """Declare a claim about the assumptions that Shen et al. name."""
    return claim(f"shen2024-{name}", paper=PAPER, where=where, kind=kind, says=says, chapter=PAGE)


# --- trained weights ------------------------------------------------------------------------------


def _sparsity(scale: Scale):
    return result_of("weight_sparsity", scale)


@shen_claim(
    "weights-not-sparse",
    "Trained weights have far fewer small entries than the construction has zeros.",
    where=SPARSE,
)
def weights_not_sparse(scale: Scale) -> Evidence:
    result = _sparsity(scale)
    shares = result.ratio[result.trained, ..., 0]  # [seeds, layers, 3]
    worst = shares.max((1, 2))
    return Evidence(
        measured=worst.max().item(),
        bound=0.1,
        unit=f"share of entries below {result.thresholds[0]:g}, largest of all matrices and seeds",
        samples=passed(worst <= 0.1),
        note=f"In the construction of this width {result.construction[0]:.3f}. Below "
        f"{result.thresholds[1]:g}: {result.ratio[result.trained, ..., 1].max():.2f} at most. The "
        "paper's threshold and figures cannot be read from its text.",
    )


@shen_claim(
    "sparsity-says-little",
    "The share of small entries is the same before training, after it and in a Gaussian matrix.",
    where=OWN + "control of figure 2",
)
def sparsity_says_little(scale: Scale) -> Evidence:
    result = _sparsity(scale)
    trained = result.ratio[result.trained]
    gaps = [np.abs(trained - result.ratio[stage]).max((1, 2, 3)) for stage in (0, -1)]
    return Evidence(
        measured=np.max(gaps).item(),
        bound=0.02,
        unit="largest difference of a share, both thresholds, all matrices, layers and seeds",
        samples=passed(np.max(gaps, 0) <= 0.02),
        note="Means below "
        + ", ".join(
            f"{t:g}: trained {trained[..., i].mean():.4f}, at the start "
            f"{result.ratio[0, ..., i].mean():.4f}, Gaussian {result.ratio[-1, ..., i].mean():.4f}"
            for i, t in enumerate(result.thresholds)
        )
        + ". Whatever in-context learning rests on, these shares do not show it.",
    )


@shen_claim(
    "ranks-fall",
    "Training lowers the effective rank of every kind of matrix by a quarter or more.",
    where=OWN + "control of figure 2",
)
def ranks_fall(scale: Scale) -> Evidence:
    result = _sparsity(scale)
    left = (result.rank[result.trained] / result.rank[0]).mean(1)  # [seeds, kinds]
    first, last = result.ranks(0), result.ranks(result.trained)
    return Evidence(
        measured=left.max().item(),
        bound=0.75,
        unit="effective rank after training over that before, mean of layers, largest of "
        "kinds and seeds",
        samples=passed(left.max(1) <= 0.75),
        note="Queries, keys, values, W_K^T W_Q and W_O W_V of a head: from "
        + ", ".join(f"{v:.1f}" for v in first)
        + " to "
        + ", ".join(f"{v:.1f}" for v in last)
        + ".",
    )


# --- abilities while weights move -----------------------------------------------------------------


def _abilities(scale: Scale):
    return result_of("weights_and_ability", scale)


@shen_claim(
    "ability-stays",
    "Accuracy with right labels stays while the weights move by much.",
    where=DRIFT,
)
def ability_stays(scale: Scale) -> Evidence:
    result = _abilities(scale)
    late = result.steps.index(1000)
    canonical = result.canonical()[late:]
    gap = canonical.max(0) - canonical.min(0)
    moved = result.to_last()[late, :, 1]
    return Evidence(
        measured=gap.max().item(),
        bound=0.1,
        unit="largest less least mean accuracy of four attributes from step 1000 on, worst seed",
        samples=passed((gap <= 0.1) & (moved >= 0.2)),
        note=f"Meanwhile the weights of attention move by {words(moved)} of their size.",
    )


@shen_claim(
    "pairs-of-checkpoints",
    "Two checkpoints differ in their weights and not in what they do in context.",
    where="appendix B, figure 9",
)
def pairs_of_checkpoints(scale: Scale) -> Evidence:
    result = _abilities(scale)
    worst, told = [], []
    for name in NAMES:
        _, parameters, gap = result.pairs(result.of(name), 1000)
        worst.append(gap.max(0))
        told.append(f"{name} {words(gap.max(0))}")
    worst = np.max(worst, 0)
    return Evidence(
        measured=worst.max().item(),
        bound=0.1,
        partial_bound=0.2,
        unit="largest gap of accuracy between two checkpoints from step 1000 on, any attribute",
        samples=passed(worst <= 0.1),
        note=f"Right labels, by seed: {'; '.join(told)}. Mean changes of an entry up to "
        f"{parameters.max():.3f}.",
    )


@shen_claim(
    "contrary-does-not-stay",
    "Another ability does not stay: over the same checkpoints the model begins to follow contrary "
    "labels.",
    where=OWN + "control of figure 3",
)
def contrary_does_not_stay(scale: Scale) -> Evidence:
    result = _abilities(scale)
    late, contrary = result.steps.index(1000), result.of("stance contrary")
    gained = contrary[-1] - contrary[late]
    left = result.to_last()[result.steps.index(2000), :, 1]
    return Evidence(
        measured=gained.min().item(),
        bound=0.5,
        comparison="at least",
        unit="accuracy on contrary stance at the end less after 1000 steps, least of the seeds",
        samples=passed(gained >= 0.5),
        note=f"By seed at {', '.join(map(str, result.steps[late:]))} steps: "
        + "; ".join(words(row) for row in contrary[late:].T)
        + f". After 2000 steps the weights still lie {words(left)} of their size from the last.",
    )


@shen_claim(
    "recognition-before-mapping",
    "A model recognises which attribute is meant before it takes the mapping from the "
    "demonstrations.",
    where=OWN + "what emerges when",
)
def recognition_first(scale: Scale) -> Evidence:
    result = _abilities(scale)
    right, contrary = (result.first_step(task) for task in ("stance", "stance contrary"))
    gap = contrary - right
    return Evidence(
        measured=gap.min().item(),
        bound=500,
        comparison="at least",
        unit="steps from the first checkpoint at 0.8 with right labels to the first with contrary "
        "ones, stance, least of the seeds",
        samples=passed(gap >= 500),
        note="Right labels by "
        + ", ".join(f"{s:.0f}" for s in right)
        + ", contrary by "
        + ", ".join(f"{s:.0f}" for s in contrary)
        + " steps.",
    )


@shen_claim(
    "labels-begin-to-matter",
    "Random labels in the demonstrations hurt a trained model just where it has acquired the "
    "contrary mapping.",
    where=OWN + "what emerges when",
)
def labels_begin_to_matter(scale: Scale) -> Evidence:
    result = _abilities(scale)
    acquired, hurt, early = [], [], []
    for name in NAMES:
        cost = result.of(name) - result.of(f"{name} random labels")
        acquired.append(result.of(f"{name} contrary")[-1] >= 0.8)
        hurt.append(cost[-1] >= 0.2)
        early.append(cost[result.steps.index(1000)])
    same = np.array(acquired) == np.array(hurt)
    return Evidence(
        measured=same.mean().item(),
        bound=1.0,
        comparison="at least",
        unit="share of attributes and seeds where both or neither hold, at the last checkpoint",
        samples=passed(same),
        note=f"Acquired: contrary accuracy 0.8; hurt: random labels cost 0.2. Both hold for "
        f"{int(np.sum(np.array(acquired) & np.array(hurt)))} of {same.size}. After 1000 steps "
        f"random labels cost {np.max(early):.2f} at most.",
    )


@shen_claim(
    "no-coherence-no-icl",
    "A corpus whose documents do not keep to one attribute gives a model that knows the attributes "
    "and does not learn in context which is meant.",
    where=OWN + "control of emergence",
)
def no_coherence_no_icl(scale: Scale) -> Evidence:
    result = _abilities(scale)
    rows = [NAMES.index("topic"), NAMES.index("mood")]
    gain = (result.control[rows, :, 1:].max(-1) - result.control[rows, :, 0]).max(0)
    knows = result.control_among_labels[rows, :, 0].min(0)
    course = result.accuracy[result.steps.index(1000)][rows, :, 1:].min((0, 2))
    return Evidence(
        measured=gain.max().item(),
        bound=0.15,
        unit="accuracy with demonstrations, best of 1 to 8, less that without, topic and mood, "
        "worst seed",
        samples=passed((gain <= 0.15) & (knows >= 0.9)),
        note=f"Among the labels alone it is right {words(knows)} of the time without "
        "demonstrations. CourseLM after as many steps has an accuracy of "
        f"{words(course)} or more on both from one demonstration on.",
    )
