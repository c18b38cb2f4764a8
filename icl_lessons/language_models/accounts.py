"""Accounts of in-context learning: other ways to come by a model's answers to the same prompts.

Each account gives a distribution over the next token for each query. Some come in many settings (a
step size, a number of epochs, a block), of which one has to be chosen; what the choice may know is
the business of whoever compares them
(:mod:`~icl_lessons.language_models.experiments.which_account`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from icl_lessons.estimators.mode_filter import filtered_modes
from icl_lessons.language_models.demonstration_labels import flipped
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.layer_causal import layer_causal_fine_tune
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.subjects import Subject
from icl_lessons.language_models.task_vectors import held_apart, patched_answers, task_vectors
from icl_lessons.measures.distributions import accuracy_over_vocabulary
from icl_lessons.runtime import check_integer, seeded
from icl_lessons.tasks.attribute_prompts import AttributePrompts
from icl_lessons.tasks.attribute_text import NAMES, AttributeText

Law = Float[Tensor, "queries vocabulary"]
Account = dict[str, Law]
"""The answers of an account by the name of its setting."""

REORDERED = "in context, reordered"
ZERO_SHOT = "no demonstrations"
WHOLE, PART, CAUSAL = "descent", "descent of one block", "layer-causal descent"
ADDED, REPLACED = "task vector, added", "task vector, in place"
FILTER, LEARNED = "Bayes filter", "Bayes filter, as far as learned"
ACCOUNTS = (REORDERED, ZERO_SHOT, WHOLE, PART, CAUSAL, ADDED, REPLACED, FILTER, LEARNED)
DESCENTS = (WHOLE, PART, CAUSAL)

SOME_WRONG = ", some wrong"
OTHER_SEED = 2_310_081


def account_prompts(who: Subject, task: str, n: int, n_queries: int, seed: int) -> Any:
    """Prompts for a task, or for one such as ``"stance, some wrong"``.

    With ``", some wrong"`` a quarter of the demonstrations have the next label; the right answers
    stay what they were. All queries follow the same demonstrations.

    Raises:
        ValueError: ``", some wrong"`` with a number that has no quarter.
    """
    prompts = who.prompts(task.removesuffix(SOME_WRONG), n, n_queries, seed)
    if not task.endswith(SOME_WRONG):
        return prompts
    turned = flipped(prompts, 0.25, generator=seeded(seed))
    return turned.with_queries_of(turned)


def descended(
    model: nn.Module,
    prompts: Any,
    n_queries: int,
    ways: Mapping[str, FineTuning],
    epochs: Sequence[int],
    descend: Callable[..., nn.Module] = fine_tune,
) -> Account:
    """Answers without demonstrations, after so many epochs of each way to descend on them."""
    asked, account = prompts.query_tokens[:n_queries], {}
    inputs, labels = prompts.demonstrations(0)
    for name, settings in ways.items():

        def watch(epoch: int, tuned: nn.Module, name: str = name) -> None:
            if epoch in epochs:
                account[f"{name}, {epoch} epochs"] = answer_law(tuned, asked)

        descend(model, inputs, labels, settings, watch=watch, every=1)
    return account


def mappings_told(who: Subject, n: int, seed: int = OTHER_SEED) -> tuple[bool, ...]:
    """For each attribute, whether CourseLM follows contrary demonstrations of it at all.

    It does where more than half of 100 answers after ``n`` contrary demonstrations are right; the
    demonstrations are drawn with a seed of their own.
    """
    told = []
    for name in NAMES:
        prompts = who.prompts(f"{name} contrary", n, 100, seed)
        law = answer_law(who.model, prompts.tokens)
        told.append(accuracy_over_vocabulary(law, prompts.answer) > 0.5)
    return tuple(told)


def learned_filter_answers(prompts: AttributePrompts, told: Sequence[bool]) -> Law:
    """The Bayes filter of a reader that cannot tell the two mappings of some attributes apart.

    Where it cannot, the canonical and the contrary mode of an attribute write labels by one law,
    the mean of theirs as frequent as they are in documents. Labels then still tell which attribute
    is meant, and never by which mapping: task recognition without task learning. With every mapping
    told it is the exact filter, :func:`~icl_lessons.language_models.mode_reader.filter_answers`.

    Args:
        prompts: on attribute text.
        told: for each attribute, whether its mappings are told apart.

    Raises:
        ValueError: not one entry for each attribute.
    """
    if len(told) != len(NAMES):
        raise ValueError(f"told: got {len(told)} entries; give one for each of {', '.join(NAMES)}")
    text = AttributeText()
    canonical = text.canonical / (text.canonical + text.contrary)

    def laws(values: Tensor) -> Tensor:  # [..., attributes] -> [..., modes, vocabulary]
        law = text.label_law(values)
        for place, tells in enumerate(told):
            if not tells:
                both = [place, place + len(NAMES)]
                mean = canonical * law[..., both[0], :] + (1 - canonical) * law[..., both[1], :]
                law[..., both, :] = mean[..., None, :]
        return law

    shown = laws(prompts.values[:, :-1])
    label = prompts.labels[..., None, None].expand(*shown.shape[:-1], 1)
    likelihoods = shown.gather(-1, label)[..., 0]
    known = filtered_modes(text.mode_prior, likelihoods, text.remark_hazard)[:, -1]
    return torch.einsum("bz,bzv->bv", known, laws(prompts.values[:, -1]))


def accounts(
    model: nn.Module,
    prompts: Any,
    n_queries: int,
    *,
    whole: Mapping[str, FineTuning],
    part: Mapping[str, FineTuning],
    epochs: Sequence[int],
    told: Sequence[bool] | None = None,
) -> tuple[Law, dict[str, Account]]:
    """The model's answers in context to the first queries, and every account of them.

    Args:
        model: CourseLM or a pretrained model.
        prompts: that share their demonstrations. The queries beyond the first ``n_queries`` that
            are none of these make the task vectors.
        n_queries: answered, the same by all accounts.
        whole: ways to fine-tune the whole model; layer-causal descent takes the same ones.
        part: ways to fine-tune a part of it.
        epochs: after which descent is looked at; each is a setting.
        told: what :func:`mappings_told` says of the model; without it there is no account
            :data:`LEARNED`.

    Returns:
        the answers in context, and :data:`ACCOUNTS`; prompts of real text have no Bayes filters, as
        nobody knows the law that they come from.

    Raises:
        ValueError: no query is left to make task vectors from.
    """
    check_integer("n_queries", n_queries, at_least=1)
    asked, dummies = held_apart(prompts, n_queries)
    backwards = prompts.in_order(list(reversed(range(prompts.n))))
    found = {
        REORDERED: {"reversed": answer_law(model, backwards.tokens[:n_queries])},
        ZERO_SHOT: {"": answer_law(model, asked.query_tokens)},
        WHOLE: descended(model, prompts, n_queries, whole, epochs),
        PART: descended(model, prompts, n_queries, part, epochs),
        CAUSAL: descended(model, prompts, n_queries, whole, epochs, layer_causal_fine_tune),
    }
    for name, how in ((ADDED, "add"), (REPLACED, "replace")):
        found[name] = {
            f"after block {block}": patched_answers(model, asked.query_tokens, block, vector, how)
            for block, vector in enumerate(task_vectors(model, dummies, how))
        }
    if isinstance(prompts, AttributePrompts):
        found[FILTER] = {"": filter_answers(prompts)[:n_queries].float()}
        if told is not None:
            found[LEARNED] = {"": learned_filter_answers(prompts, told)[:n_queries].float()}
    return answer_law(model, asked.tokens), found
