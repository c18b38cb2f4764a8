"""Exercise 2: what a context does to a block with a norm and a skip connection."""

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


def rms(stream: Tensor) -> Tensor:
    """Every row divided by the root of its mean square; its own scales on top."""
    gains = torch.linspace(0.6, 1.5, stream.shape[-1], dtype=stream.dtype)
    return gains * stream / (stream.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def layer_norm(stream: Tensor) -> Tensor:
    """Mean out, standard deviation to 1, then scales and shifts."""
    centred = stream - stream.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    gains = torch.linspace(1.4, 0.7, stream.shape[-1], dtype=stream.dtype)
    return gains * scaled + torch.linspace(-0.3, 0.4, stream.shape[-1], dtype=stream.dtype)


def attention(width: int, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """``A(C, x)``: what softmax attention adds at the query, which attends to itself too."""
    scores, values = (draw(width, width, seed=seed + k) / width**0.5 for k in range(2))

    def attend(context: Tensor, x: Tensor) -> Tensor:
        tokens = rms(torch.cat([context, x[:, None]], 1))
        weights = torch.einsum("bnd,de,be->bn", tokens, scores, tokens[:, -1]).softmax(-1)
        return torch.einsum("bn,bnd,ed->be", weights, tokens, values)

    return attend


def _change(w, z_left, z_right, z_base) -> Tensor:
    """``W (z_left - z_right) z_base^T / |z_base|^2``, one query at a time."""
    return torch.stack(
        [
            torch.outer(w @ (a - b), c) / (c @ c)
            for a, b, c in zip(z_left, z_right, z_base, strict=True)
        ]
    )


def check_change_block(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """``answer(attention, norm, w, context, x, kept) -> (delta_w, delta_b)``."""
    batch, n, h, d = 2, 5, 6, 4
    attend = attention(d, seed=21)
    w, bias, write = draw(h, d, seed=23), draw(h, seed=24), draw(d, h, seed=25)
    context, x = draw(batch, n, d, seed=26), draw(batch, d, seed=27)

    def finish(u, matrix, norm):
        hidden = (matrix @ norm(u)[..., None])[..., 0] + bias
        return u + hidden.tanh() @ write.mT

    for norm, which in ((rms, "RMS norm"), (layer_norm, "layer norm")):
        for kept in ([], [1, 3]):
            words = f"With {which} and tokens {kept} kept" if kept else f"With {which}, none kept"
            before = [t.clone() for t in (w, context, x)]
            result = call(answer, attend, norm, w, context, x, list(kept))
            if result is None:
                fail("`change_block` returned None. Is the `return` missing?")
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                fail(
                    "Return two things: the change of W, [batch, h, D], and that of b', [batch, D]."
                )
            for old, now, name in zip(before, (w, context, x), ("w", "context", "x"), strict=True):
                unchanged(old, now, name=name)
            delta_w = tensor(result[0], (batch, h, d), what="the change of W", axes="[batch, h, D]")
            delta_b = tensor(result[1], (batch, d), what="the change of b'", axes="[batch, D]")
            full, rest = (x + attend(c, x) for c in (context, context[:, kept]))
            others = [i for i in range(n) if i not in kept]
            _compare_bias(delta_b, words, norm, full, rest, x, result[1])
            _compare_weight(
                delta_w, words, norm, w, full, rest, x,
                x + attend(context[:, others], x), x + attend(context[:, :0], x), result[0],
            )  # fmt: skip
            got = finish(rest, w + delta_w, norm) + delta_b
            want = finish(full, w, norm)
            gap = (got - want).abs().max()
    lost = (finish(rest, w + delta_w, norm) - want).abs().max()
    passed(
        2,
        f"Your changed block agrees with the block with its context to {gap:.0e}; without the "
        f"change of b' it would miss by {lost:.2f}. Hidden tests use other blocks.",
    )


def _compare_bias(got, words, norm, full, rest, x, given) -> None:
    right = full - rest
    compare(
        got,
        right,
        what=f"{words} the change of b'",
        tolerance=10 * tolerance_of(given),
        mistakes=[
            Mistake(
                0 * right,
                f"{words} the change of b' is 0 in your answer. The skip carries u around the "
                "MLP, where no change of W can reach it.",
            ),
            Mistake(
                norm(full) - norm(rest),
                f"{words} your change of b' is that of the NORMALISED stream. The skip carries the "
                "stream u itself.",
            ),
            Mistake(-right, "The sign of the change of b' is turned."),
            Mistake(
                full - rest + x,
                f"{words} one of your two streams lacks the skip: both are x + attention.",
            ),
            Mistake(full, "You put the whole stream into b'. The skip carries x + A(x) already."),
            Mistake(
                full - x,
                "You put the whole of A(C, x) into b'. What attention adds without the removed "
                "tokens is in the stream already.",
            ),
        ],
        otherwise="What goes around the MLP is u = x + A(C, x).",
    )


def _compare_weight(got, words, norm, w, full, rest, x, complement, alone, given) -> None:
    z, z0 = norm(full), norm(rest)
    right = _change(w, z, z0, z0)
    no_skip = norm(full - x), norm(rest - x)
    compare(
        got,
        right,
        what=f"{words} the change of W",
        tolerance=10 * tolerance_of(given),
        mistakes=[
            Mistake(
                _change(w, full, rest, rest),
                f"{words} your change of W is made from the stream u. The dense layer reads "
                "Norm(u): use z = Norm(u) on the left, on the right and in the denominator.",
            ),
            Mistake(
                _change(w, full, rest, z0),
                f"{words} the difference in your change of W is that of the streams. The dense "
                "layer reads Norm(u).",
            ),
            Mistake(
                _change(w, z, z0, rest),
                f"{words} the vector on the right of your change of W is the stream. The dense "
                "layer meets Norm(u) there.",
            ),
            Mistake(
                _change(w, norm(full - rest), 0 * rest, z0),
                f"{words} you take the norm of the difference. It is the difference of the norms: "
                "Norm is not linear.",
            ),
            Mistake(
                _change(w, no_skip[0], no_skip[1], no_skip[1]),
                f"{words} you normalise what attention adds. The norm reads u = x + A(C, x): the "
                "skip comes first.",
            ),
            Mistake(
                _change(w, z, z0, z),
                f"{words} the right vector is the reading with the context. The changed block "
                "meets the one without it.",
            ),
            Mistake(-right, "The sign of the change of W is turned."),
            Mistake(w + right, "You return W + Delta. The change alone is asked for."),
            Mistake(
                _change(w, *no_skip, norm(x) + no_skip[1]),
                f"{words} you normalise x and what attention adds one by one. Norm(u) is of their "
                "sum.",
            ),
            Mistake(
                _change(w, z, norm(alone), norm(alone)),
                f"{words} your update stands for the whole context. The kept tokens stay: compare "
                "with the block that reads them.",
            ),
            Mistake(
                _change(w, z, norm(complement), norm(complement)),
                f"{words} you removed the tokens that are to be kept.",
            ),
        ],
        otherwise="Apply W + Delta to Norm(u) without the removed tokens.",
    )
