"""What the controls of the token-by-token path show, each claim with a check."""

import numpy as np

from icl_lessons.declare import Evidence, passed, result_of, words
from icl_lessons.implicit_dynamics.claims.token_by_token import LOSS, tokens_claim
from icl_lessons.runtime import Scale


def _controls(scale: Scale):
    return result_of("token_controls", scale)


@tokens_claim(
    "useless-labels",
    "Labels that have nothing to do with the inputs give steps that shrink alike and a loss that "
    "does not fall.",
    where="not in the paper; control of figures 2 and 3",
    own=True,
)
def useless_labels(scale: Scale) -> Evidence:
    result = _controls(scale)
    row = result.of("useless labels")
    left = result.loss[row][:, -1] / result.loss[row][:, 0]
    slope = result.slope(result.increments[row])
    return Evidence(
        measured=left.min().item(),
        bound=0.9,
        comparison="at least",
        unit=f"{LOSS} with all examples over that without any, least of the seeds",
        samples=passed((left >= 0.9) & (slope <= -0.8)),
        note=f"Trained blocks, independent normal labels. Slopes {words(slope)}.",
    )


@tokens_claim(
    "repeated-example",
    "One example repeated gives steps that shrink as 1/i^2, twice as steep.",
    where="not in the paper; control of figure 2",
    own=True,
)
def repeated_example(scale: Scale) -> Evidence:
    result = _controls(scale)
    slope = result.slope(result.increments[result.of("one example repeated")])
    once = result.slope(result.increments[result.of("trained")])
    return Evidence(
        measured=slope.max().item(),
        bound=-1.6,
        unit="slope of log increment on log token from the fifth on, worst seed",
        samples=passed(slope <= -1.6),
        note=f"By seed {words(slope)}, different examples {words(once)}; -2 in the limit. In "
        f"untrained blocks with {result.long_repeated.shape[1]} repetitions "
        f"{words(result.slope(result.long_repeated).mean())} on average.",
    )


@tokens_claim(
    "sum-does-not-slow",
    "Blocks of linear attention learn the task as well, and their steps do not shrink.",
    where="not in the paper; control of figure 2",
    own=True,
)
def sum_does_not_slow(scale: Scale) -> Evidence:
    result = _controls(scale)
    row = result.of("linear attention, trained")
    slope = result.slope(result.increments[row])
    left = result.loss[row][:, -1] / result.loss[row][:, 0]
    turns = result.slope(result.turns[row])
    return Evidence(
        measured=np.abs(slope).max().item(),
        bound=0.15,
        unit="absolute slope of log increment on log token, worst seed",
        samples=passed((np.abs(slope) <= 0.15) & (left <= 0.25)),
        note=f"Left of the loss after all examples: {words(left)}. Divided by its length so far, "
        f"the change of a sum turns ever less too, with slope {words(turns)}.",
    )


@tokens_claim(
    "long-untrained-steps",
    "In untrained blocks the steps shrink as 1/i on contexts of hundreds of tokens.",
    where="not in the paper; control of figure 2",
    own=True,
)
def long_untrained_steps(scale: Scale) -> Evidence:
    result = _controls(scale)
    slope = result.slope(result.long_increments)
    inside = (slope >= -1.15) & (slope <= -0.8)
    nets, n = result.long_increments.shape
    return Evidence(
        measured=np.abs(slope + 0.975).max().item(),
        bound=0.175,
        unit="distance of the slope from the middle of [-1.15, -0.8], worst block",
        samples=passed(inside),
        note=f"{nets} untrained blocks, {n} tokens: slopes from {slope.min():.2f} to "
        f"{slope.max():.2f}.",
    )


@tokens_claim(
    "full-batch",
    "Descent on all examples at once ends no lower than the context of the same examples.",
    where="not in the paper; baseline for figure 3",
    own=True,
)
def full_batch(scale: Scale) -> Evidence:
    result = _controls(scale)
    ratio = result.full_batch / result.full_batch_context
    return Evidence(
        measured=ratio[:, -1].min().item(),
        bound=1.0,
        comparison="at least",
        unit=f"{LOSS} of full-batch descent over the context's, all examples, least of the seeds",
        samples=passed(ratio[:, -1] >= 1.0),
        note="Means over seeds at "
        + ", ".join(f"{i}" for i in result.prefixes)
        + f" examples: {words(ratio.mean(0))}, each at its best step. Many steps on few examples "
        "that hold no noise find the task; the block reads each once.",
    )


@tokens_claim(
    "update-is-gradient",
    "The implicit update points where gradient descent on the examples would go.",
    where="section 3, as proposition 3.1 may be read",
)
def update_is_gradient(scale: Scale) -> Evidence:
    result = _controls(scale)

    def at_end(name: str) -> np.ndarray:
        return result.cosine[:, result.compared.index(name), :, -1]

    (trained, untrained), task = at_end("fine-tuned"), at_end("gradient of the task")
    return Evidence(
        measured=trained.min().item(),
        bound=0.8,
        partial_bound=0.5,
        comparison="at least",
        unit="cosine of the update with the fine-tuned change, all examples, least of the seeds",
        note=f"By seed {words(trained)}, before training {words(untrained)}; what the query sees "
        f"of both: {words(at_end('fine-tuned, at the query')[0])}. With the gradient of the "
        f"task's own loss {words(task[0])}, of the loss at the query "
        f"{words(at_end('gradient at the query')[0])}; with that gradient the fine-tuned change "
        f"has {words(at_end(result.compared[-1])[0])}.",
    )


@tokens_claim(
    "some-gradient",
    "Training turns the update a little towards the gradient: its cosine grows above that of an "
    "untrained block and of another task's update.",
    where="not in the paper; control of proposition 3.1",
    own=True,
)
def some_gradient(scale: Scale) -> Evidence:
    result = _controls(scale)
    trained, untrained = result.cosine[:, result.compared.index("gradient at the query"), :, -1]
    other = result.cosine[0, result.compared.index("another task"), :, -1]
    gap = trained - np.maximum(untrained, other)
    return Evidence(
        measured=gap.min().item(),
        bound=0.1,
        comparison="at least",
        unit="cosine with the gradient at the query, above the larger control, least of the seeds",
        samples=passed(gap >= 0.1),
        note=f"Trained {words(trained)}; before training {words(untrained)}; trained, the update "
        f"of another task for the same query {words(other)}.",
    )


@tokens_claim(
    "paths-in-a-plane",
    "A trained block's additive path stays near a line; the factorised one goes farther and uses "
    "many dimensions.",
    where="not in the paper; appendix B beside proposition 3.1",
    own=True,
)
def paths_in_a_plane(scale: Scale) -> Evidence:
    result = _controls(scale)
    first = result.shares[:, :, 0]
    return Evidence(
        measured=(first[0] - first[1]).min().item(),
        bound=0.0,
        comparison="at least",
        unit="share of the first principal direction, additive less factorised, least of the seeds",
        samples=passed((first[0] > first[1]) & (result.lengths > 1)),
        note=f"Shares {words(first[0])} and {words(first[1])}. Every additive change has rank 1 "
        f"but need not stay on a line; the factorised one has rank {result.ranks[1].max():.0f} "
        f"and is {words(result.lengths)} times as long.",
    )
