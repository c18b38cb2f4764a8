"""What is claimed of a trained block's path, token by token, each claim with a check."""

import numpy as np

from icl_lessons.declare import Evidence, claim, error_size, passed, result_of, words
from icl_lessons.runtime import Scale

PAGE = "implicit_dynamics/token_by_token"
PAPER = "dherin2025learning"
LOSS = "1/2 E (y_hat - y)^2"


def tokens_claim(name: str, says: str, *, where: str, own: bool = False):
    """Declare a claim of trained blocks; ``own`` for what the paper does not say."""
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


@tokens_claim(
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


@tokens_claim(
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


@tokens_claim(
    "single-precision",
    "In float32 the loss of the block and that of its update coincide to about a millionth.",
    where="section 4, figure 1, as a replication prints it",
)
def single_precision(scale: Scale) -> Evidence:
    residual = _tokens(scale).single_residual
    return Evidence(
        measured=residual.max().item(),
        bound=1e-5,
        unit=f"largest difference of mean {LOSS}, float32, all prefixes and seeds",
        reported=1e-6,
        samples=passed(residual <= 1e-5),
        note=f"In float64 {error_size(_tokens(scale).residual.max())} is left.",
    )


@tokens_claim(
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


@tokens_claim(
    "vanishing-is-convergence",
    "Vanishing steps show that the block learns from its context and converges.",
    where="section 4, as figure 2 may be read",
)
def vanishing_is_convergence(scale: Scale) -> Evidence:
    result, controls = _tokens(scale), result_of("token_controls", scale)
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


@tokens_claim(
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


@tokens_claim(
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


@tokens_claim(
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


@tokens_claim(
    "fine-tuning-rate",
    "At the paper's learning rate fine-tuning is as quick as the implicit update.",
    where="section 4, as figure 3 may be read",
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


@tokens_claim(
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


@tokens_claim(
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
