"""What is claimed of the kinds of misalignment, each with a small model in which it is measured."""

import torch

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.estimators.descent import gradient_descent_path
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.experiments.pseudo_alignment import (
    ApproximateAlignmentResult,
    OuterAndInnerResult,
    SuboptimalityResult,
)
from icl_lessons.mesa_optimization.pseudo_alignment import (
    best_of_rank,
    descent_in_closed_form,
    metric_loss,
)
from icl_lessons.runtime import Scale, seeded
from icl_lessons.tasks.spurious_feature import SpuriousFeature

PAGE = "mesa_optimization/learned_optimizers"
HUBINGER = "hubinger2019risks"
ERROR = "E squared error (no half)"


def _outer_and_inner(scale: Scale) -> OuterAndInnerResult:
    return result_of("outer_and_inner", scale)


def _approximate(scale: Scale) -> ApproximateAlignmentResult:
    return result_of("approximate_alignment", scale)


def _suboptimality(scale: Scale) -> SuboptimalityResult:
    return result_of("suboptimality_alignment", scale)


@claim(
    "hubinger2019-outer-misalignment",
    paper=HUBINGER,
    where="section 1, outer alignment; the toy is the course's",
    kind="experiment",
    says="Where training pays for the cue, the base loss is low and the wanted loss high on the "
    "very law of training.",
    chapter=PAGE,
)
def outer_misalignment(scale: Scale) -> Evidence:
    result = _outer_and_inner(scale)
    gap = result.of("outer_gap", "outer misalignment")
    other = result.of("outer_gap", "inner misalignment")
    return Evidence(
        measured=gap.min().item(),
        bound=1.0,
        comparison="at least",
        unit=f"wanted less paid, {ERROR}, least of the seeds",
        samples=passed(gap >= 1),
        note=f"Paid {words(result.of('paid', 'outer misalignment'))}, wanted "
        f"{words(result.of('wanted', 'outer misalignment'))}; the learner of inner misalignment "
        f"has a gap of {words(other)} there.",
    )


@claim(
    "hubinger2019-inner-misalignment",
    paper=HUBINGER,
    where="section 1, inner alignment; the toy is the course's",
    kind="experiment",
    says="Where data cannot tell the target from the cue, the base loss itself rises once the two "
    "part.",
    chapter=PAGE,
)
def inner_misalignment(scale: Scale) -> Evidence:
    result = _outer_and_inner(scale)
    gap = result.of("inner_gap", "inner misalignment")
    other = result.of("inner_gap", "outer misalignment")
    return Evidence(
        measured=gap.min().item(),
        bound=0.5,
        comparison="at least",
        unit=f"base loss deployed less in training, {ERROR}, least of the seeds",
        samples=passed(gap >= 0.5),
        note=f"Of the learner of outer misalignment {words(other)}.",
    )


@claim(
    "hubinger2019-data-repair-inner-alone",
    paper=HUBINGER,
    where="section 1, outer and inner alignment; the toy is the course's",
    kind="experiment",
    says="Data that tell target and cue apart repair inner misalignment and leave outer "
    "misalignment as it was.",
    chapter=PAGE,
)
def data_repair_inner(scale: Scale) -> Evidence:
    result = _outer_and_inner(scale)
    ratio = {
        kind: result.of("wanted_deployed", f"{kind}, telling data")
        / result.of("wanted_deployed", f"{kind} misalignment")
        for kind in ("inner", "outer")
    }
    repaired = (ratio["inner"] <= 0.5) & (ratio["outer"] >= 0.9)
    return Evidence(
        measured=ratio["inner"].max().item(),
        bound=0.5,
        unit="wanted loss deployed, after over before, inner misalignment, worst seed",
        samples=passed(repaired),
        note=f"Inner {words(ratio['inner'])}; outer {words(ratio['outer'])}, held to 0.9 or more.",
    )


@claim(
    "hubinger2019-best-of-rank",
    paper=HUBINGER,
    where="section 3, approximate alignment; the closed form is the course's",
    kind="identity",
    says="The best metric of a rank is a cut singular value decomposition: its loss is the one "
    "computed from its entries, and no step within the rank changes it to first order.",
    chapter=PAGE,
)
def rank_closed_form(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(71)
    for _ in range(25):
        d, n = (int(torch.randint(2, k, (), generator=generator)) for k in (7, 20))
        rank = int(torch.randint(1, d + 1, (), generator=generator))
        root = torch.randn(d, d, generator=generator, dtype=torch.float64)
        covariance = root @ root.T / d + 0.3 * torch.eye(d, dtype=torch.float64)
        matrix, loss = best_of_rank(covariance, n, rank)
        u, values, v = torch.linalg.svd(matrix)
        left = (u[:, :rank] * values[:rank]).requires_grad_()
        right = v[:rank].clone().requires_grad_()
        from_entries = metric_loss(left @ right, covariance, n)
        slopes = torch.autograd.grad(from_entries, (left, right))
        worst = max(
            worst,
            abs(from_entries.item() - loss) / max(1.0, loss),
            *(slope.abs().max().item() for slope in slopes),
        )
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit="largest of relative error and slope, float64",
        note="25 random covariances, ranks and numbers of examples.",
    )


@claim(
    "hubinger2019-approximate-alignment",
    paper=HUBINGER,
    where="section 3, approximate alignment; the toy is the course's",
    kind="experiment",
    says="An inner metric of too low a rank reaches three quarters of the full one's gain in "
    "training, and less than half where the inputs that it cannot hold matter.",
    chapter=PAGE,
)
def approximate(scale: Scale) -> Evidence:
    result = _approximate(scale)
    row = int((result.gain.mean(1) >= 0.75).argmax())  # the lowest rank with three quarters
    gain = result.gain[row]
    deployed = 1 - result.deployed[row]
    reached = deployed / (1 - result.best_deployed.min())
    return Evidence(
        measured=reached.max().item(),
        bound=0.5,
        unit="share of the best gain that is reached where all inputs have one variance, worst "
        "seed",
        samples=passed(reached <= 0.5),
        note=f"Rank {result.ranks[row]} of {len(result.best) - 1}: in training it reaches "
        f"{words(gain)} of what the full rank gains over predicting 0.",
    )


@claim(
    "hubinger2019-rank-blindness",
    paper=HUBINGER,
    where="section 3, approximate alignment; the toy is the course's",
    kind="experiment",
    says="Trained metrics of low rank reach the least loss of their rank, by learning nothing at "
    "all of the inputs they leave out.",
    chapter=PAGE,
)
def rank_blindness(scale: Scale) -> Evidence:
    result = _approximate(scale)
    excess = abs(result.loss / result.best[result.ranks][:, None] - 1)
    left_out = [
        abs(errors[:, rank:] - 1).max()
        for rank, errors in zip(result.ranks, result.direction_error, strict=True)
        if rank < errors.shape[1]
    ]
    return Evidence(
        measured=float(max(left_out)),
        bound=0.01,
        unit="largest distance from 1 of the error of a weight that is left out",
        samples=passed((excess <= 0.01).all(0)),
        note=f"Losses are within {100 * excess.max():.2g} % of the least of their rank.",
    )


@claim(
    "hubinger2019-descent-by-spectrum",
    paper=HUBINGER,
    where="section 3, suboptimality alignment; the closed form is textbook",
    kind="identity",
    says="Descent learns each direction of the context at a rate of its own: K steps in closed "
    "form equal K steps.",
    chapter=PAGE,
)
def descent_by_spectrum(scale: Scale) -> Evidence:
    worst, generator = 0.0, seeded(72)
    for _ in range(25):
        d, n, steps = (int(torch.randint(1, k, (), generator=generator)) for k in (6, 12, 60))
        scale_of_cue = 0.05 + torch.rand((), generator=generator).item()
        task = SpuriousFeature(d=d, noise_std=0.5, cue_scale=scale_of_cue, cue_noise=0.0)
        batch = task.sample(5, n, generator=generator, dtype=torch.float64)
        largest = torch.linalg.eigvalsh(batch.xs.mT @ batch.xs / n).max().item()
        path = gradient_descent_path(batch.xs, batch.ys, 1 / largest, steps)[-1]
        worst = max(worst, relative_error(descent_in_closed_form(batch, 1 / largest, steps), path))
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR, note="25 random contexts.")


@claim(
    "hubinger2019-suboptimality-alignment",
    paper=HUBINGER,
    where="section 3, suboptimality alignment; the toy is the course's",
    kind="experiment",
    says="With the steps it was trained for, an inner learner does what is wanted; with more steps "
    "of the same descent it does worse than an answer of 0.",
    chapter=PAGE,
)
def suboptimality(scale: Scale) -> Evidence:
    result = _suboptimality(scale)
    trained, final = result.at("error", result.trained_steps), result.error[:, -1]
    return Evidence(
        measured=final.min().item(),
        bound=1.0,
        comparison="at least",
        unit=f"{ERROR} after {result.steps[-1]} steps, least of the seeds",
        samples=passed((final >= 1) & (trained <= 0.1)),
        note=f"After the {result.trained_steps} steps of training {words(trained)}; without the "
        f"cue it stays at {words(result.without_cue[:, -1])}.",
    )


@claim(
    "hubinger2019-better-inside-worse-outside",
    paper=HUBINGER,
    where="section 3, suboptimality alignment; the toy is the course's",
    kind="experiment",
    says="All the while the inner objective is met better and better: the error is not a failure "
    "of the optimiser.",
    chapter=PAGE,
)
def better_inside(scale: Scale) -> Evidence:
    result = _suboptimality(scale)
    late = result.steps >= result.trained_steps
    falls = (result.context_loss[:, late][:, 1:] < result.context_loss[:, late][:, :-1]).all(1)
    ratio = result.context_loss[:, -1] / result.at("context_loss", result.trained_steps)
    return Evidence(
        measured=ratio.max().item(),
        bound=0.1,
        unit="inner objective at the most steps over that at the steps of training, worst seed",
        samples=passed(falls & (ratio <= 0.1)),
        note=f"It falls at every number of steps measured from {result.trained_steps} on.",
    )
