"""Exercises 6 and 7: linear attention in training, its plateaus and one step of its flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    call,
    compare,
    fail,
    passed,
    tensor,
    tolerance_of,
    unchanged,
)
from icl_lessons.grading.sums import draw


def population_loss(matrix: Tensor, covariance: Tensor, n_context: int, *, one_over_n=True):
    """``E (beta^T M x_q - w^T x_q)^2`` over contexts, tasks and queries, without a half."""
    moment = covariance @ covariance
    if one_over_n:
        d = len(covariance)
        trace = covariance.diagonal().sum()
        moment = moment + (covariance + trace * torch.eye(d).double()) @ covariance / n_context
    first = (covariance @ covariance @ matrix).diagonal().sum()
    second = (matrix.mT @ moment @ matrix @ covariance).diagonal().sum()
    return covariance.diagonal().sum() - 2 * first + second


def _lowest(vector: Tensor, covariance: Tensor, n_context: int) -> Tensor:
    """Where along ``vector vector^T`` the loss, a parabola, is lowest: from three of its values."""
    along = torch.outer(vector, vector)
    left, here, right = (population_loss(c * along, covariance, n_context) for c in (-1, 0, 1))
    return (left - right) / (2 * (left - 2 * here + right))


def plateau(covariance: Tensor, n_context: int, components: int) -> Tensor:
    """``M`` at a plateau, direction by direction."""
    values, vectors = torch.linalg.eigh(covariance)
    out = torch.zeros_like(covariance)
    for k in values.argsort(descending=True)[:components]:
        e = vectors[:, k]
        out = out + _lowest(e, covariance, n_context) * torch.outer(e, e)
    return out


def covariance_of(eigenvalues: list[float], seed: int) -> Tensor:
    """A covariance with these eigenvalues in a random basis."""
    d = len(eigenvalues)
    basis = torch.linalg.qr(draw(d, d, seed=seed)).Q
    return basis * torch.tensor(eigenvalues).double() @ basis.mT


def check_plateaus(plateau_losses: Callable, plateau_predictions: Callable) -> None:
    """``plateau_losses(covariance, n_context)`` and ``plateau_predictions(...)``."""
    covariance = covariance_of([0.2, 0.4, 0.1, 0.3], seed=61)
    d, n = 4, 31
    kept = covariance.clone()
    result = call(plateau_losses, covariance, n)
    unchanged(kept, covariance, name="covariance")
    if isinstance(result, Tensor) and tuple(result.shape) == (d,):
        fail("You return D losses. There are D + 1 plateaus: the first has learned nothing.")
    got = tensor(result, (d + 1,), what="the losses", axes="[D + 1]")
    right = torch.stack(
        [population_loss(plateau(covariance, n, m), covariance, n) for m in range(d + 1)]
    )
    compare(
        got,
        right,
        what="With the eigenvalues 0.4, 0.3, 0.2, 0.1 and N = 31 a loss",
        tolerance=10 * tolerance_of(result),
        mistakes=[
            *_loss_mistakes(torch.linalg.eigvalsh(covariance).flip(0), n, right),
            Mistake(
                _path(covariance.diagonal().sort(descending=True).values, n),
                "You use the diagonal of the covariance. The variances of its own directions are "
                "its eigenvalues.",
            ),
        ],
        otherwise="Start at the trace; each direction takes lambda rho off.",
    )
    _check_predictions(plateau_predictions, covariance)
    said = ", ".join(f"{value:.3f}" for value in got.tolist())
    passed(
        6,
        f"The plateaus of this covariance lie at {said}. Hidden tests use other covariances, and "
        "contexts of one example.",
    )


def _path(values: Tensor, n: int) -> Tensor:
    """The losses that these eigenvalues would give, in this order."""
    taken = values / (1 + (1 + values.sum() / values) / n)
    return values.sum() - torch.cat([torch.zeros(1).double(), taken.cumsum(0)])


def _loss_mistakes(values: Tensor, n: int, right: Tensor) -> list[Mistake]:
    def path(rho, ordered=values):
        return ordered.sum() - torch.cat([torch.zeros(1).double(), (ordered * rho).cumsum(0)])

    total = values.sum()
    rho = 1 / (1 + (1 + total / values) / n)
    ascending = values.flip(0)
    return [
        Mistake(
            path(torch.ones_like(values)),
            "Your plateaus are those of endless contexts. E of the squared sample covariance is "
            "not Lambda^2: with N examples every direction is learned up to rho < 1.",
        ),
        Mistake(
            path(rho.flip(0), ascending),
            "You take the smallest eigenvalues first. The direction with the largest variance has "
            "the strongest gradient and is learned first.",
        ),
        Mistake(right / 2, "Losses here are without the 1/2, as in the source."),
        Mistake(
            path(1 / (1 + total / values / n)),
            "Your rho misses the 1 in (1 + tr Lambda / lambda) / N.",
        ),
        Mistake(
            path(1 / (1 + 1 / values / n)),
            "Your rho has neither the trace nor its own 1: (1 + tr Lambda / lambda) / N.",
        ),
        Mistake(path(1 / (1 + (1 + 1 / values) / n)), "Your rho has 1 in place of the trace."),
        Mistake(
            path(torch.full_like(values, 1 / (1 + 1 / n))),
            "The trace is missing in your rho: (1 + tr Lambda / lambda) / N.",
        ),
        Mistake(
            path(1 / (1 + (1 + len(values)) / n)),
            "Your rho is that of equal eigenvalues. Each direction has its own tr Lambda / lambda.",
        ),
        Mistake(path(rho.square()), "You use rho twice. A direction takes lambda rho off."),
        Mistake(
            values.sum() - right,
            "You return what has been learned. The loss is the trace minus that.",
        ),
        Mistake(right.flip(0), "Your losses run backwards: the first has learned nothing."),
    ]


def _check_predictions(answer: Callable, covariance: Tensor) -> None:
    batch, n, q, d = 2, 6, 3, 4
    xs = draw(batch, n, d, seed=62) @ torch.linalg.cholesky(covariance).mT
    ys, x_query = draw(batch, n, 1, seed=63), draw(batch, q, d, seed=64)
    for components in (2, 0, d):
        given = xs, ys, x_query
        kept = [v.clone() for v in given]
        result = call(answer, covariance, components, *given)
        for old, now, name in zip(kept, given, ("xs", "ys", "x_query"), strict=True):
            unchanged(old, now, name=name)
        got = tensor(result, (batch, q, 1), what="the predictions", axes="[batch, q, 1]")
        beta = (ys * xs).mean(1)  # [batch, d]

        def predict(matrix, beta=beta):
            return torch.einsum("bi,...ij,bqj->bq", beta, matrix, x_query)[..., None]

        values, vectors = torch.linalg.eigh(covariance)
        top, low = vectors.flip(1)[:, :components], vectors[:, :components]
        plain = top / values.flip(0)[:components] @ top.mT
        right = predict(plateau(covariance, n, components))
        bottom = sum(
            (_lowest(e, covariance, n) * torch.outer(e, e) for e in low.mT), 0 * covariance
        )
        prompt = torch.stack([_own_components(x, components) for x in xs])
        own = torch.einsum("bi,bij,bqj->bq", beta, prompt, x_query)[..., None]
        compare(
            got,
            right,
            what=f"With {components} components a prediction",
            tolerance=10 * tolerance_of(result),
            mistakes=[
                Mistake(
                    own,
                    "You take the principal components of the PROMPT. Training has put those of "
                    "the population, of `covariance`, into the weights; the prompt enters through "
                    "beta alone.",
                ),
                Mistake(
                    predict(plain),
                    "You invert the eigenvalues. At the plateau each direction has the factor "
                    "rho / lambda: a little less, since beta is noisy.",
                ),
                Mistake(
                    predict(plateau(covariance, 31, components)),
                    "You use N = 31. This prompt has its own number of examples.",
                ),
                Mistake(
                    predict(plateau(covariance, batch, components)),
                    "Your N is the size of the batch. It is the number of examples, xs.shape[1].",
                ),
                Mistake(
                    predict(covariance @ plateau(covariance, n, components) @ covariance),
                    "M has rho / lambda on each direction: divide by lambda, do not multiply.",
                ),
                Mistake(right * n, "The 1/N in beta is missing."),
                Mistake(
                    predict(bottom),
                    "You use the smallest eigenvalues. The largest are learned first.",
                ),
                Mistake(
                    predict(top @ top.mT),
                    "You project, without 1 / lambda: M has rho / lambda on each direction.",
                ),
                Mistake(
                    predict(plateau(covariance, n, components) @ covariance),
                    "The 1 / lambda is missing: M has rho / lambda on each direction.",
                ),
                Mistake(
                    predict(plateau(covariance, n, d)),
                    f"You use all directions; {components} have been learned.",
                ),
            ],
            otherwise="beta^T M x_q with M a sum over the learned directions.",
        )


def _own_components(x: Tensor, components: int) -> Tensor:
    sample = x.mT @ x / len(x)
    values, vectors = torch.linalg.eigh(sample)
    out = torch.zeros_like(sample)
    for k in range(len(values) - components, len(values)):
        rho = 1 / (1 + (1 + values.sum() / values[k]) / len(x))
        out = out + rho / values[k] * torch.outer(vectors[:, k], vectors[:, k])
    return out


# --- exercise 7 -----------------------------------------------------------------------------------


def _product(values, keys, queries) -> Tensor:
    return sum(v * torch.outer(k, q) for v, k, q in zip(values, keys, queries, strict=True))


def flow_step(heads, covariance, n_context, size, **options) -> list[Tensor]:
    """An Euler step along ``-1/2`` of the derivative that autograd finds."""
    heads = [p.clone().requires_grad_() for p in heads]
    loss = population_loss(_product(*heads), covariance, n_context, **options) / 2
    slopes = torch.autograd.grad(loss, heads)
    return [(p - size * s).detach() for p, s in zip(heads, slopes, strict=True)]


def _by_hand(heads, force, size) -> list[Tensor]:
    values, keys, queries = heads
    return [
        values + size * ((keys @ force) * queries).sum(-1),
        keys + size * values[:, None] * (queries @ force.mT),
        queries + size * values[:, None] * (keys @ force),
    ]


def _one_by_one(heads, covariance, n, size) -> list[Tensor]:
    heads = list(heads)
    for k in range(3):
        heads[k] = flow_step(heads, covariance, n, size)[k]
    return heads


def _with_one_force(heads, force, size) -> list[Tensor]:
    heads = list(heads)
    for k in range(3):
        heads[k] = _by_hand(heads, force, size)[k]
    return heads


def check_separate_step(answer: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """``answer(values, keys, queries, covariance, n_context, step_size)``."""
    h, d, n, size = 3, 4, 9, 0.2
    covariance = covariance_of([0.9, 0.5, 0.3, 0.7], seed=71)
    heads = [draw(h, seed=72), draw(h, d, seed=73), draw(h, d, seed=74)]
    kept = [p.clone() for p in (*heads, covariance)]
    result = call(answer, *heads, covariance, n, size)
    if result is None:
        fail("`separate_step` returned None. Is the `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 3:
        fail("Return three things: the new values, keys and queries.")
    names = ("values", "keys", "queries")
    for old, now, name in zip(kept, (*heads, covariance), (*names, "covariance"), strict=True):
        unchanged(old, now, name=name)
    shapes = ((h,), (h, d), (h, d))
    got = torch.cat(
        [
            tensor(
                p, shape, what=f"the {name}", axes="[H]" if name == "values" else "[H, D]"
            ).flatten()
            for p, shape, name in zip(result, shapes, names, strict=True)
        ]
    )

    def flat(new) -> Tensor:
        return torch.cat([p.flatten() for p in new])

    right = flat(flow_step(heads, covariance, n, size))
    product, square = _product(*heads), covariance @ covariance
    moment = square + (covariance + covariance.diagonal().sum() * torch.eye(d)) @ covariance / n
    scalar = square + (covariance + covariance.diagonal().sum()) @ covariance / n
    force = square - moment @ product @ covariance
    alone = [
        torch.cat(new)
        for new in zip(
            *[flow_step([p[k : k + 1] for p in heads], covariance, n, size) for k in range(h)],
            strict=True,
        )
    ]
    values, keys, queries = _by_hand(heads, force, size)
    swapped = _by_hand(heads, force.mT, size)
    mistakes = [
        Mistake(
            flat(flow_step(heads, covariance, n, size, one_over_n=False)),
            "You use E_2 = Lambda^2. The sample covariance of N examples fluctuates: its square "
            "has the mean Lambda^2 + (Lambda + tr(Lambda) I) Lambda / N.",
        ),
        Mistake(
            flat([values, swapped[1], swapped[2]]),
            "Keys and queries feel each other's force: k moves by v F q, and q by v F^T k.",
        ),
        Mistake(flat(swapped), "Your force is transposed: F = Lambda^2 - E_2 M Lambda."),
        Mistake(flat([values, swapped[1], queries]), "The force on your keys is transposed."),
        Mistake(flat([values, keys, swapped[2]]), "The force on your queries is transposed."),
        Mistake(
            flat(_by_hand(heads, square - covariance @ product @ moment, size)),
            "E_2 and Lambda have changed places around M.",
        ),
        Mistake(
            flat(_by_hand(heads, square - moment @ product, size)),
            "Lambda on the right of M, for the query, is missing.",
        ),
        Mistake(
            flat(_by_hand(heads, square - scalar @ product @ covariance, size)),
            "You add the trace to every entry. It belongs on the diagonal: tr(Lambda) I.",
        ),
        Mistake(
            flat([values, heads[1] + size * (heads[2] @ force.mT), queries]),
            "The speed of a key has the factor v: its head writes with that strength.",
        ),
        Mistake(
            flat(_one_by_one(heads, covariance, n, size)),
            "You use the new values to move the keys, and the new keys to move the queries. In a "
            "gradient step all three are taken at the old point.",
        ),
        Mistake(
            flat(_with_one_force(heads, force, size)),
            "You use the new values to move the keys, or the new keys to move the queries. In a "
            "gradient step all three are taken at the old point.",
        ),
        Mistake(
            flat(flow_step(heads, covariance, n, 2 * size)),
            "Your step is twice too long: the flow is along MINUS ONE HALF of the derivative.",
        ),
        Mistake(flat(flow_step(heads, covariance, n, size / 2)), "Your step is half too short."),
        Mistake(flat(flow_step(heads, covariance, n, -size)), "You climb: the sign is turned."),
        Mistake(
            flat(alone),
            "Each of your heads learns as if it were alone. They share one error: M is the sum "
            "over all heads.",
        ),
        Mistake(
            right - flat(heads),
            "You return the changes. The new values, keys and queries are asked for.",
        ),
    ]
    compare(
        got,
        right,
        what="A number of the new heads (values, then keys, then queries)",
        tolerance=10 * max(tolerance_of(p) for p in result),
        mistakes=mistakes,
        otherwise="The force F = Lambda^2 - E_2 M Lambda is one matrix for all heads.",
    )
    passed(7, _drift(answer, heads, covariance, n) + " Hidden tests use other sizes.")


def _drift(answer, heads, covariance, n) -> str:
    """How far ``|k|^2 - v^2`` moves until time 1, with steps of 0.1 and of 0.05."""
    drifts = []
    heads = [0.5 * p for p in heads]
    for size in (0.1, 0.05):
        now = heads
        for _ in range(round(1 / size)):
            now = call(answer, *now, covariance, n, size)
        moved = [p[1].double().square().sum(-1) - p[0].double().square() for p in (heads, now)]
        drifts.append((moved[1] - moved[0]).abs().max())
    return (
        f"Until time 1 the conserved |k|^2 - v^2 drifts by {drifts[0]:.4f} with steps of 0.1 and "
        f"by {drifts[1]:.4f} with steps half as long."
    )
