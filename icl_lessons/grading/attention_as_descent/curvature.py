"""Exercises 2 and 5: GD++ and its preconditioners; Newton's iteration and matching steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    agree,
    call,
    compare,
    fail,
    passed,
    tensor,
    tolerance_of,
    unchanged,
)
from icl_lessons.grading.sums import draw


def _plus_plus(
    tokens, d, n, y_rate, x_rate, *, x_keys=None, y_keys=None, new_score=False, x_rows=None
):
    """One GD++ layer, one pair of tokens at a time, with things to get wrong."""
    moved, out = tokens.clone(), tokens.clone()
    for b in range(len(tokens)):
        rows = len(tokens[b])
        for j in range(x_rows or rows):
            for i in range(x_keys or n):
                x_i, x_j = tokens[b, i, :d], tokens[b, j, :d]
                moved[b, j, :d] = moved[b, j, :d] - x_rate * x_i * (x_i @ x_j)
        read = moved if new_score else tokens
        for j in range(rows):
            out[b, j, :d] = moved[b, j, :d]
            for i in range(y_keys or n):
                score = read[b, i, :d] @ read[b, j, :d]
                out[b, j, d:] = out[b, j, d:] - y_rate * tokens[b, i, d:] * score
    return out


def _check_layer(answer: Callable[..., Tensor]) -> None:
    batch, n, q, d, m, eta, gamma = 2, 4, 2, 3, 2, 0.6, 0.15
    tokens = draw(batch, n + q, d + m, seed=20)
    kept = tokens.clone()
    result = call(answer, tokens, d, n, eta, gamma)
    got = tensor(result, (batch, n + q, d + m), what="the tokens", axes="[batch, n + q, d + m]")
    unchanged(kept, tokens, name="tokens")

    def by_sums(y_rate=eta / n, x_rate=gamma, **changed):
        return _plus_plus(tokens, d, n, y_rate, x_rate, **changed)

    right = by_sums()
    mistakes = [
        Mistake(
            by_sums(new_score=True),
            "Your y update reads the NEW x. Both updates of a layer read the tokens that came in: "
            "keep the old x until y is written.",
        ),
        Mistake(
            by_sums(x_rate=gamma / n),
            "Your x update is divided by N. It uses H = X^T X, the sum over the context; only the "
            "y update carries 1/N.",
        ),
        Mistake(
            by_sums(y_rate=eta),
            "Your y update lacks the 1/N: it is a step on the average loss, eta / N times a sum.",
        ),
        Mistake(
            by_sums(x_rate=-gamma),
            "Your x update has the wrong sign: (I - gamma H) x shrinks the steep directions.",
        ),
        Mistake(
            by_sums(y_rate=-eta / n),
            "Your y update has the wrong sign: y_j loses what the new model explains.",
        ),
        Mistake(by_sums(x_rate=0.0), "Your x does not move: gamma is not in your layer."),
        Mistake(
            by_sums(x_rows=n),
            "The x of your queries does not move. Every token is moved by (I - gamma H), the "
            "queries too: later layers compare them with the moved context.",
        ),
        Mistake(
            by_sums(x_keys=n + q, y_keys=n + q),
            "Your sums read the queries too. Only the context is read.",
        ),
        Mistake(
            by_sums(x_keys=n + q),
            "The sum of your x update reads the queries too. H is the sum over the context alone.",
        ),
    ]
    compare(
        got,
        right,
        what="A token after the layer",
        tolerance=tolerance_of(result),
        mistakes=mistakes,
        otherwise="Compute all scores x_i . x_j first, from the tokens that came in.",
    )


def _squares(xs, gammas, *, scale=1.0, sign=-1.0, power=2, shift=0, old_h=False):
    """``A_k^2`` of each layer from what the layers do to the unit vectors; ``[K, batch, d, d]``."""
    out = []
    for x in xs:
        basis, context, inner = torch.eye(x.shape[1]).double(), x.clone(), []
        for gamma in [*gammas, 0.0]:
            inner.append(torch.linalg.matrix_power(basis.mT, power))
            read = x if old_h else context
            move = sum((torch.outer(c, c) for c in read), start=0 * basis) * scale * gamma
            basis, context = basis + sign * basis @ move, context + sign * context @ move
        out.append(torch.stack(inner[shift : shift + len(gammas)]))
    return torch.stack(out, 1)


def check_plus_plus(layer: Callable[..., Tensor], preconditioners: Callable[..., Tensor]) -> None:
    """``layer(tokens, d, n_context, step_size, gamma)``; ``preconditioners(xs, gammas)``."""
    _check_layer(layer)
    batch, n, d, gammas = 2, 5, 3, [0.11, 0.17, 0.06]
    xs = 0.7 * draw(batch, n, d, seed=21)
    kept = xs.clone()
    result = call(preconditioners, xs, gammas)
    if isinstance(result, (list, tuple)):
        fail("Return one tensor: torch.stack puts the layers' matrices on a first axis.")
    got = tensor(
        result, (len(gammas), batch, d, d), what="the preconditioners", axes="[layers, batch, d, d]"
    )
    unchanged(kept, xs, name="xs")
    right = _squares(xs, gammas)
    mistakes = [
        Mistake(
            _squares(xs, gammas, power=1),
            "You return A_k. The y update of layer k compares two inputs that have both been "
            "moved by A_k, so the gradient meets A_k twice: return the square.",
        ),
        Mistake(
            _squares(xs, gammas, scale=1 / n),
            "You use S = X^T X / N where H = X^T X is meant: gamma multiplies the sum, not the "
            "average.",
        ),
        Mistake(
            _squares(xs, gammas, shift=1),
            "Your list is one layer ahead. The first layer reads the inputs as they came, so A_1 "
            "is the identity; the last gamma moves inputs that no layer reads any more.",
        ),
        Mistake(
            _squares(xs, gammas, old_h=True),
            "You use the same H in every layer. After the first layer the context has moved too: "
            "layer k sees A_k H A_k.",
        ),
        Mistake(
            _squares(xs, gammas, sign=1.0),
            "Your inputs move the wrong way: A_2 is I - gamma_1 H.",
        ),
    ]
    for k, words in enumerate(("first", "second", "third")):
        compare(
            got[k],
            right[k],
            what=f"The preconditioner of the {words} layer",
            tolerance=tolerance_of(result),
            mistakes=[
                Mistake(mistake.value[k], mistake.sentence)
                for mistake in mistakes
                if agree(got, mistake.value, tolerance_of(result))
            ],
            otherwise="Follow one input through the layers: x becomes A_k x before layer k.",
        )
    passed(2, "Hidden tests use other sizes, fewer examples than inputs, and up to four layers.")


def _by_eigenvalues(s, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """The matrix function of symmetric matrices that acts on eigenvalues as ``rule``."""
    values, vectors = torch.linalg.eigh(s)
    return vectors @ torch.diag_embed(rule(values)) @ vectors.mT


def _iterated(first, then, steps):
    def rule(values):
        m = first(values)
        for _ in range(steps):
            m = then(m, values)
        return m

    return rule


def _entrywise(s, alpha, steps):
    m = alpha * s
    for _ in range(steps):
        m = 2 * m - m * s * m
    return m


def _check_newton_schulz(answer: Callable[..., Tensor]) -> None:
    batch, d = 2, 3
    xs = draw(batch, 6, d, seed=22)
    s = xs.mT @ xs
    alpha = 1 / float(torch.linalg.eigvalsh(s).max()) ** 2
    for steps in (1, 4):
        kept = s.clone()
        result = call(answer, s, alpha, steps)
        got = tensor(result, (batch, d, d), what="M", axes="[batch, d, d]")
        unchanged(kept, s, name="s")

        def newton(m, v):
            return 2 * m - m * v * m

        right = _by_eigenvalues(
            s, lambda v, steps=steps: (1 - (1 - alpha * v**2) ** (2**steps)) / v
        )

        def start(v):
            return alpha * v

        mistakes = [
            Mistake(
                _by_eigenvalues(s, _iterated(lambda v: alpha + 0 * v, newton, steps)),
                "Your M_0 is alpha times the identity. Here M_0 = alpha S.",
            ),
            Mistake(
                _by_eigenvalues(s, _iterated(lambda v: v, newton, steps)),
                "Your M_0 is S: alpha is missing.",
            ),
            Mistake(
                _by_eigenvalues(s, _iterated(start, newton, steps - 1)),
                f"You made {steps - 1} step(s) where {steps} were asked for: M_0 is before the "
                "first step.",
            ),
            Mistake(
                _by_eigenvalues(s, _iterated(start, newton, steps + 1)),
                f"You made {steps + 1} steps where {steps} were asked for.",
            ),
            Mistake(
                _by_eigenvalues(s, _iterated(start, lambda m, v: 2 * m - m * m, steps)),
                "S is missing from your step: it is 2 M - M S M.",
            ),
            Mistake(
                _by_eigenvalues(s, _iterated(start, lambda m, v: m - m * v * m, steps)),
                "Your step is M - M S M, which runs to 0. It is 2 M - M S M.",
            ),
            Mistake(
                _by_eigenvalues(
                    s, _iterated(start, lambda m, v: m + alpha * v * (1 - m * v), steps)
                ),
                "Your step is one of gradient descent, of degree one more in S each time. Newton's "
                "step, 2 M - M S M, uses the current M twice and doubles the degree.",
            ),
            Mistake(
                _entrywise(s, alpha, steps),
                "You multiply entry by entry: `*` where the matrix product `@` is meant.",
            ),
            Mistake(
                torch.linalg.inv(s),
                "You return the inverse of S. M_k is on its way there: apply the steps.",
            ),
        ]
        compare(
            got,
            right,
            what=f"M after {steps} step(s)",
            tolerance=tolerance_of(result),
            mistakes=mistakes,
            otherwise="For a 1 by 1 matrix S = s: m becomes 2 m - s m^2.",
        )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()


def check_newton(newton_schulz: Callable[..., Tensor], matching: Callable[..., object]) -> None:
    """``newton_schulz(s, alpha, steps)``; ``matching(model, algorithm, targets)``."""
    _check_newton_schulz(newton_schulz)
    batch, t = 3, 6
    targets = 2 * draw(batch, t, seed=23)
    errors = draw(batch, t, seed=24) * torch.tensor([[2.0], [0.3], [1.0]]).double()
    model = targets + errors
    algorithm = targets + torch.stack(
        [
            errors + 0.25 * errors.norm(dim=-1, keepdim=True) * draw(batch, t, seed=25),  # near
            1.3 * model
            + 0.05 * draw(batch, t, seed=27)
            - targets,  # predictions point the same way
            0.3 * errors + 0.03 * draw(batch, t, seed=26),  # the best match, and not the nearest
            -2.5 * errors,
            draw(batch, t, seed=28),
        ]
    )
    kept = [x.clone() for x in (model, algorithm, targets)]
    result = call(matching, model, algorithm, targets)
    for before, after, name in zip(
        kept, (model, algorithm, targets), ("model", "algorithm", "targets"), strict=True
    ):
        unchanged(before, after, name=name)
    if result is None:
        fail("`best_matching_steps` returned None. Is the `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        fail("Return two numbers as a tuple: (the number of steps, its similarity).")
    numbers = []
    for value, what in zip(result, ("The number of steps", "The similarity"), strict=True):
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            fail(f"{what} should be one number; got {type(value).__name__}.")
        numbers.append(float(value))
    if numbers[1] != numbers[1]:
        fail("The similarity is NaN: look for a division by zero.")

    residual, residuals = model - targets, algorithm - targets
    curves = {
        "You take the cosine of the PREDICTIONS. Two learners that are roughly right agree in "
        "their predictions, because both agree with the targets: subtract the targets first.": (
            _cosine(model, algorithm).mean(-1)
        ),
        "You take one cosine for all sequences at once. Take one for each sequence, then average: "
        "otherwise the sequences with large errors decide.": _cosine(
            residual.flatten(), residuals.flatten(1)
        ),
        "You average the residuals over the sequences before the cosine. Take a cosine for each "
        "sequence, then average.": _cosine(residual.mean(0), residuals.mean(1)),
        "You take the absolute value of the cosine. Errors of opposite sign are not a match.": (
            _cosine(residual, residuals).abs().mean(-1)
        ),
        "You take the cosine across the sequences at each position. The residual vector of a "
        "sequence has one entry for each of its positions.": _cosine(
            residual.mT, residuals.mT
        ).mean(-1),
        "You add the cosines of the sequences. Average them.": _cosine(residual, residuals).sum(-1),
    }
    nearest = (residuals - residual).square().mean((-1, -2))
    curve = _cosine(residual, residuals).mean(-1)
    right = torch.tensor([float(curve.argmax()), float(curve.max())]).double()
    mistakes = [
        Mistake(torch.tensor([float(c.argmax()), float(c.max())]).double(), sentence)
        for sentence, c in curves.items()
    ]
    k, worst = int(nearest.argmin()), int(curve.argmin())
    mistakes += [
        Mistake(right.flip(0), "The number of steps comes first, then the similarity."),
        Mistake(
            torch.tensor([float(curve.argmax()) + 1, float(curve.max())]).double(),
            "Your number of steps is one too large: algorithm[0] holds the predictions before the "
            "first step.",
        ),
        Mistake(
            torch.tensor([float(k), float(curve[k])]).double(),
            "You choose the steps with the smallest distance. Here the best match has the largest "
            "cosine.",
        ),
        Mistake(
            torch.tensor([float(worst), float(curve[worst])]).double(),
            "You choose the worst match: the best has the largest cosine.",
        ),
    ]
    compare(
        torch.tensor(numbers).double(),
        right,
        what="(steps, similarity)",
        tolerance=1e-4,
        mistakes=mistakes,
        otherwise="Residuals first, one cosine a sequence, their mean, then the largest.",
    )
    passed(5, "Hidden tests use a singular S, zero steps, and algorithms that match at step 0.")
