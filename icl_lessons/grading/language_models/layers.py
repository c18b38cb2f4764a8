"""Exercise 7: an update that uses nothing from the blocks above."""

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


def streams(weights: list[Tensor], x: Tensor) -> list[Tensor]:
    """``h_0, h_1, ..., h_L``, with ``h_(l+1) = h_l + tanh(W_l h_l)``."""
    out = [x]
    for w in weights:
        out.append(out[-1] + (out[-1] @ w.mT).tanh())
    return out


def cross_entropy(h: Tensor, read_out: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``-log p(label)``, with ``p`` the softmax of ``U h``."""
    laws = (h @ read_out.mT).log_softmax(-1)
    return -laws.gather(-1, labels[:, None]).mean()


def local_slopes(
    weights, read_out, x, labels, *, at=1, skip=True, states=None, share=None
) -> list[Tensor]:
    """Gradients of each block's own loss, by hand.

    Args:
        at: whether the loss is read after the block (1) or before it (0).
        skip: whether the read-out meets the stream, or what the block adds.
        states: the streams; those of ``weights`` if ``None``.
        share: what the losses are divided by; the number of inputs if ``None``.
    """
    states = streams(weights, x) if states is None else states
    out = []
    for w, h in zip(weights, states, strict=False):
        if not at:
            out.append(torch.zeros_like(w))
            continue
        added = (h @ w.mT).tanh()
        told = ((h + added if skip else added) @ read_out.mT).softmax(-1)
        off = told - torch.eye(len(read_out), dtype=x.dtype)[labels]
        back = (off @ read_out) * (1 - added**2) / (len(x) if share is None else share)
        out.append(back.mT @ h)
    return out


def slopes(weights, read_out, x, labels, *, every: bool) -> list[Tensor]:
    """Gradients of the last loss, or of all losses added up, through all blocks."""
    own = [w.detach().clone().requires_grad_() for w in weights]
    states = streams(own, x)[1:]
    total = sum(cross_entropy(h, read_out, labels) for h in (states if every else states[-1:]))
    return list(torch.autograd.grad(total, own))


def _in_turn(weights, read_out, x, labels, rate) -> list[Tensor]:
    """Each block updated before the next one reads."""
    h, out = x, []
    for w in weights:
        (slope,) = local_slopes([w], read_out, h, labels)
        out.append(w - rate * slope)
        h = h + (h @ out[-1].mT).tanh()
    return out


def case(blocks: int, d: int, words: int, labels: list[int], seed: int):
    """A stack, its read-out, inputs and labels."""
    weights = list(draw(blocks, d, d, seed=seed).unbind())
    return weights, draw(words, d, seed=seed + 1), draw(len(labels), d, seed=seed + 2), labels


def check_layer_causal(layer_causal_step: Callable, ordinary_step: Callable) -> None:
    """Both functions of exercise 7: ``(weights, read_out, x, labels, step_size) -> list``."""
    rate = 0.3
    for blocks, d, seed in ((3, 4, 91), (2, 2, 95), (1, 3, 99)):
        weights, read_out, x, labels = case(blocks, d, 4, [0, 2, 1, 1, 2], seed)
        labels = torch.tensor(labels)
        for answer, check in ((layer_causal_step, _causal), (ordinary_step, _ordinary)):
            kept = [t.clone() for t in (*weights, read_out, x)]
            result = call(answer, list(weights), read_out, x, labels, rate)
            names = [*(f"weights[{i}]" for i in range(blocks)), "read_out", "x"]
            for before, now, name in zip(kept, (*weights, read_out, x), names, strict=True):
                unchanged(before, now, name=name)
            if result is None:
                fail(f"`{answer.__name__}` returned None. Is the `return` missing?")
            if not isinstance(result, (list, tuple)) or len(result) != blocks:
                fail(f"Return a list of {blocks} matrices, the new weights of each block.")
            check(result, weights, read_out, x, labels, rate)
    _say(layer_causal_step, ordinary_step)


def _moved(weights: list[Tensor], found: list[Tensor], rate: float) -> list[Tensor]:
    return [w - rate * slope for w, slope in zip(weights, found, strict=True)]


def _compare(result, right, what, known) -> None:
    """Compare all blocks; a mistake explains an answer if it fits every block."""
    got = [
        tensor(r, tuple(w.shape), what=f"block {i}'s matrix", axes="[D, D]")
        for i, (r, w) in enumerate(zip(result, right, strict=True))
    ]
    mistakes = [Mistake(torch.stack(values), sentence) for values, sentence in known]
    compare(
        torch.stack(got),
        torch.stack(right),
        what=what,
        tolerance=max(tolerance_of(r) for r in result),
        mistakes=mistakes,
        otherwise="The first number of the index is the block, from 0.",
    )


def _causal(result, weights, read_out, x, labels, rate) -> None:
    own = local_slopes(weights, read_out, x, labels)
    every = slopes(weights, read_out, x, labels, every=True)
    last = slopes(weights, read_out, x, labels, every=False)
    zeros = [torch.zeros_like(w) for w in weights]
    plain = [x]
    for w in weights:
        plain.append((plain[-1] @ w.mT).tanh())
    cases = [
        (
            every,
            "Your losses reach below their own block: block 0 also moves for what is read out "
            "further up. Cut the stream between two blocks (`.detach()`).",
        ),
        (
            last,
            "You descend on the loss at the top. That is ordinary descent: block 0 would have to "
            "know the blocks above it.",
        ),
        (
            [*zeros[1:], last[-1]],
            "Only the top block moves. Every block has a loss of its own, read out right after it.",
        ),
        (
            zeros,
            "No block moves. Is the stream read BEFORE the block, or cut off after it? The loss of "
            "a block has to see what the block adds.",
        ),
        (
            local_slopes(weights, read_out, x, labels, skip=False),
            "The read-out meets what the block adds, without the stream. It reads h + tanh(W h).",
        ),
        (
            local_slopes(weights, read_out, x, labels, skip=False, states=plain),
            "Your blocks have no skip: the next stream is h + tanh(W h).",
        ),
        (
            local_slopes(weights, read_out, x, labels, share=1),
            "Your losses are sums over the inputs. They are means.",
        ),
        (
            local_slopes(weights, read_out, x, labels, states=[x] * len(weights)),
            "Every block reads x in your answer. Block l reads the stream that block l - 1 left.",
        ),
        (
            [slope / len(weights) for slope in own],
            "You average over the blocks. Each block descends on its own loss in full.",
        ),
        (
            local_slopes(weights, read_out[labels.unique()], x, labels),
            "Your softmax is over the labels that occur. It is over all words of the read-out.",
        ),
        ([-slope for slope in own], "Your blocks go uphill: subtract the gradient."),
        ([slope.mT for slope in own], "The gradient is transposed."),
    ]
    known = [(_moved(weights, found, rate), sentence) for found, sentence in cases]
    known.append(
        (
            _in_turn(weights, read_out, x, labels, rate),
            "A block of yours reads the stream of blocks that have moved already. All updates "
            "belong to the weights you were given.",
        )
    )
    known.append(
        ([rate * slope for slope in own], "You return the step. Return the weights after it.")
    )
    known.append(
        ([-rate * slope for slope in own], "You return the step. Return the weights after it.")
    )
    _compare(
        result,
        _moved(weights, own, rate),
        f"With {len(weights)} block(s) the layer-causal step",
        known,
    )


def _ordinary(result, weights, read_out, x, labels, rate) -> None:
    last = slopes(weights, read_out, x, labels, every=False)
    cases = [
        (
            slopes(weights, read_out, x, labels, every=True),
            "Your ordinary step adds up the losses after all blocks. It has one loss, at the top.",
        ),
        (
            local_slopes(weights, read_out, x, labels),
            "Your ordinary step is the layer-causal one. Here the top loss moves every block.",
        ),
        ([-slope for slope in last], "Your ordinary step goes uphill: subtract the gradient."),
        (
            [len(x) * slope for slope in last],
            "The loss of your ordinary step is a sum over the inputs. It is their mean.",
        ),
    ]
    known = [(_moved(weights, found, rate), sentence) for found, sentence in cases]
    _compare(
        result,
        _moved(weights, last, rate),
        f"With {len(weights)} block(s) the ordinary step",
        known,
    )


def _say(layer_causal_step: Callable, ordinary_step: Callable) -> None:
    weights, read_out, x, labels = case(3, 4, 4, [0, 2, 1, 1, 2], 91)
    other = [*weights[:-1], weights[-1] + draw(4, 4, seed=103)]
    moves, cosines = [], []
    for step in (layer_causal_step, ordinary_step):
        a, b = (
            call(step, list(w), read_out, x, torch.tensor(labels), 1.0)[0].detach().double()
            - weights[0]
            for w in (weights, other)
        )
        moves.append(((a - b).norm() / a.norm()).item())
        cosines.append(a.flatten() / a.norm())
    passed(
        7,
        "Other weights in the TOP block change the bottom block's layer-causal step by "
        f"{moves[0]:.0f} and its ordinary step by {moves[1]:.2f} times its length. The two steps "
        f"of the bottom block have a cosine of {cosines[0] @ cosines[1]:.2f}. Hidden tests use "
        "other stacks.",
    )
