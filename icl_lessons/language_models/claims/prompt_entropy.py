"""What Lu et al. say of orders and of choosing them, each claim with a check."""

import math

import numpy as np
import torch

from icl_lessons.declare import Evidence, claim, passed, result_of, words
from icl_lessons.language_models.experiments.prompt_entropy import ONE_WRONG
from icl_lessons.language_models.prompt_entropy import global_entropy, local_entropy
from icl_lessons.runtime import Scale, seeded

PAGE = "language_models/demonstrations"


def _claim(name: str, where: str, says: str, *, kind: str = "experiment"):
    return claim(
        f"lu2022-{name}", paper="lu2022fantastically", where=where, kind=kind, says=says,
        chapter=PAGE,
    )  # fmt: skip


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks, equal values sharing theirs."""
    ranks = [np.sign(v[:, None] - v[None]).sum(1) for v in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


@_claim(
    "entropies",
    "the definition of the entropies",
    "Both entropies are log m where answers are even, the local one 0 where they are certain, and "
    "neither depends on how labels are named.",
    kind="identity",
)
def entropies(scale: Scale) -> Evidence:
    worst = 0.0
    for m in range(2, 9):
        g = seeded(2_104_000 + m)
        laws = torch.rand(3, 20, m, generator=g, dtype=torch.float64).softmax(-1)
        named_else = laws[..., torch.randperm(m, generator=g)]
        certain = torch.eye(m, dtype=torch.float64)
        even = torch.full((4, m), 1 / m, dtype=torch.float64)
        gaps = [
            *(global_entropy(laws) - global_entropy(named_else)),
            *(local_entropy(laws) - local_entropy(named_else)),
            global_entropy(certain) - math.log(m),
            local_entropy(even) - math.log(m),
            local_entropy(certain),
        ]
        worst = max(worst, *(abs(gap.item()) for gap in gaps))
    return Evidence(measured=worst, bound=1e-12, unit="largest difference, nats")


@_claim(
    "order-decides",
    "abstract",
    "Order alone can move accuracy from near chance to near the best.",
)
def order_decides(scale: Scale) -> Evidence:
    result = result_of("prompt_entropy", scale)
    spread = result.spread.max((1, 2))
    by_task = ", ".join(f"{t} {s:.2f}" for t, s in zip(result.tasks, spread, strict=True))
    return Evidence(
        measured=spread.max().item(),
        bound=0.3,
        comparison="at least",
        unit="best less worst accuracy over the orders of one set, largest",
        samples=passed(spread >= 0.3),
        note=f"Largest of the sets: {by_task}. Passes by task.",
    )


@_claim(
    "right-labels-no-order",
    "not in the paper; where its effect is absent",
    "With right labels on tasks that the model does well, no order loses a tenth of the answers.",
)
def right_labels_no_order(scale: Scale) -> Evidence:
    result = result_of("prompt_entropy", scale)
    plain = [i for i, task in enumerate(result.tasks) if " " not in task]
    spread = result.spread[plain]
    return Evidence(
        measured=spread.max().item(),
        bound=0.1,
        unit="best less worst accuracy over orders, worst set",
        samples=passed(spread <= 0.1),
    )


@_claim(
    "orders-do-not-transfer",
    "abstract",
    "An order that is good for one model is not good for another.",
)
def orders_do_not_transfer(scale: Scale) -> Evidence:
    result = result_of("prompt_entropy", scale)
    here, there = (a.reshape(-1, a.shape[-1]) for a in (result.accuracy, result.elsewhere))
    move = (np.ptp(here, 1) > 0.02) & (np.ptp(there, 1) > 0.02)
    ranks = np.array(
        [rank_correlation(*pair) for pair in zip(here[move], there[move], strict=True)]
    )
    return Evidence(
        measured=float(ranks.mean()) if len(ranks) else math.nan,
        bound=0.3,
        unit="rank correlation of accuracies over orders in two seeds' models, mean of the sets",
        samples=passed(ranks <= 0.3) if len(ranks) else None,
        note=f"Over the {len(ranks)} sets whose order matters to both models.",
    )


def _selected(scale: Scale, score: str, reported: float | None = None) -> Evidence:
    result = result_of("prompt_entropy", scale)
    moves = result.spread > 0.02
    before, after = result.accuracy.mean(-1)[moves], result.selected(score)[moves]
    gain = after / before - 1
    plain = (after - before)[[ONE_WRONG in result.tasks[t] for t in np.nonzero(moves)[0]]]
    return Evidence(
        measured=(after.mean() / before.mean() - 1).item(),
        bound=0.01,
        comparison="at least",
        unit="relative gain in accuracy of the four orders kept, over sets whose order matters",
        reported=reported,
        samples=passed(gain >= 0.01),
        note=f"{len(gain)} sets; accuracy {before.mean():.2f} before and {after.mean():.2f} after. "
        f"Where one label is wrong it changes by {words([plain.mean()])}."
        if len(plain)
        else f"{len(gain)} sets.",
    )


@_claim(
    "global-entropy-selects",
    "abstract",
    "Orders of high global entropy are better than the average order.",
)
def global_entropy_selects(scale: Scale) -> Evidence:
    return _selected(scale, "global_entropy", reported=0.13)


@_claim(
    "local-entropy-selects",
    "the method, with the local entropy",
    "Orders of high local entropy are better than the average order.",
)
def local_entropy_selects(scale: Scale) -> Evidence:
    return _selected(scale, "local_entropy")
