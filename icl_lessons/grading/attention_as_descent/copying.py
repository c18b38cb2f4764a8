"""Exercise 6: a head that copies from the token before."""

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
)
from icl_lessons.grading.sums import attention_sum, draw


def _heard(tokens: Tensor, d: int, m: int, source: Callable[[int], int | None]) -> Tensor:
    """Tokens whose k-slot holds the x-slot of token ``source(j)``; nothing where it is None."""
    out = tokens.clone()
    for j in range(len(tokens)):
        if (i := source(j)) is not None:
            out[j, d + m : d + m + d] += tokens[i, :d]
    return out


def check_copy_layer(answer: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
    """``answer(d, m, n_tokens) -> (W_Q, W_K, W_V, P)``, judged by what the layer does."""
    d, m, t = 3, 2, 5
    width = 2 * d + m + t
    result = call(answer, d, m, t)
    if result is None:
        fail("`copy_layer` returned None. Is the `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 4:
        fail("Return the four matrices as a tuple, in the order (W_Q, W_K, W_V, P).")
    weights = [
        tensor(w, (width, width), what=name, axes="[D, D] with D = 2 d + m + n_tokens")
        for w, name in zip(result, ("W_Q", "W_K", "W_V", "P"), strict=True)
    ]
    tolerance = max(tolerance_of(w) for w in result)
    content = draw(t, d + m, seed=61)
    tokens = torch.cat([content, torch.zeros(t, d).double(), torch.eye(t).double()], -1)

    def before(j):
        return j - 1 if j > 0 else None

    def after(j):
        return j + 1 if j < t - 1 else None

    right = _heard(tokens, d, m, before)
    nothing, same_slot, with_y, into_y = (tokens.clone() for _ in range(4))
    for j in range(1, t):
        same_slot[j, :d] += tokens[j - 1, :d]
        with_y[j] = right[j]
        with_y[j, d : d + m] += tokens[j - 1, d : d + m]
        into_y[j, d : d + min(d, m)] += tokens[j - 1, : min(d, m)]
    earlier = tokens.clone()
    for j in range(t):
        earlier[j, d + m : d + m + d] = tokens[:j, :d].sum(0)
    mistakes = [
        Mistake(
            nothing,
            "Your layer changes nothing. Does each query find its key, does W_V read the x-slot "
            "(its columns) and write the k-slot (its rows), and is P there?",
        ),
        Mistake(
            _heard(tokens, d, m, lambda j: j),
            "Each token hears itself. The query of token j has to be the position BEFORE its own.",
        ),
        Mistake(
            _heard(tokens, d, m, after),
            "Each token hears the NEXT one: your shift runs the other way, and a causal mask would "
            "leave nothing. The query of token j is p_(j-1); with columns, that is a matrix with "
            "ones ABOVE the diagonal.",
        ),
        Mistake(
            _heard(tokens, d, m, lambda j: (j - 1) % t),
            "The first token hears the last one: your shift is cyclic. Position 0 has nothing "
            "before it and should hear nothing.",
        ),
        Mistake(
            _heard(tokens, d, m, lambda j: max(j - 1, 0)),
            "The first token hears itself. Position 0 has nothing before it and should hear "
            "nothing.",
        ),
        Mistake(
            same_slot,
            "You write into the x-slot. An example's y-token would then look like a whole example, "
            "and so would its x-token, whose y-slot is not a target: write into the k-slot.",
        ),
        Mistake(
            into_y,
            "You write into the y-slot. The copy goes into the k-slot, which starts at d + m.",
        ),
        Mistake(
            tokens + torch.cat([torch.zeros(1, tokens.shape[1]).double(), tokens[:-1]]),
            "Each token hears the whole token before it. The value is the x-slot alone, written "
            "into the k-slot.",
        ),
        Mistake(with_y, "You copy the y-slot too. The value is the x-slot alone."),
        Mistake(
            earlier,
            "Each token hears all the tokens before it. Its query has to meet one key, that of the "
            "position just before.",
        ),
        Mistake(2 * tokens - right, "Your copy has the wrong sign."),
    ]
    for words, may_read in (
        ("when every token may read every other", lambda j, i: True),
        ("under a causal mask", lambda j, i: i <= j),
    ):
        compare(
            attention_sum(tokens[None], *weights, may_read)[0],
            right,
            what=f"What the layer writes {words}",
            tolerance=tolerance,
            mistakes=mistakes,
            otherwise="Print (W_K @ e_i) @ (W_Q @ e_j): it has to be 1 for i = j - 1 and 0 "
            "otherwise. Then print W_V @ e_i: it has to be x_i in the k-slot and 0 elsewhere.",
        )
    passed(6, "Hidden tests use other sizes and a single token.")
