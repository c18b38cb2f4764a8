"""Exercise 4: the loss of a label alone, and what it moves."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from icl_lessons.grading.checks import (
    FLOAT64_TOLERANCE,
    Mistake,
    call,
    compare,
    fail,
    passed,
    unchanged,
)
from icl_lessons.grading.language_models.seeds import each
from icl_lessons.grading.language_models.sensitivity import number
from icl_lessons.grading.sums import draw


def token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """``-log p(token t | tokens before)`` for ``t = 1, 2, ...``, ``[n, length - 1]``."""
    laws = logits.log_softmax(-1)
    return -laws[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


def reader(tokens: Tensor, words: Tensor, out: Tensor) -> Tensor:
    """Logits of a small causal model: at each place the mean of the words up to there, read out."""
    numbers = torch.arange(1, tokens.shape[1] + 1, dtype=words.dtype)[:, None]
    return (words[tokens].cumsum(1) / numbers).tanh() @ out.mT


def check_label_loss(
    answer: Callable[[Callable, Tensor, Tensor], Tensor], course: ModuleType
) -> None:
    """``answer(model, tokens, label_at) -> []``, with a gradient."""
    size, width = 7, 4
    for seed, tokens, label_at in (
        (61, [[0, 3, 4, 1, 5, 2], [0, 5, 3, 1, 6, 2], [0, 4, 4, 1, 5, 2]], [4, 4, 4]),
        (64, [[0, 3, 1, 6, 2, 2], [0, 4, 5, 3, 1, 5]], [3, 5]),
    ):
        words = draw(size, width, seed=seed).requires_grad_()
        out = (2 * draw(size, width, seed=seed + 1)).requires_grad_()
        tokens, label_at = torch.tensor(tokens), torch.tensor(label_at)
        kept = tokens.clone(), label_at.clone()
        result = call(answer, lambda t, a=words, b=out: reader(t, a, b), tokens, label_at)
        unchanged(kept[0], tokens, name="tokens")
        unchanged(kept[1], label_at, name="label_at")
        got, tolerance = number(result, "the loss")
        logits = reader(tokens, words, out)
        right = _right(logits, tokens, label_at)
        if not isinstance(result, Tensor):
            fail("Return the loss as a tensor: descent needs its gradient, so no `.item()`.")
        compare(
            got,
            right.detach(),
            what="The loss",
            tolerance=tolerance,
            mistakes=_mistakes(logits.detach(), tokens, label_at),
            otherwise="What the model says of token t stands at place t - 1.",
        )
        if not result.requires_grad:
            fail(
                "The number is right, but it is cut off from the model: no gradient flows. Look "
                "for `torch.no_grad`, `.detach()`, `.item()` or a new `torch.tensor(...)`."
            )
        slopes = torch.autograd.grad(result, (words, out), allow_unused=True)
        for slope, want in zip(slopes, torch.autograd.grad(right, (words, out)), strict=True):
            if slope is None:
                fail("The number is right, but some weights of the model get no gradient from it.")
            compare(
                slope.double(),
                want,
                what="The loss is right, its gradient",
                tolerance=max(tolerance, FLOAT64_TOLERANCE),
                otherwise="Every weight moves by what it does to the label alone.",
            )
    _say(answer, course)


def _say(answer: Callable, course: ModuleType) -> None:
    """The loss of CourseLM on demonstrations that contradict its documents."""
    canonical, contrary = [], []
    for seed, model in enumerate(course.models()):
        for to, task in ((canonical, "stance"), (contrary, "stance contrary")):
            inputs, labels = course.prompts(task, 8, seed).demonstrations()
            tokens = torch.cat([inputs, labels[:, None]], 1)
            with torch.no_grad():
                to.append(call(answer, model, tokens, torch.full((8,), 4)).item())
    passed(
        4,
        "Hidden tests use other models, some very sure of themselves. CourseLM on 8 remarks about "
        f"stance, each alone: {each(canonical)} nats a label for its three seeds, "
        f"{each(contrary)} where the labels are the contrary ones. That is what descent on "
        "the demonstrations has to lower.",
    )


def _right(logits: Tensor, tokens: Tensor, label_at: Tensor) -> Tensor:
    total = torch.zeros((), dtype=logits.dtype)
    for row, told, place in zip(logits, tokens, label_at.tolist(), strict=True):
        scores = row[place - 1]
        total = total + torch.logsumexp(scores, 0) - scores[told[place]]
    return total / len(tokens)


def _mistakes(logits: Tensor, tokens: Tensor, label_at: Tensor) -> list[Mistake]:
    rows = torch.arange(len(tokens))
    each = token_losses(logits, tokens)
    label = tokens[rows, label_at]
    scores = logits[rows, label_at - 1]
    told = scores[rows, label]
    right = each[rows, label_at - 1]
    place = torch.arange(1, tokens.shape[1])
    upto = place <= label_at[:, None]
    some = label.unique()
    among = torch.logsumexp(scores[:, some], -1) - told
    late = -logits[rows, label_at].log_softmax(-1)[rows, label]
    out = [
        Mistake(
            late.mean(),
            "You read what the model says AT the label, when it has seen it. The label at place t "
            "is predicted at place t - 1.",
        ),
        Mistake(right.sum(), "You sum over the demonstrations. Take their mean."),
        Mistake(
            each.mean(),
            "You count the loss of every token, input words and what follows too. The label alone "
            "counts.",
        ),
        Mistake(
            each[upto].mean(),
            "You count the tokens of the input as well: the loss of a language model, not of the "
            "label given its input.",
        ),
        Mistake(
            (each * upto).sum(-1).mean(),
            "You add up the losses of all tokens up to the label. The input's own do not count.",
        ),
        Mistake(
            each[:, -1].mean(),
            "You count the last token of each row. The label stands at label_at.",
        ),
        Mistake(
            among.mean(),
            "Your softmax is over the label words that occur. It is over the whole vocabulary: a "
            "model that puts everything on other words is not right.",
        ),
        Mistake(
            -told.mean(),
            "You take the logit itself. Logits are not normalised: subtract their log-sum-exp.",
        ),
        Mistake(-right.mean(), "The sign is turned: a loss is MINUS the log-probability."),
        Mistake((-right).exp().mean(), "That is the mean probability. Take minus its logarithm."),
        Mistake(1 - (-right).exp().mean(), "You return 1 - p. The cross-entropy is minus log p."),
        Mistake(
            -(-right).exp().mean().log(),
            "You average the probabilities and take the logarithm after that. Average the losses.",
        ),
        Mistake(right.mean() / logits.shape[-1], "You divide by the size of the vocabulary."),
        Mistake(right.mean() / torch.tensor(2.0).log(), "That is in bits. Use natural logarithms."),
        Mistake(
            -logits.softmax(-1).log_softmax(-1)[rows, label_at - 1, label].mean(),
            "You put probabilities where logits are expected: a softmax too many.",
        ),
        Mistake(
            -logits.log_softmax(1)[rows, label_at - 1, label].mean(),
            "Your softmax runs over places. It is over the vocabulary, the LAST axis.",
        ),
    ]
    if int(label_at.min()) > 1:
        early = -logits[rows, label_at - 2].log_softmax(-1)[rows, label]
        sentence = "You read the model one place too early: the separator has not been seen there."
        out.append(Mistake(early.mean(), sentence))
    return out
