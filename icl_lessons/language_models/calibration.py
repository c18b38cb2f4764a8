"""Calibration: dividing out what a model would answer to anything.

After demonstrations a model may lean to some label whatever is asked. Its answer ``p_cf`` to an
input without content measures the lean, and the calibrated answer is ``p / p_cf``, renormalised
[zhao2021calibrate]. If the answers are ``p'(y|x)`` proportional to ``p(y|x) b_y``, and
``p`` is even on the content-free input, that gives ``p`` back exactly.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lessons.language_models.text_tasks import TextPrompts
from icl_lessons.tasks.attribute_text import FIRST_FILLER, VOCABULARY

NO_CONTENT = ("N/A", "", "[MASK]")
LabelLaw = Float[Tensor, "*queries labels"]


def label_law(
    answers: Float[Tensor, "*queries vocabulary"], choices: Int[Tensor, " labels"]
) -> LabelLaw:
    """Probabilities of the label words, renormalised among themselves.

    Raises:
        ValueError: an answer that gives no label any probability.
    """
    chosen = answers[..., choices]
    total = chosen.sum(-1, keepdim=True)
    if not (total > 0).all():
        raise ValueError("answers: one gives no label word any probability; nothing to renormalise")
    return chosen / total


def content_free_law(
    answers: Float[Tensor, "inputs vocabulary"], choices: Int[Tensor, " labels"]
) -> Float[Tensor, " labels"]:
    """The lean: answers to several inputs without content, averaged and then normalised.

    Inputs such as "N/A", an empty one or a mask [zhao2021calibrate]; or a batch of unlabelled
    inputs, whose mean answer stands for them.
    """
    mean = answers[..., choices].mean(0)
    return mean / mean.sum()


def calibrated(law: LabelLaw, content_free: Float[Tensor, " labels"]) -> LabelLaw:
    """``p / p_cf``, renormalised.

    Raises:
        ValueError: a label that the content-free input gives no probability.
    """
    if not (content_free > 0).all():
        raise ValueError("content_free: a label has probability 0; nothing can be divided by it")
    scaled = law / content_free
    return scaled / scaled.sum(-1, keepdim=True)


def content_free_prompts(prompts: Any) -> Any:
    """The demonstrations of the first prompt before inputs that say nothing.

    For text, every field of the template is "N/A", empty or "[MASK]" [zhao2021calibrate]. For
    attribute text, noun and predicate are a filler each: the nearest thing to "N/A" that the
    language has. Their answers mean nothing.
    """
    if isinstance(prompts, TextPrompts):
        template, shown = prompts.template, prompts.written[0][:-1]
        empty = [
            template.pattern.format(**dict.fromkeys(template.fields, word)) for word in NO_CONTENT
        ]
        return replace(
            prompts,
            written=tuple((*shown, text) for text in empty),
            demonstrated=prompts.demonstrated[:1].expand(len(empty), -1),
            truth=prompts.truth.new_zeros(len(empty)),
        )
    fillers = torch.arange(FIRST_FILLER, len(VOCABULARY))
    return prompts.with_queries_of(
        replace(
            prompts,
            sentences=torch.stack([fillers, fillers.roll(1)], -1)[:, None],
            values=prompts.values[:1, -1:].expand(len(fillers), -1, -1),
            labels=prompts.labels[:1, :0].expand(len(fillers), -1),
            answer=prompts.answer[:1].expand(len(fillers)),
            separators=prompts.separators[:1].expand(len(fillers), -1),
        )
    )
