"""Exercise 1: linear self-attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    Mistake,
    call,
    compare,
    passed,
    tensor,
    tolerance_of,
    unchanged,
)
from icl_lessons.grading.sums import attention_sum, draw


def check_linear_self_attention(answer: Callable[..., Tensor]) -> None:
    """``answer(tokens, w_query, w_key, w_value, projection, mask) -> tokens after the layer``."""
    one, two = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[[1.0], [2.0], [3.0]]])
    first_two = torch.tensor([[True, True, False]] * 3)
    small = tensor(
        call(answer, two.double(), one, one, one, one, first_two),
        (1, 3, 1),
        what="the layer's output",
        axes="[batch, sequence, width]",
    )
    batch, sequence, width, head = 2, 5, 4, 3
    tokens = draw(batch, sequence, width, seed=1)
    w_query, w_key, w_value = (draw(head, width, seed=s) for s in (2, 3, 4))
    projection = draw(width, head, seed=5)
    mask = torch.zeros(sequence, sequence, dtype=torch.bool)
    mask[:, :3] = True
    mask[1, 4] = True
    weights = (w_query, w_key, w_value, projection)
    kept = tokens.clone()
    result = call(answer, tokens, *weights, mask)
    got = tensor(
        result,
        (batch, sequence, width),
        what="the layer's output",
        axes="[batch, sequence, width]",
    )
    unchanged(kept, tokens, name="tokens")

    def by_sums(may_read=lambda j, i: mask[j, i], score=None):
        return attention_sum(tokens, *weights, may_read, score=score)

    def softmax_score(b, j, i):
        scores = [(w_key @ tokens[b, k]) @ (w_query @ tokens[b, j]) for k in range(sequence)]
        total = sum(math.exp(s) for k, s in enumerate(scores) if mask[j, k])
        return math.exp(scores[i]) / total

    right = by_sums()
    update = right - tokens
    mistakes = [
        Mistake(
            update,
            "You return the update alone. The layer adds it to the token it came in with: "
            "e_j + P(...).",
        ),
        Mistake(
            by_sums(lambda j, i: True),
            "Your layer looks at every token. Where mask[j, i] is False, token i must add "
            "nothing to token j.",
        ),
        Mistake(
            by_sums(lambda j, i: mask[i, j]),
            "Your mask acts transposed: mask[j, i] says whether token j, the one that asks, may "
            "read token i, the one that is asked.",
        ),
        Mistake(
            by_sums(score=lambda b, j, i: (w_query @ tokens[b, i]) @ (w_key @ tokens[b, j])),
            "Query and key have changed places: the token that asks, j, is multiplied by W_Q, and "
            "the token that is read, i, by W_K.",
        ),
        Mistake(
            tokens + update / math.sqrt(head),
            "Your scores are divided by the square root of the head width. Linear attention uses "
            "them as they are.",
        ),
        Mistake(
            by_sums(score=softmax_score),
            "There is a softmax in your layer. Linear attention uses the scores as they are.",
        ),
        Mistake(
            tokens + update / sequence,
            "Your sum is divided by the number of tokens. The layer divides by nothing: a factor "
            "such as 1/N is part of P.",
        ),
        Mistake(
            tokens + update / 3,
            "Your sum is divided by the number of tokens that the mask lets through. The layer "
            "divides by nothing: a factor such as 1/N is part of P.",
        ),
        Mistake(
            tokens - update,
            "The sign of your update is turned: the layer adds P(...) to the token.",
        ),
    ]
    tolerance = tolerance_of(result)
    compare(
        got,
        right,
        what="The layer's output",
        tolerance=tolerance,
        mistakes=mistakes,
        otherwise="Write the sum for one pair (j, i) on paper and compare term by term.",
    )
    compare(
        small,
        torch.tensor([[[6.0], [12.0], [18.0]]]).double(),
        what="The worked example",
        tolerance=tolerance,
    )
    passed(1, "Hidden tests use other sizes, one token, and a mask that hides everything.")
