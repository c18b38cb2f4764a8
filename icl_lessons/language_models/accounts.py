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

from icl_lessons.language_models.demonstration_labels import flipped
from icl_lessons.language_models.fine_tuning import FineTuning, answer_law, fine_tune
from icl_lessons.language_models.layer_causal import layer_causal_fine_tune
from icl_lessons.language_models.mode_reader import filter_answers
from icl_lessons.language_models.subjects import Subject
from icl_lessons.language_models.task_vectors import held_apart, patched_answers, task_vectors
from icl_lessons.runtime import check_integer, seeded
from icl_lessons.tasks.attribute_prompts import AttributePrompts

Law = Float[Tensor, "queries vocabulary"]
Account = dict[str, Law]
"""The answers of an account by the name of its setting."""

REORDERED = "in context, reordered"
ZERO_SHOT = "no demonstrations"
WHOLE, PART, CAUSAL = "descent", "descent of one block", "layer-causal descent"
ADDED, REPLACED = "task vector, added", "task vector, in place"
FILTER = "Bayes filter"
ACCOUNTS = (REORDERED, ZERO_SHOT, WHOLE, PART, CAUSAL, ADDED, REPLACED, FILTER)
DESCENTS = (WHOLE, PART, CAUSAL)
RIVALS = ACCOUNTS[1:]
"""All but the first, which is in-context learning itself."""

SOME_WRONG = ", some wrong"


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


def accounts(
    model: nn.Module,
    prompts: Any,
    n_queries: int,
    *,
    whole: Mapping[str, FineTuning],
    part: Mapping[str, FineTuning],
    epochs: Sequence[int],
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

    Returns:
        the answers in context, and :data:`ACCOUNTS`; prompts of real text have no Bayes filter, as
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
        found[FILTER] = {"": filter_answers(prompts)[:n_queries].to(torch.float32)}
    return answer_law(model, asked.tokens), found
