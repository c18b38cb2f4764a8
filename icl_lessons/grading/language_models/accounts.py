"""Exercise 8: which account of a model's answers comes closest."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

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


def divergences(answers: Tensor, accounts: Tensor, floor: float) -> Tensor:
    """Mean ``KL(answer || account)`` with a share ``floor`` of the uniform law, ``[accounts]``."""
    size = answers.shape[-1]
    out = []
    for account in accounts:
        total = torch.zeros((), dtype=torch.float64)
        for p, q in zip(answers, account, strict=True):
            for a, b in zip(p, q, strict=True):
                if a > 0:
                    total = total + a * (a / ((1 - floor) * b + floor / size)).log()
        out.append(total / len(answers))
    return torch.stack(out)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (torch.xlogy(p, p) - p * q.log()).sum(-1)


def _case(queries: int, words: int, seed: int) -> tuple[Tensor, Tensor]:
    """Answers, and accounts: flat, near, sharp and wrong now and then, one that fits on average."""
    logits = 2 * draw(queries, words, seed=seed)
    answers = logits.softmax(-1)
    sharp = torch.nn.functional.one_hot(answers.argmax(-1), words).double()
    accounts = torch.stack(
        [
            answers.roll(1, 0),
            0.5 * answers + 0.5 / words,
            (logits + draw(queries, words, seed=seed + 1)).softmax(-1),
            sharp,
        ]
    )
    return answers, accounts


def check_best_account(answer: Callable, course: ModuleType) -> None:
    """``answer(answers, accounts, floor) -> ([accounts] integers, [accounts])``."""
    for queries, words, seed, floor in ((4, 5, 111, 0.001), (6, 3, 114, 0.02)):
        answers, accounts = _case(queries, words, seed)
        kept = answers.clone(), accounts.clone()
        result = call(answer, answers, accounts, floor)
        unchanged(kept[0], answers, name="answers")
        unchanged(kept[1], accounts, name="accounts")
        if result is None:
            fail("`best_account` returned None. Is the `return` missing?")
        if not isinstance(result, (list, tuple)) or len(result) != 2:
            fail("Return two things: the accounts from best to worst, and their divergences.")
        _compare(result, answers, accounts, floor)
    _say(answer, course)


def _compare(result, answers, accounts, floor) -> None:
    found = result[1]
    if isinstance(found, Tensor) and found.shape == (len(accounts),):
        if not bool(torch.isfinite(found).all()):
            fail(
                "A divergence of yours is infinite or no number. One account gives some words "
                "probability 0: mix the floor in before you take the logarithm."
            )
    got = tensor(found, (len(accounts),), what="the divergences", axes="[accounts]")
    right = divergences(answers, accounts, floor)
    compare(
        got,
        right,
        what="A divergence",
        tolerance=tolerance_of(found),
        mistakes=_mistakes(answers, accounts, floor),
        otherwise="KL(answer || account) sums answer log(answer / account) over words.",
    )
    order = result[0]
    try:
        order = [int(i) for i in order]
    except (TypeError, ValueError):
        fail("The first thing is the numbers of the accounts, from best to worst.")
    wanted = sorted(range(len(right)), key=lambda i: (float(right[i]), i))
    if order == wanted[::-1]:
        fail("Your order runs from the worst to the best: a SMALL divergence is a good account.")
    if sorted(order) != list(range(len(right))):
        fail(f"The order names every account once, from 0; got {order}.")
    if order == sorted(range(len(wanted)), key=lambda i: wanted[i]) and order != wanted:
        fail("You return the rank of each account. Return the accounts in order, the best first.")
    if order != wanted:
        fail(f"The divergences are right, their order is not: got {order}, {wanted} is right.")


def _mistakes(answers, accounts, floor) -> list[Mistake]:
    size = answers.shape[-1]
    uniform = torch.full_like(answers, 1 / size)
    mixed = (1 - floor) * accounts + floor / size
    both = (1 - floor) * answers + floor / size
    average = torch.stack([_kl(answers.mean(0), m.mean(0)) for m in mixed])
    clamped = accounts.clamp_min(floor)
    raised = accounts + floor
    entropy = -(torch.xlogy(answers, answers)).sum(-1).mean()
    right = divergences(answers, accounts, floor)
    return [
        Mistake(
            torch.stack([_kl(m, answers).mean() for m in mixed]),
            "You take KL(account || answer). The other way round: what matters is where the MODEL "
            "puts its probability, so answers come first.",
        ),
        Mistake(
            torch.stack([_kl(a, both).mean() for a in accounts]),
            "You take KL(account || answer), with the floor in the answers. Answers come first, "
            "and the floor belongs to the accounts.",
        ),
        Mistake(
            average,
            "You average the probabilities over queries before comparing. An account that is wrong "
            "on every single query can be right on average.",
        ),
        Mistake(
            torch.stack([_kl(answers, c).mean() for c in clamped]),
            "You raise small probabilities to the floor. Mix: (1 - floor) q + floor / V.",
        ),
        Mistake(
            torch.stack([_kl(answers, c / c.sum(-1, keepdim=True)).mean() for c in clamped]),
            "You raise small probabilities to the floor. Mix: (1 - floor) q + floor / V.",
        ),
        Mistake(
            torch.stack([_kl(answers, r).mean() for r in raised]),
            "You add the floor to every word: it is a share of the UNIFORM law, floor / V each, "
            "and the rest shrinks to 1 - floor.",
        ),
        Mistake(
            torch.stack([_kl(answers, a + floor / size).mean() for a in accounts]),
            "You add floor / V without shrinking the rest: the account sums to more than 1.",
        ),
        Mistake(
            torch.stack([_kl(answers, (1 - floor) * a + floor).mean() for a in accounts]),
            "Your floor is added to every word in full. Shared by all V words it is floor / V.",
        ),
        Mistake(
            torch.stack([_kl(both, m).mean() for m in mixed]),
            "You mix the floor into the answers as well. They are what is to be explained.",
        ),
        Mistake(
            divergences(answers, accounts, 0.001),
            f"You use a floor of your own. Here it is {floor:g}: take the argument.",
        ),
        Mistake(
            torch.stack([_kl(answers, m).sum() for m in mixed]),
            "You sum over queries. Take the mean.",
        ),
        Mistake(right / size, "You take the mean over words. A divergence sums over them."),
        Mistake(
            right + entropy,
            "You return the cross-entropy: the answers' own entropy is still in it.",
        ),
        Mistake(right / torch.tensor(2.0).log(), "That is in bits. Use natural logarithms."),
        Mistake(-right, "The sign is turned: a divergence is never negative."),
        Mistake(
            torch.stack([(answers - m).abs().sum(-1).mean() for m in mixed]),
            "That is the summed distance. Use the divergence.",
        ),
        Mistake(
            torch.stack([_kl(answers, m).mean() + _kl(m, answers).mean() for m in mixed]) / 2,
            "You symmetrise. The divergence from answers to account alone is asked for.",
        ),
        Mistake(
            torch.stack([_kl(answers, uniform).mean() for _ in mixed]),
            "You compare with the uniform law. Mix a little of it into the account.",
        ),
    ]


def _say(answer: Callable, course: ModuleType) -> None:
    names = ("no demonstrations", "descent", "the Bayes filter")
    best = []
    for seed in range(3):
        told = course.in_context("stance", 8, seed)
        accounts = torch.stack(
            [
                course.zero_shot("stance", 8, seed),
                course.tuned("stance", 8, seed, 0.03, 20),
                course.bayes("stance", 8, seed),
            ]
        )
        order, far = call(answer, told, accounts, 0.001)
        first = int(list(order)[0])
        best.append(f"{names[first]} ({float(far[first]):.3f})")
    passed(
        8,
        "CourseLM, stance, 8 demonstrations; of no demonstrations, 20 epochs of full-batch descent "
        f"and the exact Bayes filter of its text, the best account is, seed by seed: "
        f"{'; '.join(best)}. Hidden tests use other floors and sizes.",
    )
