"""What is claimed of the pattern that multi-head softmax attention is trained to."""

import numpy as np

from icl_lessons.declare import Evidence, passed, words
from icl_lessons.implicit_dynamics.claims.multi_head_softmax import heads_claim
from icl_lessons.implicit_dynamics.claims.multi_head_softmax_losses import (
    PATTERN,
    heads_result,
)
from icl_lessons.runtime import Scale


def _own(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


@heads_claim(
    "scores-are-the-identity",
    PATTERN,
    "Trained key-query matrices are a multiple of the identity on the inputs.",
)
def scores_are_the_identity(scale: Scale) -> Evidence:
    result = heads_result(scale)
    one, two, four = (
        _own(result.stray[row]) for row in (result.row(1), result.row(2, "opposite"), result.row(4))
    )
    return Evidence(
        measured=two.max().item(),
        bound=0.1,
        unit="|W - omega I| over |W|, Frobenius, two heads from the opposite start, worst head",
        samples=passed(two <= 0.1),
        note=f"One head {words(one)}. Of four heads {words(four)}: what two heads of one sign "
        "differ by cancels in their sum, and nothing trains it away.",
    )


@heads_claim(
    "outputs-read-the-label",
    PATTERN,
    "Trained output-value vectors read the target alone.",
)
def outputs_read_the_label(scale: Scale) -> Evidence:
    share = _own(heads_result(scale).both_signs(heads_result(scale).label_share))
    return Evidence(
        measured=share.min().item(),
        bound=0.9,
        comparison="at least",
        unit="|mu| over |u|, worst head of layers with both signs",
        samples=passed(share >= 0.9),
    )


@heads_claim(
    "outputs-sum-to-zero",
    PATTERN,
    "The factors on the outputs of two or more heads sum to about 0.",
)
def outputs_sum_to_zero(scale: Scale) -> Evidence:
    result = heads_result(scale)
    total = result.both_signs(result.sum_of_outputs)
    two = result.row(2)
    return Evidence(
        measured=total.max().item(),
        bound=0.1,
        unit="|sum of mu| over the largest |mu|, worst layer with heads of both signs",
        samples=passed(total <= 0.1),
        note="Two heads that took one sign, which they may: "
        f"{words(result.sum_of_outputs[two][~result.opposed[two]])}.",
    )


@heads_claim(
    "same-size",
    PATTERN,
    "The scores of all heads end with the same size.",
)
def same_size(scale: Scale) -> Evidence:
    result = heads_result(scale)
    spread = result.both_signs(result.spread)
    return Evidence(
        measured=spread.max().item(),
        bound=0.1,
        unit="range of |omega| over the largest, heads with |mu| under a tenth of the largest "
        "left out, worst layer with heads of both signs",
        samples=passed(spread <= 0.1),
    )


@heads_claim(
    "signs-go-together",
    PATTERN,
    "A head with positive scores has a positive output, one with negative a negative.",
)
def signs_go_together(scale: Scale) -> Evidence:
    result = heads_result(scale)
    product = _own(result.omega * result.mu)
    return Evidence(
        measured=product.min().item(),
        bound=0.0,
        comparison="at least",
        unit="omega times mu, smallest of all heads",
        samples=passed(product > 0),
        note="Their sum over heads is the step size: "
        f"{words(np.nansum(result.both_signs(result.omega * result.mu), -1))}.",
    )


@heads_claim(
    "same-sign-trap",
    PATTERN + "; random starts counted here",
    "From a random start two heads often take one sign, and stay at the loss of one head.",
    own=True,
)
def same_sign_trap(scale: Scale) -> Evidence:
    result = heads_result(scale)
    two = result.start_heads.index(2)
    stuck, end = result.one_sign[two], result.start_loss[two, -1]
    one = result.loss[result.row(1), result.trained_at].mean()
    four = result.one_sign[result.start_heads.index(4)]
    return Evidence(
        measured=stuck.mean().item(),
        bound=0.25,
        comparison="at least",
        unit=f"share of {stuck.size} random starts with both heads of one sign after "
        f"{result.start_moments[-1]} updates; signs by chance would give 1/2",
        samples=passed([end[stuck].mean() > 0.8 * one]),
        note=f"By the signs at the start {result.one_sign_at_start[two].sum()} of {stuck.size}, at "
        f"the end {stuck.sum()}. Their loss {end[stuck].mean():.2f}, that of the others "
        f"{np.median(end[~stuck]):.2f} (median), of one head {one:.2f}; "
        f"{(end[~stuck] > 0.8 * one).sum()} of the others has a weak head that only now crosses 0 "
        f"and the same loss. Of four heads {four.sum()} of {four.size} starts, by chance 1/8: "
        "rarer, not cured.",
    )


@heads_claim(
    "patterns-appear-consistently",
    "abstract",
    "The pattern, heads of both signs included, consistently appears from a random start.",
)
def patterns_appear_consistently(scale: Scale) -> Evidence:
    result = heads_result(scale)
    both = ~result.one_sign
    shares = "; ".join(
        f"{heads} heads {row.sum()} of {row.size}"
        for heads, row in zip(result.start_heads, both, strict=True)
    )
    return Evidence(
        measured=both.mean(1).min().item(),
        bound=0.9,
        comparison="at least",
        unit=f"share of random starts with heads of both signs after {result.start_moments[-1]} "
        f"updates, lower of {' and '.join(map(str, result.start_heads))} heads",
        samples=passed(both),
        note=f"{shares}. By chance it would be 1 - 2^(1 - heads): the more heads, the truer.",
    )


@heads_claim(
    "signs-at-the-start",
    PATTERN + "; the start worked out here",
    "The sign that a head takes is that of omega + mu at its start.",
    own=True,
)
def signs_at_the_start(scale: Scale) -> Evidence:
    result = heads_result(scale)
    return Evidence(
        measured=result.sign_kept.min().item(),
        bound=0.85,
        comparison="at least",
        unit="share of heads, lower of two and four heads",
        note="Near 0 the loss is 1 + s^2 - 2 sum_h mu_h omega_h: each head by itself grows along "
        f"omega = mu. Two heads {result.sign_kept[0]:.2f}, four {result.sign_kept[1]:.2f}, over "
        f"{result.one_sign.shape[1]} starts.",
    )


@heads_claim(
    "signs-before-sizes",
    PATTERN + "; followed over time here",
    "Heads take their signs before the loss has fallen much, and their sizes long after.",
    own=True,
)
def signs_before_sizes(scale: Scale) -> Evidence:
    result = heads_result(scale)
    rows = [result.row(2, "opposite"), result.row(4)]
    omega, loss = result.kept_omega[rows], result.kept_loss[rows]
    settled, sized = [], []
    for path, losses in zip(omega, loss, strict=True):
        for seed in range(path.shape[1]):
            own = path[:, seed][:, ~np.isnan(path[0, seed])]
            changed = (np.sign(own) != np.sign(own[-1])).any(1)
            first = int(np.flatnonzero(changed)[-1]) + 1 if changed.any() else 0
            settled.append(losses[first, seed] / result.zero)
            near = np.abs(own / own[-1] - 1).max(1) > 0.1
            sized.append(result.moments[int(np.flatnonzero(near)[-1]) + 1])
    return Evidence(
        measured=float(min(settled)),
        bound=0.5,
        comparison="at least",
        unit="training loss when the last sign is taken, over that of predicting 0, lowest layer",
        samples=passed(np.array(settled) >= 0.5),
        note=f"Sizes stay within a tenth of their last value from update {min(sized)} to "
        f"{max(sized)} on, of {result.moments[-1]}.",
    )


@heads_claim(
    "layer-is-its-pattern",
    PATTERN,
    "omega and mu of each head are nearly all that a trained layer computes.",
)
def layer_is_its_pattern(scale: Scale) -> Evidence:
    result = heads_result(scale)
    far = result.both_signs(result.from_pattern)
    return Evidence(
        measured=far.max().item(),
        bound=0.1,
        unit="root mean square difference of predictions over their size, worst layer with both "
        "signs",
        samples=passed(far <= 0.1),
    )


@heads_claim(
    "best-outputs-trained",
    "released code, mu*(omega)",
    "mu*(omega) of the approximate loss is what two trained heads have.",
)
def best_outputs_trained(scale: Scale) -> Evidence:
    result = heads_result(scale)
    row, four = result.row(2, "opposite"), result.row(4)
    far = np.abs(_own(result.best_mu[row]) / _own(result.mu[row]) - 1)
    return Evidence(
        measured=far.max().item(),
        bound=0.05,
        unit="|mu* / mu - 1|, two heads from the opposite start, worst head",
        samples=passed(far <= 0.05),
        note="For four heads mu* says nothing: omegas that nearly agree give "
        f"|mu*| of {np.nanmin(np.abs(result.best_mu[four])):.0f} to "
        f"{np.nanmax(np.abs(result.best_mu[four])):.0f}.",
    )


@heads_claim(
    "unequal-variances",
    "inputs of unequal variances",
    "For inputs of unequal variances the identity gives way to the preconditioner of the best "
    "step.",
)
def unequal_variances(scale: Scale) -> Evidence:
    result = heads_result(scale)
    identity, inverse, best = 1 - result.cosine
    return Evidence(
        measured=best.max().item(),
        bound=0.01,
        unit="1 - cosine of sum_h mu_h W_h on the inputs with the preconditioner of the best plain "
        "step, worst seed",
        samples=passed((best <= 0.01) & (best < inverse)),
        note=f"From the inverse covariance {words(inverse)}, from the identity {words(identity)}.",
    )
