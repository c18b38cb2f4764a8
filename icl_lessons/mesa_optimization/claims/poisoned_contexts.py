"""What is claimed of one bad example in the context, and whether it holds here."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, passed
from icl_lessons.estimators.descent import GradientDescent
from icl_lessons.estimators.least_squares import Ridge, ridge_weights
from icl_lessons.measures.agreement import RELATIVE_ERROR, relative_error
from icl_lessons.mesa_optimization.poisoned_contexts import (
    descent_influence,
    hijack,
    leave_one_out,
    parity_flip,
    ridge_influence,
    scaled_ridge_prediction,
    scaling_attack,
    with_example,
    worst_added_to_descent,
    worst_added_to_ridge,
    worst_label_change,
    worst_replaced_in_descent,
)
from icl_lessons.runtime import Scale, seeded

SURGERY = "mesa_optimization/surgery"
ANWAR = {"paper": "anwar2024adversarial", "chapter": SURGERY}
OWN = ANWAR | {"where": "the course's own analysis of the setting"}


def _cases(count: int, seed: int, most: int = 20) -> Iterator[tuple]:
    """Random contexts, three at a time, in float64: inputs, labels, query, and three numbers."""
    generator = seeded(seed)
    for _ in range(count):
        d, n = (int(torch.randint(1, k + 1, (), generator=generator)) for k in (8, most))
        how = {"generator": generator, "dtype": torch.float64}
        xs, ys, x_query = (torch.randn(3, *shape, **how) for shape in ((n, d), (n, 1), (1, d)))
        yield xs, ys, x_query, torch.rand(3, **how).tolist()


def _stable(xs: Tensor) -> float:
    """A step size at which descent on each of the contexts converges."""
    return 1.0 / (torch.linalg.matrix_norm(xs, 2).square().max() / xs.shape[1]).item()


@claim(
    "survey-poison-descent-influence",
    kind="identity",
    says="A label's influence on K steps of descent is a sum over the curvatures of the context.",
    **OWN,
)
def descent_influence_is_spectral(scale: Scale) -> Evidence:
    worst = 0.0
    for (xs, ys, x_query, (a, b, _)), steps in zip(
        _cases(40, 1), itertools.cycle((1, 2, 5, 50)), strict=False
    ):
        learner = GradientDescent(a * _stable(xs), steps)
        changed = ys.clone()
        changed[:, 0] += b
        moved = (learner(xs, changed, x_query) - learner(xs, ys, x_query))[:, 0, 0]
        influence = descent_influence(xs, x_query, a * _stable(xs), steps)
        worst = max(worst, relative_error(influence[:, 0, 0] * b, moved))
        worst = max(worst, relative_error(influence @ ys, learner(xs, ys, x_query)))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="1, 2, 5 and 50 steps, also with fewer examples than coordinates.",
    )


@claim(
    "survey-poison-ridge-leave-one-out",
    kind="identity",
    says="Influences of labels on ridge, and ridge without one example, come from a single solve.",
    **OWN,
)
def ridge_without_one(scale: Scale) -> Evidence:
    worst = 0.0
    for xs, ys, x_query, (a, *_) in _cases(40, 2):
        penalty = 0.05 + a
        influence = ridge_influence(xs, x_query, penalty)
        worst = max(worst, relative_error(influence @ ys, Ridge(penalty)(xs, ys, x_query)))
        if xs.shape[1] > 1:
            without = leave_one_out(xs, ys, penalty)[:, 0]
            refitted = ridge_weights(xs[:, 1:], ys[:, 1:], penalty)
            worst = max(worst, relative_error(without, refitted))
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR)


@claim(
    "survey-poison-worst-label",
    kind="identity",
    says="Within a budget the worst labels move a linear learner by the budget times a norm.",
    **OWN,
)
def worst_labels(scale: Scale) -> Evidence:
    worst = 0.0
    for xs, ys, x_query, (a, b, _) in _cases(40, 3):
        learner, influence = Ridge(0.1 + a), ridge_influence(xs, x_query, 0.1 + a)
        row = influence[:, 0].abs()
        clean = learner(xs, ys, x_query)
        for norm, dual in (
            ("l2", row.norm(dim=1)),
            ("linf", row.sum(1)),
            ("one", row.amax(1)),
        ):
            change, shift = worst_label_change(influence, b, norm)
            poisoned = learner(xs, ys + change[:, 0, :, None], x_query)
            worst = max(worst, relative_error((poisoned - clean)[:, 0, 0], b * dual))
            worst = max(worst, relative_error(shift[:, 0], b * dual))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="Euclidean, largest-entry and one-label budgets; the norms are the dual ones.",
    )


@claim(
    "survey-poison-hijack",
    kind="identity",
    says="One added pair makes one step, K steps and ridge say any number that is asked for.",
    **OWN,
)
def one_pair_hijacks(scale: Scale) -> Evidence:
    worst = 0.0
    for xs, ys, x_query, (a, b, _) in _cases(40, 4):
        target = torch.full((3,), 50 * b, dtype=torch.float64)
        n, step = xs.shape[1], 0.3 * _stable(xs)
        for learner in (GradientDescent(step), GradientDescent(step, 4), Ridge(0.1 + a)):
            context = hijack(learner, xs, ys, x_query, target)
            said = learner(*context, x_query)[:, 0, 0]
            worst = max(worst, relative_error(said, target))
        _, poisoned = hijack(GradientDescent(step), xs, ys, x_query, target)
        pull = ((xs @ x_query.mT)[..., 0] * ys[..., 0]).sum(1)
        formula = ((n + 1) * target / step - pull) / x_query[:, 0].square().sum(1)
        worst = max(worst, relative_error(poisoned[:, -1, 0], formula))
    return Evidence(
        measured=worst,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="The label needed for one step has N + 1 in it, not N: the prompt is longer by one.",
    )


@claim(
    "survey-poison-worst-pair-for-descent",
    kind="identity",
    says="The worst added or replaced pair for one step lies along the query, as far as allowed.",
    **OWN,
)
def worst_pair_for_descent(scale: Scale) -> Evidence:
    worst, beyond, generator = 0.0, 0, seeded(50)
    for xs, ys, x_query, (a, b, c) in _cases(40, 5):
        learner, budgets = GradientDescent(a), {"input_budget": 4 * b, "label_budget": 4 * c}
        clean = learner(xs, ys, x_query)[:, 0, 0]
        added = worst_added_to_descent(xs, ys, x_query, a, **budgets)
        context = with_example(xs, ys, added.x, added.y[:, None])
        moved = learner(*context, x_query)[:, 0, 0] - clean
        worst = max(worst, relative_error(added.shift, moved))
        other, index = worst_replaced_in_descent(xs, ys, x_query, a, **budgets)
        for row, i in enumerate(index.tolist()):
            context = with_example(xs, ys, other.x, other.y[:, None], i)
            moved = (learner(*context, x_query)[:, 0, 0] - clean)[row]
            worst = max(worst, relative_error(other.shift[row], moved))
        x = torch.randn(other.x.shape, generator=generator, dtype=torch.float64)
        x = 4 * b * x / x.norm(dim=1, keepdim=True)
        y = torch.full((3, 1), -4 * c, dtype=torch.float64)
        moved = learner(*with_example(xs, ys, x, y), x_query)[:, 0, 0] - clean
        beyond += int((moved.abs() > added.shift.abs() + 1e-10).sum())
    return Evidence(
        measured=worst + beyond,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="Random pairs within the budgets that moved it further would count 1 each.",
    )


@claim(
    "survey-poison-worst-pair-for-ridge",
    kind="identity",
    says="Ridge has a worst added pair of bounded label whatever the input: an eigenvalue.",
    **OWN,
)
def worst_pair_for_ridge(scale: Scale) -> Evidence:
    worst, beyond, generator = 0.0, 0, seeded(60)
    for xs, ys, x_query, (a, b, _) in _cases(40, 6):
        learner, budget = Ridge(0.1 + a), 0.1 + 10 * b
        clean = learner(xs, ys, x_query)[:, 0, 0]
        pair = worst_added_to_ridge(xs, ys, x_query, 0.1 + a, label_budget=budget)
        context = with_example(xs, ys, pair.x, pair.y[:, None])
        moved = learner(*context, x_query)[:, 0, 0] - clean
        worst = max(worst, relative_error(pair.shift, moved))
        for size, sign in itertools.product((0.1, 1.0, 10.0, 1e3), (1, -1)):
            x = size * torch.randn(pair.x.shape, generator=generator, dtype=torch.float64)
            y = torch.full((3, 1), sign * budget, dtype=torch.float64)
            moved = learner(*with_example(xs, ys, x, y), x_query)[:, 0, 0] - clean
            beyond += int((moved.abs() > pair.shift.abs() * (1 + 1e-9)).sum())
    return Evidence(
        measured=worst + beyond,
        bound=1e-10,
        unit=RELATIVE_ERROR,
        note="Random pairs of any input that moved it further would count 1 each.",
    )


@claim(
    "survey-poison-scaling-ridge",
    kind="identity",
    says="Under a pair of growing input ridge says (f + r h y) / (1 + r^2 h), which returns to 0.",
    **OWN,
)
def scaling_on_ridge(scale: Scale) -> Evidence:
    worst = 0.0
    for (xs, ys, x_query, (a, *_)), size in zip(
        _cases(40, 7), itertools.cycle((0.3, 3.0, 30.0, 300.0)), strict=False
    ):
        said = Ridge(0.1 + a)(*scaling_attack(xs, ys, x_query, size, 10.0), x_query)[:, 0, 0]
        formula = scaled_ridge_prediction(xs, ys, x_query, 0.1 + a, size, 10.0)
        worst = max(worst, relative_error(formula, said))
    return Evidence(measured=worst, bound=1e-10, unit=RELATIVE_ERROR)


@claim(
    "survey-poison-more-steps-explode",
    kind="experiment",
    says="Under a pair of growing input c, K steps of a fixed size grow like c to the 2K - 1.",
    **OWN,
)
def more_steps_explode(scale: Scale) -> Evidence:
    off = []
    for (xs, ys, x_query, (a, *_)), steps in zip(_cases(8, 8), (1, 2, 3, 4) * 2, strict=True):
        learner = GradientDescent(0.2 + a, steps)
        low, high = (
            learner(*scaling_attack(xs, ys, x_query, size, 10.0), x_query)[:, 0, 0].abs()
            for size in (1e5, 1e6)
        )
        off.append(((high / low).log10() - (2 * steps - 1)).abs().max().item())
    return Evidence(
        measured=max(off),
        bound=0.01,
        unit="largest error of the exponent, 1 to 4 steps",
        samples=passed([value <= 0.01 for value in off]),
        note="A step that was stable without the pair no longer is. Ridge, which many small steps "
        "tend to, returns to 0: being converged protects, taking more steps does not.",
    )


@claim(
    "survey-poison-parity-flip",
    kind="identity",
    says="The fewest flipped labels that turn a linear learner's answer are read off influences.",
    paper="anonymous2024regression",
    where="'parity flip' as an adversarial prompt, made a measurement",
    chapter=SURGERY,
)
def flips_needed(scale: Scale) -> Evidence:
    difference = 0
    for xs, ys, x_query, (a, *_) in _cases(20, 9, most=7):
        n, learner = xs.shape[1], Ridge(0.1 + a)
        found = parity_flip(ridge_influence(xs, x_query, 0.1 + a)[:, 0], ys).needed
        sets = torch.tensor(list(itertools.product((1.0, -1.0), repeat=n)), dtype=torch.float64)
        clean = learner(xs, ys, x_query)[:, 0, 0]
        for row in range(3):
            many = [t[row].expand(len(sets), -1, -1) for t in (xs, x_query)]
            said = learner(many[0], sets[..., None] * ys[row], many[1])[:, 0, 0]
            fewest = (sets < 0).sum(1)[said * clean[row] < 0].min()
            difference = max(difference, int((fewest - found[row]).abs()))
    return Evidence(
        measured=float(difference),
        bound=1e-10,
        unit="largest difference from trying all sets of flips, in labels",
    )
