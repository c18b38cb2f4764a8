"""Exercise 5: a full-batch step, an epoch of single examples, and what an order does to each."""

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


def loss(theta: Tensor, example: tuple[Tensor, Tensor]) -> Tensor:
    """The loss of one demonstration: of a weight vector that is asked for a yes or a no."""
    x, y = example
    return (1 + (-(x @ theta) * (2 * y - 1)).exp()).log() + 0.05 * (x @ theta) ** 2


def gradient(theta: Tensor, example: tuple[Tensor, Tensor]) -> Tensor:
    """Its derivative, ``[D]``."""
    x, y = example
    return ((x @ theta).sigmoid() - y + 0.1 * (x @ theta)) * x


def hessian(theta: Tensor, example: tuple[Tensor, Tensor]) -> Tensor:
    """Its second derivative, ``[D, D]``."""
    x, _ = example
    p = (x @ theta).sigmoid()
    return (p * (1 - p) + 0.1) * torch.outer(x, x)


def examples(n: int, d: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs, and answers that are 0 or 1."""
    return list(zip(2 * draw(n, d, seed=seed), (draw(n, seed=seed + 1) > 0).double(), strict=True))


def epoch(theta, shown, rate, order) -> Tensor:
    """Stochastic descent on one example after the other."""
    for i in order:
        theta = theta - rate * gradient(theta, shown[i])
    return theta


def second_order(theta, shown, rate, order, *, pairs, power=2, sign=1.0, half=1.0):
    """``theta - rate sum g + rate^2 sum H g`` over the ``pairs`` of places that are named."""
    slopes = [gradient(theta, shown[i]) for i in order]
    curves = [hessian(theta, shown[i]) for i in order]
    out = theta - rate * sum(slopes)
    for a in range(len(order)):  # a is the place of i, b that of j
        for b in range(len(order)):
            if pairs(b, a):
                out = out + sign * half * rate**power * curves[a] @ slopes[b]
    return out


def before(b: int, a: int) -> bool:
    return b < a


def check_steps(full_batch_step: Callable, one_epoch: Callable, expected_epoch: Callable) -> None:
    """The three functions of exercise 5."""
    n, d, rate = 4, 3, 0.1
    shown, theta = examples(n, d, seed=71), 0.5 * draw(d, seed=73)
    orders = ([0, 1, 2, 3], [2, 0, 3, 1], [3, 1, 0, 2])
    _check_full(full_batch_step, theta, shown, rate, orders)
    for order in orders:
        _check_epoch(one_epoch, theta, shown, rate, order)
    for order in orders:
        _check_expected(expected_epoch, theta, shown, rate, order)
    spread, error = [], []
    for rate in (0.02, 0.01):
        ends = [call(one_epoch, theta, gradient, shown, rate, o).double() for o in orders]
        spread.append((ends[0] - ends[1]).norm().item())
        guess = call(expected_epoch, theta, gradient, hessian, shown, rate, orders[0]).double()
        error.append((ends[0] - guess).norm().item())
    steps = [
        call(full_batch_step, theta, gradient, [shown[i] for i in o], rate).double() for o in orders
    ]
    gap = max((a - steps[0]).abs().max().item() for a in steps)
    passed(
        5,
        f"A full-batch step in three orders: the same to {gap:.0e}. An epoch of single examples: "
        f"two orders end {spread[0]:.1e} apart at a step size of 0.02 and {spread[1]:.1e} at 0.01, "
        f"{spread[0] / spread[1]:.1f} times less: the order is a matter of the SQUARE of the step. "
        f"Your second-order formula misses by {error[0]:.1e} and {error[1]:.1e}, "
        f"{error[0] / error[1]:.1f} times less: what it lacks is of third order.",
    )


def _check_full(answer, theta, shown, rate, orders) -> None:
    slopes = torch.stack([gradient(theta, one) for one in shown])
    right = theta - rate * slopes.mean(0)
    middle = tuple(torch.stack(part).mean(0) for part in zip(*shown, strict=True))
    results = []
    for order in orders:
        given = [shown[i] for i in order]
        kept, listed = theta.clone(), list(given)
        result = call(answer, theta, gradient, given, rate)
        unchanged(kept, theta, name="theta")
        if len(given) != len(listed) or any(a is not b for a, b in zip(given, listed, strict=True)):
            fail("Your function changed the list `examples`. Leave it as it is.")
        got = tensor(result, tuple(theta.shape), what="theta after the full-batch step", axes="[D]")
        results.append(got)
        compare(
            got,
            right,
            what="After a full-batch step theta",
            tolerance=tolerance_of(result),
            mistakes=[
                Mistake(
                    theta - rate * slopes.sum(0),
                    "Your full-batch step uses the SUM of the gradients. Its loss is the mean.",
                ),
                Mistake(
                    epoch(theta, shown, rate, order),
                    "Your full-batch step moves theta between the examples, so that it depends on "
                    "their order. All gradients belong to the theta you were given.",
                ),
                Mistake(
                    epoch(theta, shown, rate / len(shown), order),
                    "Your full-batch step moves theta between the examples, so that it depends on "
                    "their order. All gradients belong to the theta you were given.",
                ),
                Mistake(
                    theta + rate * slopes.mean(0),
                    "Your full-batch step goes uphill: subtract the gradient.",
                ),
                Mistake(
                    theta - rate * gradient(theta, middle),
                    "You took the gradient of an average example. Average the gradients.",
                ),
                Mistake(
                    theta - rate * slopes[order[0]],
                    "Your full-batch step looks at the first example alone.",
                ),
                Mistake(
                    theta - rate * slopes[order[-1]],
                    "Your full-batch step looks at the last example alone.",
                ),
                Mistake(-rate * slopes.mean(0), "You return the step. Return theta after it."),
            ],
            otherwise="It is theta minus step_size times the mean of all gradients at theta.",
        )
    if any(not agree(a, results[0], 1e-6) for a in results):
        fail("Your full-batch step gives other weights in another order.")


def _check_epoch(answer, theta, shown, rate, order) -> None:
    kept = theta.clone()
    result = call(answer, theta, gradient, list(shown), rate, list(order))
    unchanged(kept, theta, name="theta")
    slopes = torch.stack([gradient(theta, one) for one in shown])
    inverse = sorted(range(len(order)), key=lambda i: order[i])
    path = [epoch(theta, shown, rate, order[:i]) for i in range(1, len(order) + 1)]
    compare(
        tensor(result, tuple(theta.shape), what="theta after the epoch", axes="[D]"),
        epoch(theta, shown, rate, order),
        what=f"After an epoch in the order {order} theta",
        tolerance=tolerance_of(result),
        mistakes=[
            Mistake(
                theta - rate * slopes.sum(0),
                "In your epoch all gradients belong to the first theta: that is one full-batch "
                "step. Each example meets the theta that the ones before it have left.",
            ),
            Mistake(
                theta - rate * slopes.mean(0),
                "Your epoch is one full-batch step. Each example makes a step of its own.",
            ),
            Mistake(
                epoch(theta, shown, rate, range(len(shown))),
                "Your epoch does not use `order`: it goes through the list as it stands.",
            ),
            Mistake(
                epoch(theta, shown, rate, inverse),
                "You read `order` the other way round. order[0] is the example that comes first.",
            ),
            Mistake(
                epoch(theta, shown, rate, order[::-1]), "Your epoch runs through `order` backwards."
            ),
            Mistake(
                epoch(theta, shown, rate / len(shown), order),
                "You divide the step by N. Each example makes a whole step.",
            ),
            Mistake(
                epoch(theta, shown, -rate, order), "Your epoch goes uphill: subtract the gradients."
            ),
            Mistake(path[-2], "Your epoch leaves out the last example."),
            Mistake(path[0], "Your epoch stops after one example. Is the `return` in the loop?"),
            Mistake(
                torch.stack(path).mean(0), "You average the path. Return the theta at its end."
            ),
            Mistake(
                epoch(epoch(theta, shown, rate, order), shown, rate, order), "That is two epochs."
            ),
        ],
        otherwise="One step for each index in `order`, each from where the last one ended.",
    )


def _check_expected(answer, theta, shown, rate, order) -> None:
    kept = theta.clone()
    result = call(answer, theta, gradient, hessian, list(shown), rate, list(order))
    unchanged(kept, theta, name="theta")

    def formula(pairs=before, **how) -> Tensor:
        return second_order(theta, shown, rate, how.pop("order", order), pairs=pairs, **how)

    last = "The second-order term "
    compare(
        tensor(result, tuple(theta.shape), what="the expected theta", axes="[D]"),
        formula(),
        what=f"For the order {order} the expected theta",
        tolerance=tolerance_of(result),
        mistakes=[
            Mistake(
                formula(lambda b, a: False),
                last + "is missing: this is the same for every order.",
            ),
            Mistake(
                formula(lambda b, a: b > a),
                last + "takes j AFTER i (or has H_j g_i, which comes to the same). It is the "
                "gradient of the LATER example that changes when theta moves.",
            ),
            Mistake(formula(power=1), last + "has the step size once. It is its square."),
            Mistake(
                formula(sign=-1.0),
                last + "has the wrong sign: j moves theta by MINUS eta g_j, and the step of i is "
                "minus again.",
            ),
            Mistake(
                formula(lambda b, a: b <= a),
                last + "includes j = i. An example does not come before itself.",
            ),
            Mistake(
                formula(lambda b, a: a != b, half=0.5),
                last + "is averaged over both directions, so that it is the same for every order. "
                "Only pairs with j before i count.",
            ),
            Mistake(
                formula(lambda b, a: a != b),
                last + "takes every pair in both directions. Only those with j before i count.",
            ),
            Mistake(
                formula(half=0.5),
                last + "has a factor 1/2. Each pair is met once, when i makes its step.",
            ),
            Mistake(
                formula(order=list(range(len(order)))),
                last + "does not use `order`: j before i is meant in that order.",
            ),
            Mistake(
                formula(lambda b, a: b == a - 1),
                last + "takes neighbours alone. ALL examples before i have moved theta.",
            ),
            Mistake(
                epoch(theta, shown, rate, order),
                "You return the epoch itself. The formula uses derivatives at the first theta.",
            ),
        ],
        otherwise="All derivatives are taken at the theta you were given.",
    )
