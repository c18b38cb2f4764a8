"""What of the demonstrations does the work? Their labels changed, their inputs, their layout.

Min et al. replace right labels by random ones, words outside the label set, strange inputs, or
labels without inputs, and find that random labels cost little [min2022rethinking]; Yoo et al. that
it depends on the task [yoo2022ground]. Pan et al. separate *recognising* a task, for which random
labels are enough, from *learning* a mapping, for which symbols stand for the labels [pan2023what].
Wei et al. turn some of the labels to wrong ones and watch whether the model follows
[wei2023larger].

Every function takes prompts of the common interface and gives changed ones:
:class:`~icl_lessons.tasks.attribute_prompts.AttributePrompts` or
:class:`~icl_lessons.language_models.text_tasks.TextPrompts`. The sentences stay, so that all
conditions are asked the same queries. Shares of labels are exact in each prompt, never on average.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from icl_lessons.language_models.fine_tuning import answer_law
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.runtime import check_choice, check_integer, check_number

CONDITIONS = (
    "none",
    "gold",
    "random",
    "contrary",
    "novel",
    "abstract",
    "labels outside",
    "strange inputs",
    "labels only",
    "inputs only",
    "no format",
)
"""What can be done to demonstrations; :func:`conditioned` says what each is."""

LAYOUT_OF = {"labels only": "labels", "inputs only": "inputs", "no format": "run on"}


def _choices(prompts: Any) -> Int[Tensor, "batch m"]:
    return prompts.choices.expand(len(prompts), prompts.choices.shape[-1])


def label_numbers(prompts: Any) -> Int[Tensor, "batch n"]:
    """Which of the task's labels each demonstration has, from 0.

    Raises:
        ValueError: a demonstration with a word that is no label of the task.
    """
    same = prompts.labels[..., None] == _choices(prompts)[:, None]
    if not same.any(-1).all():
        raise ValueError("prompts: a demonstration has a word that is no label of the task")
    return same.long().argmax(-1)


def _relabelled(prompts: Any, numbers: Int[Tensor, "batch n"]) -> Any:
    return prompts.with_labels(_choices(prompts).gather(1, numbers))


def random_labels(prompts: Any, *, generator: torch.Generator) -> Any:
    """Every label drawn anew and uniformly, so that one in ``m`` is right by chance.

    [min2022rethinking]
    """
    m = prompts.choices.shape[-1]
    return _relabelled(prompts, torch.randint(m, (len(prompts), prompts.n), generator=generator))


def some_of(
    batch_size: int, n: int, share: float | int, *, generator: torch.Generator
) -> Bool[Tensor, "batch n"]:
    """Exactly that share of ``n`` places, drawn anew in each row.

    Raises:
        ValueError: a share above 1, or of ``n`` not a whole number.
    """
    check_integer("n", n, at_least=0)
    check_number("share", share)
    count = round(share * n)
    if share > 1 or abs(share * n - count) > 1e-9:
        raise ValueError(
            f"share: {share} of {n} demonstrations; use a share that is a whole number"
        )
    return torch.rand(batch_size, n, generator=generator).argsort(1).argsort(1) < count


def partly_correct(prompts: Any, share: float | int, *, generator: torch.Generator) -> Any:
    """Exactly that share of the labels kept; the others wrong, uniformly among the wrong ones.

    [min2022rethinking; yoo2022ground]

    Args:
        prompts: with right labels.
        share: of correct labels.
    """
    m, numbers = prompts.choices.shape[-1], label_numbers(prompts)
    kept = some_of(*numbers.shape, share, generator=generator)
    by = torch.randint(1, m, tuple(numbers.shape), generator=generator)
    return _relabelled(prompts, torch.where(kept, numbers, (numbers + by) % m))


def flipped(prompts: Any, share: float | int, *, generator: torch.Generator) -> Any:
    """Exactly that share of the labels turned to the next one; the answer stays the true one.

    With two labels the next one is the other [wei2023larger].
    """
    m, numbers = prompts.choices.shape[-1], label_numbers(prompts)
    turned = some_of(*numbers.shape, share, generator=generator)
    return _relabelled(prompts, torch.where(turned, (numbers + 1) % m, numbers))


def next_labels(prompts: Any, by: int = 1) -> Int[Tensor, " batch"]:
    """The label after the right one: what demonstrations that are all flipped ask for."""
    choices = _choices(prompts)
    number = (choices == prompts.answer[:, None]).long().argmax(-1)
    return choices.gather(1, ((number + by) % choices.shape[-1])[:, None])[:, 0]


def shifted(prompts: Any, by: int) -> Any:
    """Another mapping: all labels, and the answer, so many labels further on."""
    choices = _choices(prompts)
    numbers = (label_numbers(prompts) + by) % choices.shape[-1]
    return prompts.with_labels(choices.gather(1, numbers), next_labels(prompts, by))


def conditioned(prompts: Any, condition: str, *, generator: torch.Generator) -> Any:
    """The prompts under one of :data:`CONDITIONS`.

    ``"none"``: no demonstrations. ``"gold"``: right labels. ``"random"``:
    :func:`random_labels`. ``"contrary"``, ``"novel"``: the label one and two further on, which is
    then the right answer too. ``"abstract"``: symbols for labels, drawn in each prompt, in the
    answer too. ``"labels outside"``: the same demonstrations, but the answer is the true label
    word. ``"strange inputs"``: right labels on inputs of another kind. ``"labels only"``,
    ``"inputs only"``: the rest left out. ``"no format"``: input and label one after another,
    without what announces and ends them.

    Args:
        prompts: with right labels.

    Raises:
        ValueError: another condition, or a novel mapping of two labels, where it is the right one.
    """
    check_choice("condition", condition, CONDITIONS)
    if condition == "none":
        return prompts.in_order([])
    if condition == "random":
        return random_labels(prompts, generator=generator)
    if condition == "novel" and prompts.choices.shape[-1] < 3:
        raise ValueError("condition: a novel mapping needs three labels or more")
    if condition in ("contrary", "novel"):
        return shifted(prompts, 1 if condition == "contrary" else 2)
    if condition in ("abstract", "labels outside"):
        return prompts.with_symbols(generator=generator, answer=condition == "abstract")
    if condition == "strange inputs":
        return prompts.with_strange_inputs(generator=generator)
    return prompts.with_layout(LAYOUT_OF[condition]) if condition in LAYOUT_OF else prompts


# --- what is measured ------------------------------------------------------------------------


def answers_to(
    model: nn.Module, prompts: Any, at_once: int = 200
) -> Float[Tensor, "batch vocabulary"]:
    """The model's answers, so many prompts at once: a large vocabulary fills a memory soon."""
    return torch.cat([answer_law(model, some) for some in prompts.tokens.split(at_once)])


def accuracy_among_labels(answers: Float[Tensor, "batch vocabulary"], prompts: Any) -> float:
    """Share of prompts whose answer is the most probable of the task's labels."""
    choices = _choices(prompts)
    best = answers.gather(1, choices.to(answers.device)).argmax(1, keepdim=True)
    return (
        (choices.gather(1, best.to(choices.device))[:, 0] == prompts.answer).double().mean().item()
    )


def both_accuracies(
    answers: Float[Tensor, "batch vocabulary"], prompts: Any
) -> tuple[float, float]:
    """Accuracy over the whole vocabulary, and among the labels."""
    return (
        accuracy_over_vocabulary(answers, prompts.answer),
        accuracy_among_labels(answers, prompts),
    )


def sensitivity_to_labels(
    shares: Sequence[float | int], accuracies: Sequence[float | int]
) -> float:
    """Slope of accuracy on the share of correct labels, by least squares.

    1 if accuracy falls from 1 to 0 with the labels, 0 if they do not matter
    [yoo2022ground].
    """
    if len(shares) != len(accuracies) or len(set(shares)) < 2:
        raise ValueError("shares: use two or more different ones, and an accuracy for each")
    return float(np.polyfit(shares, accuracies, 1)[0])


def label_effect_ratio(gold: float | int, random: float | int, none: float | int) -> float:
    """``(gold - random) / (gold - none)``: the part of the gain that is due to right labels.

    The *ground-truth label effect ratio* [yoo2022ground]. NaN if demonstrations bring
    no gain.
    """
    return (gold - random) / (gold - none) if gold > none else float("nan")


def switching_share(
    shares: Sequence[float | int], true: Sequence[float | int], turned: Sequence[float | int]
) -> float:
    """The share of flipped labels from which flipped answers outnumber true ones.

    Linear between the two shares where the difference changes its sign; NaN if it never does.

    Args:
        shares: of flipped labels, ascending.
        true, turned: share of answers that are the true label, and the one after it.
    """
    gap = [t - f for t, f in zip(true, turned, strict=True)]
    for i in range(1, len(shares)):
        if gap[i - 1] > 0 >= gap[i]:
            part = gap[i - 1] / (gap[i - 1] - gap[i])
            return float(shares[i - 1] + part * (shares[i] - shares[i - 1]))
    return float("nan")
