"""What is claimed of linear attention's training and was measured on runs of it."""

import numpy as np

from icl_lessons.declare import Evidence, passed, result_of, words
from icl_lessons.implicit_dynamics.claims.training_plateaus import measured_claim
from icl_lessons.runtime import Scale


def _whole(counts) -> str:
    return ", ".join(f"{count:.0f}" for count in np.ravel(counts))


def _counts(rests) -> np.ndarray:
    return np.array([len(found.drops) for found in rests])


@measured_claim(
    "merged-one-drop",
    "merged key and query",
    "From a small start merged heads learn in one abrupt drop.",
)
def merged_one_drop(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    counts = _counts(result.merged_rests)
    return Evidence(
        measured=counts.mean().item(),
        bound=1,
        unit="drops, mean over seeds",
        samples=passed(counts == 1),
    )


@measured_claim(
    "separate-drops",
    "separate key and query of rank one",
    "From a small start separate heads of rank one learn in D drops, one for each direction.",
)
def separate_drops(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    counts, d = _counts(result.rests), len(result.eigenvalues)
    smallest = result.counts[result.sizes.argmin()]
    return Evidence(
        measured=counts.mean().item(),
        bound=d,
        unit="drops, mean over seeds, for D = 4",
        samples=passed(counts == d),
        note=f"Two heads may leave at once. At start {result.sizes.min():g}: {_whole(smallest)}.",
    )


@measured_claim(
    "plateau-losses",
    "separate key and query of rank one",
    "Where training rests, its loss is that of a fixed point.",
)
def plateau_losses_met(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    gaps = np.nanmax(np.abs(result.rest_losses() / result.plateaus - 1), 1)
    return Evidence(
        measured=gaps.max().item(),
        bound=5e-3,
        unit="largest relative difference of the losses at rest from the theory's",
        samples=passed(gaps <= 5e-3),
    )


@measured_claim(
    "one-over-n",
    "not in the paper; its limit of long contexts",
    "The heights of the plateaus cannot be had without the 1/N term: the eigenvalues not yet "
    "learned do not add up to them.",
)
def one_over_n(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    left = result.eigenvalues.sum() - np.concatenate([[0], result.eigenvalues.cumsum()])
    found = np.nanmean(result.rest_losses(), 0)
    return Evidence(
        measured=np.abs(found - left)[1:].min().item(),
        bound=0.02,
        comparison="at least",
        unit="E squared error, smallest gap after the first drop",
        note=f"Sums {words(left)}; measured {words(found)}.",
    )


@measured_claim(
    "matrix-at-rest",
    "separate key and query of rank one",
    "At a rest M has rho_d / lambda_d in the learned directions and nothing elsewhere.",
)
def matrix_at_rest(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    gaps = []
    for matrices in result.rest_strengths:
        for m, matrix in enumerate(matrices):
            if m and not np.isnan(matrix).any():
                expected = np.diag(np.where(np.arange(len(matrix)) < m, result.ends, 0.0))
                gaps.append(np.linalg.norm(matrix - expected) / np.linalg.norm(expected))
    return Evidence(
        measured=float(max(gaps)),
        bound=0.05,
        unit="Frobenius norm of the difference over that of the theory's M, largest rest",
        samples=passed(np.array(gaps) <= 0.05),
    )


@measured_claim(
    "final-values",
    "separate key and query of rank one",
    "Each head learns one direction and ends with |v| = (rho_d / lambda_d)^{1/3}.",
)
def final_values(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    alive = result.final_values[:, : len(result.expected_values)]
    gaps = np.abs(alive / result.expected_values - 1).max(1)
    return Evidence(
        measured=gaps.max().item(),
        bound=0.01,
        unit="largest relative difference",
        samples=passed(gaps <= 0.01),
        note=f"By seed {words(100 * gaps)} %: two heads that leave at once share two directions.",
    )


@measured_claim(
    "dead-head",
    "separate key and query of rank one",
    "A head more than there are directions stays where it began.",
)
def dead_head(scale: Scale) -> Evidence:
    last = result_of("training_plateaus", scale).final_values[:, -1]
    return Evidence(
        measured=last.max().item(),
        bound=0.1,
        unit="|v| of the fifth head at the end, where others have 1.3 to 1.9",
        samples=passed(last <= 0.1),
    )


@measured_claim(
    "reduced-equations",
    "separate key and query of rank one",
    "One number for each direction, its moment fitted, retraces the loss of all heads.",
)
def reduced_equations(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    gaps = np.abs(result.reduced_losses - result.losses).max(1)
    return Evidence(
        measured=gaps.max().item(),
        bound=0.05,
        unit="E squared error, largest difference of the loss curves",
        samples=passed(gaps <= 0.05),
        note=f"By seed {', '.join(f'{gap:.3f}' for gap in gaps)}.",
    )


@measured_claim("same-end", "both parametrisations", "Merged and separate heads end at the same M.")
def same_end(scale: Scale) -> Evidence:
    gaps = result_of("training_plateaus", scale).end_gap
    return Evidence(
        measured=gaps.max().item(),
        bound=0.01,
        unit="Frobenius norm of the difference over that of the minimum",
        samples=passed(gaps <= 0.01),
    )


@measured_claim(
    "later-plateaus-longer",
    "separate key and query of rank one",
    "Each plateau lasts longer than the one before it.",
)
def later_plateaus_longer(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    dwells = np.diff(np.sort(result.learned_times, 1), prepend=0, axis=1)
    rising = (np.diff(dwells, axis=1) > 0)[~np.isnan(dwells).any(1)]
    medians = result.median_times()
    return Evidence(
        measured=rising.mean().item(),
        bound=1.0,
        comparison="at least",
        unit="share of neighbouring plateaus, over random starts",
        samples=passed(rising.all(1)),
        note="The first is the exception even where heads do not differ, by lambda^-2. Median "
        f"times at which the directions are learned: {', '.join(f'{t:.0f}' for t in medians)}.",
    )


@measured_claim(
    "escape-separate",
    "separate key and query of rank one",
    "Separate heads leave the start after a time in proportion to 1 / w, the size of the start.",
)
def escape_separate(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    small = result.sizes <= 0.03
    products = result.first_drop[small] * result.sizes[small, None]
    spread = products.max(0) / products.min(0) - 1
    return Evidence(
        measured=spread.max().item(),
        bound=0.1,
        unit="relative spread of (time of the first drop) times w, w from 0.003 to 0.03",
        samples=passed(spread <= 0.1),
    )


@measured_claim(
    "escape-merged",
    "merged key and query",
    "Merged heads leave the start after a time ln(1/w) / |Lambda^2|.",
)
def escape_merged(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    logs = np.log(1 / result.merged_sizes)
    slopes = np.array([np.polyfit(logs, times, 1)[0] for times in result.merged_drop.T])
    ratios = slopes * np.linalg.norm(result.eigenvalues**2)
    return Evidence(
        measured=np.abs(ratios - 1).max().item(),
        bound=0.1,
        unit="relative difference of the slope in ln(1/w) from 1 / |Lambda^2|",
        samples=passed(np.abs(ratios - 1) <= 0.1),
    )


@measured_claim(
    "escape-eigenvalue",
    "separate key and query of rank one",
    "The time at which a direction is learned goes as its eigenvalue to the power -2.",
)
def escape_eigenvalue(scale: Scale) -> Evidence:
    slope = result_of("training_plateaus", scale).time_slope()
    return Evidence(
        measured=float(slope + 2),
        bound=0.3,
        comparison="within",
        unit="distance of the logarithmic slope from -2",
        note=f"Slope {slope:.2f}, median over random starts for each of the directions.",
    )


@measured_claim(
    "large-start",
    "not in the paper; its separate key and query from larger starts",
    "From a large start the plateaus are gone.",
)
def large_start(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    counts = result.counts[result.sizes.argmax()]
    listed = "; ".join(
        f"{size:g}: {_whole(row)}" for size, row in zip(result.sizes, result.counts, strict=True)
    )
    return Evidence(
        measured=counts.mean().item(),
        bound=2,
        unit="drops from a start of standard deviation 1, mean over seeds",
        samples=passed(counts <= 2),
        note=f"Drops by size of the start, {listed}.",
    )


def _rank_claim(rank: int) -> None:
    @measured_claim(
        f"rank-{rank}",
        "separate key and query of low rank",
        f"With D = 8, keys and queries of rank {rank} make {8 // rank} plateaus.",
    )
    def rests_at_rank(scale: Scale) -> Evidence:
        result = result_of("plateau_ranks", scale)
        drops = result.drops()
        smallest = drops[result.smallest(rank)]
        listed = "; ".join(
            f"{result.sizes[i]:g}: {_whole(drops[i])}"
            for i, other in enumerate(result.ranks)
            if other == rank
        )
        return Evidence(
            measured=smallest.mean().item(),
            bound=8 / rank,
            unit="rests before the last from the smallest start, mean over seeds",
            reported=8 / rank,
            samples=passed(smallest == 8 / rank),
            note=f"By size of the start, {listed}.",
        )


for _rank in (1, 2, 4):
    _rank_claim(_rank)


# --- what it computes ---------------------------------------------------------------------------


@measured_claim(
    "rests-are-regressions",
    "separate key and query, what the layer computes",
    "At its m-th plateau the layer is principal component regression with m components.",
)
def rests_are_regressions(scale: Scale) -> Evidence:
    gaps = result_of("training_plateaus", scale).regression_gap
    seen = gaps[~np.isnan(gaps)]
    return Evidence(
        measured=seen.max().item(),
        bound=0.01,
        unit="mean square of the difference over that of the regression, sampled contexts",
        samples=passed(seen <= 0.01),
    )


@measured_claim(
    "not-the-prompts-components",
    "not in the paper; about what the layer computes",
    "The components are those of the population, not those of the prompt.",
)
def not_the_prompts_components(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    gaps = np.nanmean(result.prompt_gap, 1)
    return Evidence(
        measured=gaps.min().item(),
        bound=0.05,
        comparison="at least",
        unit="mean square of the difference from regression on the prompt's components, relative",
        note=f"By components {words(gaps)}; that regression's own losses "
        f"{words(np.nanmean(result.prompt_loss, 1))}.",
    )


@measured_claim(
    "early-stop",
    "not in the paper; about what the layer computes",
    "Training stopped at a plateau beats training to the end where noise is in the small "
    "directions: here on test labels with noise of variance 8, where targets have 1.",
)
def early_stop(scale: Scale) -> Evidence:
    result = result_of("training_plateaus", scale)
    noisy = result.noise_losses[list(result.noises).index(8.0)]
    clean = result.noise_losses[list(result.noises).index(0.0)]
    ratios = np.nanmin(noisy, 0) / noisy[-1]
    return Evidence(
        measured=ratios.max().item(),
        bound=0.95,
        unit="test loss of the best plateau over that of the end",
        samples=passed(ratios <= 0.95),
        note=f"Best with {_whole(np.nanargmin(noisy, 0))} components; losses by components "
        f"{words(np.nanmean(noisy, 1))}, without noise {words(np.nanmean(clean, 1))}.",
    )
