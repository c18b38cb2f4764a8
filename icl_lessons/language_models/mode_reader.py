"""What a reader who knows the law of the documents would answer: the exact Bayes filter.

Every remark of a prompt has a hidden mode, which the labels shown so far make more or less likely
(:func:`~icl_lessons.estimators.mode_filter.filtered_modes`); the answer is the mean of the laws of
the label under each mode, weighted by what is known of the mode. The reader knows the language, and
not that it is being asked: it takes a prompt for an excerpt of a document, as a model that learned
nothing but the next token has reason to do.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.estimators.mode_filter import filtered_modes
from icl_lessons.runtime import check_number
from icl_lessons.tasks.attribute_prompts import AttributePrompts
from icl_lessons.tasks.attribute_text import AttributeText


def known_modes(
    prompts: AttributePrompts,
    text: AttributeText | None = None,
    hazard: float | int | None = None,
) -> Float[Tensor, "batch n_plus_1 modes"]:
    """What is known of the mode before each remark of the prompts, the query's being the last.

    Args:
        prompts: with the labels that they show, right or wrong, in their order.
        text: the law of the documents; that of CourseLM's if ``None``.
        hazard: probability that the mode is drawn anew between two remarks; that of ``text``,
            :attr:`~icl_lessons.tasks.attribute_text.AttributeText.remark_hazard`, if ``None``.

    Returns:
        probabilities of the modes of :attr:`AttributeText.mode_prior`, in float64; entry ``t`` has
        seen ``t`` labels.

    Raises:
        ValueError: a hazard that is no probability, or a label that no mode would have written, as
            those of ``mapping="code"``.
    """
    text = AttributeText() if text is None else text
    hazard = text.remark_hazard if hazard is None else hazard
    check_number("hazard", hazard)
    law = text.label_law(prompts.values[:, :-1])
    label = prompts.labels[..., None, None].expand(*law.shape[:-1], 1)
    seen = law.gather(-1, label)[..., 0]
    return filtered_modes(text.mode_prior.to(seen.device), seen, hazard)


def filter_answers(
    prompts: AttributePrompts,
    text: AttributeText | None = None,
    hazard: float | int | None = None,
) -> Float[Tensor, "batch vocabulary"]:
    """The filter's probabilities of the label of each query, over the whole vocabulary.

    Args, errors: those of :func:`known_modes`. Words that are no labels get probability 0.
    """
    text = AttributeText() if text is None else text
    known = known_modes(prompts, text, hazard)[:, -1]
    return torch.einsum("bz,bzv->bv", known, text.label_law(prompts.values[:, -1]))
