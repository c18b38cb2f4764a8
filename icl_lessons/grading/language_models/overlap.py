"""Exercises 1 and 2: the top tokens that two distributions share, and how alike they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from icl_lessons.grading.language_models.seeds import each
from icl_lessons.grading.sums import draw


def top(law: Tensor, k: int, *, last_first: bool = False, least: bool = False) -> list[int]:
    """The ``k`` most probable tokens of one distribution, best first; ties by their number."""
    sign = -1 if last_first else 1
    values = law.tolist()
    way = 1 if least else -1
    return sorted(range(len(values)), key=lambda v: (way * values[v], sign * v))[:k]


def _shared(p: Tensor, q: Tensor, k: int, **how: bool) -> list[set[int]]:
    return [set(top(a, k, **how)) & set(top(b, k, **how)) for a, b in zip(p, q, strict=True)]


def _laws(ranks: list[list[float | int]]) -> Tensor:
    weights = torch.tensor(ranks, dtype=torch.float64)
    return weights / weights.sum(-1, keepdim=True)


def _overlap_cases() -> Iterator[tuple[str, Tensor, Tensor, int]]:
    p = _laws([[9, 8, 7, 4, 3, 2, 1], [1, 9, 2, 8, 3, 7, 4], [9, 7, 5, 3, 2, 1.5, 1]])
    q = _laws([[8, 9, 2, 3, 7, 1, 4], [9, 1, 8, 2, 7, 3, 4], [9, 7, 5, 1, 1.5, 2, 3]])
    for k in (3, 1, 5, 7):
        yield f"With k = {k}", p, q, k
    p = _laws([[5, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1], [1, 4, 4, 4, 1, 1]])
    q = _laws([[2, 2, 5, 2, 2, 2], [1, 2, 3, 4, 5, 6], [9, 1, 1, 1, 1, 8]])
    for k in (2, 4):
        yield f"With k = {k} and equal probabilities", p, q, k


def check_token_overlap(
    answer: Callable[[Tensor, Tensor, int], Tensor], course: ModuleType
) -> None:
    """``answer(p, q, k) -> [queries]``."""
    for words, p, q, k in _overlap_cases():
        kept = p.clone(), q.clone()
        result = call(answer, p, q, k)
        unchanged(kept[0], p, name="p")
        unchanged(kept[1], q, name="q")
        if isinstance(result, (int, float)) or isinstance(result, Tensor) and result.dim() == 0:
            fail("You return one number. Each query has an overlap of its own: [queries].")
        got = tensor(result, (len(p),), what="the overlap", axes="[queries]")
        compare(
            got,
            _counts(p, q, k) / k,
            what=f"{words} the overlap",
            tolerance=tolerance_of(result),
            mistakes=_overlap_mistakes(p, q, k),
            otherwise="Rank by falling probability, and by rising number where two are equal.",
        )
    own, alone = [], []
    for seed in range(3):
        law = course.in_context("stance", 2, seed)
        own.append(call(answer, law, course.tuned("stance", 2, seed, 0.03, 20), 10).mean().item())
        alone.append(call(answer, law, course.zero_shot("stance", 2, seed), 10).mean().item())
    passed(
        1,
        "Hidden tests use other sizes and closer ties. CourseLM, stance, 2 demonstrations, the top "
        f"10 of 66 tokens: in context and after descent on the two share {each(own)} "
        f"(one number for each seed). Is that much? In context and with NO demonstrations share "
        f"{each(alone)}.",
    )


def _counts(p: Tensor, q: Tensor, k: int, **how: bool) -> Tensor:
    return torch.tensor([float(len(o)) for o in _shared(p, q, k, **how)], dtype=torch.float64)


def _overlap_mistakes(p: Tensor, q: Tensor, k: int) -> list[Mistake]:
    shared, size = _counts(p, q, k), p.shape[-1]
    places = [
        sum(a == b for a, b in zip(top(x, k), top(y, k), strict=True))
        for x, y in zip(p, q, strict=True)
    ]
    at_least = []
    for x, y in zip(p, q, strict=True):
        masks = [law >= law.sort(descending=True).values[k - 1] for law in (x, y)]
        at_least.append(float((masks[0] & masks[1]).sum()))
    return [
        Mistake(
            shared / (2 * k - shared),
            "You divide by the size of the union. Token overlap divides by k.",
        ),
        Mistake(shared / size, "You divide by the size of the vocabulary. The top sets have k."),
        Mistake(shared, "You return how many tokens are shared. Divide by k."),
        Mistake(
            torch.tensor(places).double() / k,
            "You ask for the same token at the same rank. The two top sets are compared as sets.",
        ),
        Mistake(
            torch.tensor(at_least).double() / k,
            "Where probabilities are equal, your top set has more than k tokens. Take all that "
            "come before in the ranking, and of the equal ones those with the smallest numbers.",
        ),
        Mistake(
            _counts(p, q, k, last_first=True) / k,
            "Of equally probable tokens you take those with the LARGEST numbers first.",
        ),
        Mistake(_counts(p, q, k, least=True) / k, "You took the k LEAST probable tokens of each."),
        Mistake((2 * k - shared) / k, "You count the union. Count the tokens that BOTH have."),
        Mistake(1 - shared / k, "You count the tokens that are not shared."),
    ]


# --- exercise 2 -----------------------------------------------------------------------------------


def _overlapping(k: int, size: int, seed: int) -> tuple[Tensor, Tensor, list[int]]:
    """Pairs of distributions whose top ``k`` share 0, 1, ..., ``k`` tokens."""
    rows = []
    for shared in range(k + 1):
        logits = draw(2, size, seed=seed + shared)
        logits[0, :k] += 6
        logits[1, k - shared : 2 * k - shared] += 6
        rows.append(logits.softmax(-1))
    p, q = torch.stack(rows).unbind(1)
    return p, q, [len(o) for o in _shared(p, q, k)]


def cosines(p: Tensor, q: Tensor, sets: list[set[int]]) -> Tensor:
    """The cosine of two distributions on given tokens, one token at a time; 0 on none."""
    out = []
    for a, b, tokens in zip(p.tolist(), q.tolist(), sets, strict=True):
        product = sum(a[t] * b[t] for t in tokens)
        squares = sum(a[t] ** 2 for t in tokens) * sum(b[t] ** 2 for t in tokens)
        out.append(product / squares**0.5 if tokens else 0.0)
    return torch.tensor(out, dtype=torch.float64)


def check_overlap_cosine(
    answer: Callable[[Tensor, Tensor, int], Tensor], course: ModuleType
) -> None:
    """``answer(p, q, k) -> [queries]``."""
    for k, size, seed in ((4, 9, 200), (3, 8, 220), (1, 4, 240)):
        p, q, shared = _overlapping(k, size, seed)
        kept = p.clone(), q.clone()
        result = call(answer, p, q, k)
        unchanged(kept[0], p, name="p")
        unchanged(kept[1], q, name="q")
        _refuse_divisions(result, shared, k)
        got = tensor(result, (len(p),), what="the similarity", axes="[queries]")
        sets = _shared(p, q, k)
        count = torch.tensor(shared).double()
        compare(
            got,
            cosines(p, q, sets) / (k - count).clamp_min(1),
            what=f"With k = {k} and {', '.join(map(str, shared))} shared tokens the similarity",
            tolerance=tolerance_of(result),
            mistakes=_cosine_mistakes(p, q, k, sets, count),
            otherwise="Every sum is over the shared tokens alone.",
        )
    own, alone, plain = [], [], []
    for seed in range(3):
        law = course.in_context("stance", 2, seed)
        moved = course.tuned("stance", 2, seed, 0.03, 20)
        own.append(call(answer, law, moved, 10).mean().item())
        alone.append(call(answer, law, course.zero_shot("stance", 2, seed), 10).mean().item())
        plain.append(cosines(law, moved, [set(range(66))] * len(law)).mean().item())
    passed(
        2,
        "CourseLM, stance, 2 demonstrations, k = 10, one number for each seed: in context and "
        f"after descent {each(own)}, in context and with no demonstrations "
        f"{each(alone)}. The cosine over all tokens, for comparison: {each(plain)}.",
    )


def _refuse_divisions(result: object, shared: list[int], k: int) -> None:
    if not isinstance(result, Tensor) or tuple(result.shape) != (len(shared),):
        return
    bad = [not torch.isfinite(value) for value in result.detach()]
    for count, wrong in zip(shared, bad, strict=True):
        if wrong and count == 0:
            fail(
                "Where nothing is shared your similarity is no number: the cosine is 0 / 0 there. "
                "It is defined as 0."
            )
        if wrong and count == k:
            fail(
                f"Where all {k} tokens are shared your similarity is no number: k - |O| is 0. The "
                "divisor is never below 1."
            )


def _cosine_mistakes(p, q, k, sets, count) -> list[Mistake]:
    everything = [set(range(p.shape[-1]))] * len(p)
    cosine, missing = cosines(p, q, sets), (k - count).clamp_min(1)
    unions = [set(top(a, k)) | set(top(b, k)) for a, b in zip(p, q, strict=True)]
    product = torch.tensor(
        [sum(float(a[t] * b[t]) for t in tokens) for a, b, tokens in zip(p, q, sets, strict=True)]
    ).double()
    lengths = torch.stack(
        [
            a.sort().values[-k:].norm() * b.sort().values[-k:].norm()
            for a, b in zip(p, q, strict=True)
        ]
    )
    return [
        Mistake(
            cosines(p, q, everything) / missing,
            "Your sums run over the whole vocabulary. They are over the shared tokens O alone.",
        ),
        Mistake(
            cosines(p, q, everything),
            "You return the cosine over the whole vocabulary. It does not see which tokens are on "
            "top.",
        ),
        Mistake(
            cosines(p, q, unions) / missing,
            "Your sums run over the union of the top sets. O is their intersection.",
        ),
        Mistake(cosine, "The divisor max(1, k - |O|) is missing."),
        Mistake(
            cosine / missing.sqrt(),
            "You divide by the root of k - |O|. Some read the paper so; here it is k - |O| itself.",
        ),
        Mistake(
            cosine / (k - count + 1),
            "You divide by k - |O| + 1. That treats |O| = k - 1 unlike |O| = k; max(1, k - |O|) "
            "treats them alike.",
        ),
        Mistake(
            cosine * count / k,
            "You multiply by the token overlap |O| / k. The divisor is max(1, k - |O|).",
        ),
        Mistake(cosine / count.clamp_min(1), "You divide by |O|, the number of SHARED tokens."),
        Mistake(cosine / k, "You divide by k. The divisor is max(1, k - |O|)."),
        Mistake(
            product / lengths,
            "The lengths in your cosine are those of the whole top sets. Sum over O there too.",
        ),
        Mistake(
            product / lengths / missing,
            "The lengths in your cosine are those of the whole top sets. Sum over O there too.",
        ),
        Mistake(
            product / (p.norm(dim=-1) * q.norm(dim=-1)) / missing,
            "The lengths in your cosine are over the whole vocabulary. Sum over O there too.",
        ),
        Mistake(
            product / missing,
            "You return the product without the lengths below it. Divide by both.",
        ),
        Mistake(
            cosines(p.log(), q.log(), sets) / missing,
            "You took the cosine of LOG-probabilities. The measure is about probabilities.",
        ),
        Mistake(
            torch.where(count == 0, torch.ones_like(cosine), cosine / missing),
            "Where nothing is shared you return 1. Nothing in common is 0.",
        ),
    ]
