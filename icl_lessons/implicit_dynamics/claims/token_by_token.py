"""What is claimed of a trained block's path, token by token, each claim with a check."""

import numpy as np

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.runtime import Scale

PAGE = "implicit_dynamics/token_by_token"
PAPER = "dherin2025learning"
LOSS = "1/2 E (y_hat - y)^2"


def _claim(name: str, says: str, *, where: str, own: bool = False):
    """``own`` for what the paper does not say."""
    return claim(
        f"{'survey-tokens' if own else 'dherin2025'}-{name}",
        paper=PAPER,
        where=where,
        kind="experiment",
        says=says,
        chapter=PAGE,
    )


def _tokens(scale: Scale):
    return result_of("token_by_token", scale)


def _controls(scale: Scale):
    return result_of("token_controls", scale)


@_claim(
    "loss-falls",
    "The block with the implicit update of the first i examples predicts better as i grows.",
    where="section 4, figure 3",
)
def loss_falls(scale: Scale) -> Evidence:
    loss = _tokens(scale).loss
    share = loss[:, -1] / loss[:, 0]
    return Evidence(
        measured=share.max().item(),
        bound=0.25,
        unit=f"{LOSS} with all examples over that without any, worst seed",
        samples=passed(share <= 0.25),
        note=f"After 0, 5, 10 and {loss.shape[1] - 1} examples, first seed: "
        f"{words(loss[0, [0, 5, 10, -1]])}. The paper's figures print no digits.",
    )


@_claim(
    "trained-equality",
    "In a trained block, after any number of examples, the update and the context predict alike.",
    where="section 4, figure 1",
)
def trained_equality(scale: Scale) -> Evidence:
    residual = _tokens(scale).residual
    return Evidence(
        measured=residual.max().item(),
        bound=1e-10,
        unit="largest difference of squared errors, float64, all tasks, prefixes and seeds",
        samples=passed(residual <= 1e-10),
        note="The paper shows two loss curves that coincide.",
    )


@_claim(
    "increments-vanish",
    "The steps of the weights shrink towards zero as the context grows.",
    where="section 4, figure 2",
)
def increments_vanish(scale: Scale) -> Evidence:
    result = _tokens(scale)
    slope = result.slope(result.increments)
    flat = result.increments[:, 4:] * np.arange(5, result.increments.shape[1] + 1)
    spread = flat.std(1) / flat.mean(1)
    return Evidence(
        measured=slope.max().item(),
        bound=-0.8,
        unit="slope of log increment on log token from the fifth on, worst seed",
        samples=passed(slope <= -0.8),
        note=f"The token times its increment is flat: {words(flat.mean(1))} by seed, with a "
        f"relative deviation of {words(spread)}.",
    )


@_claim(
    "vanishing-is-convergence",
    "Vanishing steps show that the block learns from its context and converges.",
    where="section 4, as figure 2 is read",
)
def vanishing_is_convergence(scale: Scale) -> Evidence:
    result, controls = _tokens(scale), _controls(scale)
    slopes = [result.slope(steps) for steps in (result.increments, result.untrained_increments)]
    useless = controls.slope(controls.increments[controls.of("useless labels")])
    return Evidence(
        measured=np.abs(slopes[0] - slopes[1]).min().item(),
        bound=0.2,
        comparison="at least",
        unit="difference of slopes, trained from untrained, least of the seeds",
        samples=passed(np.abs(slopes[0] - slopes[1]) >= 0.2),
        note=f"Slopes by seed: trained {words(slopes[0])}; before training {words(slopes[1])}; "
        f"trained, on labels that have nothing to do with the inputs, {words(useless)}. If the "
        "shrinking showed learning, the slopes would differ.",
    )


@_claim(
    "early-ascent",
    "One example makes the trained block worse than none.",
    where="not in the paper; its experiment at one example",
    own=True,
)
def early_ascent(scale: Scale) -> Evidence:
    first = _tokens(scale).first_losses
    ratio = first[:, 1] / first[:, 0]
    return Evidence(
        measured=ratio.min().item(),
        bound=1.0,
        comparison="at least",
        unit=f"{LOSS} with one example over that with none, least of the seeds",
        samples=passed(ratio > 1.0),
        note=f"By seed {words(ratio)}: as good as none; with two examples "
        f"{words(first[:, 2] / first[:, 0])}.",
    )


@_claim(
    "direction-not-decay",
    "What training changes is where the steps lead, the loss, and not how they shrink.",
    where="not in the paper; control of figures 2 and 3",
    own=True,
)
def direction_not_decay(scale: Scale) -> Evidence:
    result = _tokens(scale)
    untrained = result.untrained_loss[:, -1] / result.untrained_loss[:, 0]
    trained = result.loss[:, -1] / result.loss[:, 0]
    slopes = [result.slope(steps) for steps in (result.increments, result.untrained_increments)]
    return Evidence(
        measured=(untrained / trained).min().item(),
        bound=3.0,
        comparison="at least",
        unit="share of the loss that is left, before training over trained, least of the seeds",
        samples=passed((untrained >= 3 * trained) & (np.abs(slopes[0] - slopes[1]) <= 0.1)),
        note=f"Left of the loss after all examples: trained {words(trained)}; the same blocks "
        f"before training {words(untrained)}. The slopes of their steps differ by at most "
        f"{np.abs(slopes[0] - slopes[1]).max():.2f}.",
    )


@_claim(
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


@_claim(
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


@_claim(
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


@_claim(
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


@_claim(
    "fine-tuning-falls",
    "Fine-tuning on the same examples, one a step, lowers the loss as the implicit update does.",
    where="section 4, figure 3",
)
def fine_tuning_falls(scale: Scale) -> Evidence:
    result = _tokens(scale)
    paper = result.fine_tuned[:, 0]
    left = paper[:, -1] / paper[:, 0]
    return Evidence(
        measured=left.max().item(),
        bound=0.75,
        unit=f"{LOSS} after all examples over that before, worst seed",
        samples=passed(left <= 0.75),
        note=f"At rate {result.learning_rates[0]:g}, the paper's as the notes recall it.",
    )


@_claim(
    "fine-tuning-rate",
    "At the paper's learning rate fine-tuning is as quick as the implicit update.",
    where="section 4, figure 3",
)
def fine_tuning_rate(scale: Scale) -> Evidence:
    result = _tokens(scale)
    ratio = result.fine_tuned[:, 0, -1] / result.loss[:, -1]
    best = result.fine_tuned[:, :, -1].min(1)
    return Evidence(
        measured=ratio.max().item(),
        bound=1.25,
        unit=f"fine-tuned over in-context {LOSS} after all examples, worst seed",
        samples=passed(ratio <= 1.25),
        note=f"Rate {result.learning_rates[0]:g}: {words(ratio)} by seed. At the rate that ends "
        f"lowest on these tasks ({words(result.best_rate)}) fine-tuning ends at "
        f"{words(best / result.loss[:, -1])} of the context's loss: the curves agree only at a "
        "rate chosen for it.",
    )


@_claim(
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


@_claim(
    "update-is-gradient",
    "The implicit update points where gradient descent on the examples would go.",
    where="section 3, as proposition 3.1 is read",
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


@_claim(
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


@_claim(
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


@_claim(
    "order-of-examples",
    "Read in another order, the trained block ends at the same weights by another path.",
    where="not in the paper; section 4 with the context reversed",
    own=True,
)
def order_of_examples(scale: Scale) -> Evidence:
    result = _tokens(scale)
    return Evidence(
        measured=result.order_end.max().item(),
        bound=1e-10,
        unit="difference of the final weights over the size of the change, worst seed",
        samples=passed((result.order_end <= 1e-10) & (result.order_middle >= 0.1)),
        note=f"Halfway the two differ by {words(result.order_middle)} of the final change.",
    )


@_claim(
    "size-of-the-update",
    "The change that stands for a whole context is small beside the weights.",
    where="not in the paper; section 4",
    own=True,
)
def size_of_the_update(scale: Scale) -> Evidence:
    size = _tokens(scale).relative_size
    return Evidence(
        measured=size.max().item(),
        bound=0.5,
        unit="median of |W_n - W_0| over |W_0|, Frobenius, worst seed",
        samples=passed(size <= 0.5),
        note=f"By seed {words(size)}.",
    )
