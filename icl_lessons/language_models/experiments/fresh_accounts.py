"""Does the account that was found by looking also fit answers that nobody had looked at?

The filter "as far as learned" was shaped by the answers that
:mod:`~icl_lessons.language_models.experiments.which_account` measures, so that those cannot test
it. Here the rule stays as it stands, and the answers are new: the same three models with other
demonstrations and other queries; and smaller models, on which no account had been tried.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from icl_lessons.declare import experiment
from icl_lessons.language_models.accounts import (
    ADDED,
    CAUSAL,
    FILTER,
    LEARNED,
    PART,
    REORDERED,
    REPLACED,
    WHOLE,
    ZERO_SHOT,
    account_prompts,
    accounts,
    descended,
    mappings_told,
)
from icl_lessons.language_models.course_models import course_models
from icl_lessons.language_models.experiments.icl_against_gd import Rival
from icl_lessons.language_models.experiments.model_size import (
    SmallerModels,
    size_name,
    smaller_weights,
)
from icl_lessons.language_models.experiments.which_account import (
    WhichAccountConfig,
    WhichAccountResult,
    which_account,
)
from icl_lessons.language_models.figures import fresh_accounts as figures
from icl_lessons.language_models.fine_tuning import fine_tune
from icl_lessons.language_models.layer_causal import layer_causal_fine_tune
from icl_lessons.language_models.subjects import Subject, course_prompts, drawn_course_prompts
from icl_lessons.measures.distributions import accuracy_over_vocabulary, divergence
from icl_lessons.runtime import Scale, check_choice, check_integer, one_thread
from icl_lessons.tasks.attribute_prompts import AttributePrompts
from icl_lessons.zoo import State, recipe

BEST_DESCENT = "the descent that was best before"
RIVALS = (ZERO_SHOT, ADDED, REPLACED, BEST_DESCENT)
TESTED = (*RIVALS, FILTER, LEARNED)
SAME_MODELS = "the same models"


@dataclass(frozen=True, kw_only=True)
class FreshAccountsConfig:
    """Settings of :func:`fresh_accounts`.

    Attributes:
        before: the comparison in which the account was found: its tasks, its demonstrations'
            number, and the descent that was best in it.
        smaller: the smaller models.
        query_seed: of the queries, which are the same for all.
        n_queries, dummies: as in ``before``.
        seeds: of the demonstrations, one for each of the models of a kind; none of ``before``'s.
    """

    before: WhichAccountConfig = WhichAccountConfig()
    smaller: SmallerModels = SmallerModels()
    query_seed: int = 2_310_090
    n_queries: int = 100
    dummies: int = 40
    seeds: tuple[int, ...] = (3, 4, 5)
    device: str = "cpu"

    def __post_init__(self):
        for name in ("n_queries", "dummies"):
            check_integer(name, getattr(self, name), at_least=1)
        if len(self.seeds) != len(self.smaller.seeds):
            raise ValueError(
                f"seeds: got {len(self.seeds)}; there are {len(self.smaller.seeds)} models of each "
                "kind, give one for each"
            )
        if seen := set(self.seeds) & set(self.before.seeds):
            raise ValueError(
                f"seeds: got {self.seeds}; {sorted(seen)} are those of `before`, and not fresh"
            )

    @property
    def groups(self) -> tuple[str, ...]:
        """The kinds of models."""
        return (SAME_MODELS, *(size_name(size) for size in self.smaller.sizes))

    def models(self) -> list[list[nn.Module]]:
        """``[groups][models]``."""
        return [course_models(), *self.smaller.models(smaller_weights(self.smaller)).values()]

    def prompts(self, task: str, n: int, n_queries: int, seed: int) -> AttributePrompts:
        """Demonstrations of a seed before queries that no account has answered."""
        queries = drawn_course_prompts(task, 0, n_queries, self.query_seed)
        return drawn_course_prompts(task, n, 1, seed).with_queries_of(queries)


Descent = tuple[Rival, int, Callable[..., nn.Module]]


def best_descent(
    config: WhichAccountConfig, result: WhichAccountResult, task: str, model: int | None
) -> Descent:
    """The way, epochs and kind of the descent that was nearest before.

    Args:
        config, result: of the comparison before.
        task: one of its tasks.
        model: the place of the model in that comparison; on average over its models if ``None``.
    """
    check_choice("task", task, result.tasks)
    kinds = {
        WHOLE: (config.whole, fine_tune),
        PART: (config.part, fine_tune),
        CAUSAL: (config.whole, layer_causal_fine_tune),
    }
    row = result.tasks.index(task)
    far = {name: result.measures[name][row, :, :, 0] for name in kinds}  # models, settings
    far = {name: v.mean(0) if model is None else v[model] for name, v in far.items()}
    name = min(far, key=lambda name: far[name].min())
    way, epochs = divmod(int(far[name].argmin()), len(config.epochs))
    ways, descend = kinds[name]
    return ways[way], config.epochs[epochs], descend


def _found(config: FreshAccountsConfig, model: nn.Module, task: str, seed: int, told: Any):
    """Prompts, answers in context, and the accounts that need no descent."""
    who = Subject(model, model.config.layers, config.prompts, drawn_course_prompts)
    many = config.n_queries + config.dummies
    prompts = account_prompts(who, task, config.before.n, many, seed)
    law, found = accounts(
        model, prompts, config.n_queries, whole={}, part={}, epochs=(1,), told=told
    )
    found = {name: account for name, account in found.items() if account and name != REORDERED}
    return prompts, law, found


def _cell(
    config: FreshAccountsConfig,
    model: nn.Module,
    task: str,
    seed: int,
    told: tuple[bool, ...],
    descent: Descent,
) -> list[float]:
    """The divergences of :data:`TESTED`, the best block for task vectors; accuracy in context."""
    prompts, law, found = _found(config, model, task, seed, told)
    rival, epochs, descend = descent
    ways = {"": rival.settings(model.config.layers, epochs)}
    found[BEST_DESCENT] = descended(model, prompts, config.n_queries, ways, (epochs,), descend)
    near = [
        min(divergence(law, answers).mean().item() for answers in found[name].values())
        for name in TESTED
    ]
    return [*near, accuracy_over_vocabulary(law, prompts.answer[: config.n_queries])]


def _told(config: FreshAccountsConfig, model: nn.Module) -> tuple[bool, ...]:
    """The four facts that the account is told, measured as before."""
    who = Subject(model, model.config.layers, course_prompts, drawn_course_prompts)
    return mappings_told(who, config.before.n)


def _summed(state: State, config: FreshAccountsConfig) -> dict[str, float]:
    """Means of the stored figures; the two filters in the first cell, again."""
    with one_thread():
        model, task = config.models()[0][0], config.before.tasks[0]
        _, law, found = _found(config, model, task, config.seeds[0], _told(config, model))
    means = dict(zip(TESTED, state["cells"].flatten(0, 2).mean(0).tolist(), strict=False))
    return means | {
        f"{name} of the first cell": divergence(law, found[name][""]).mean().item()
        for name in (FILTER, LEARNED)
    }


@recipe("fresh_accounts", config=FreshAccountsConfig(), measure=_summed)
def fresh_accounts_measures(config: FreshAccountsConfig) -> State:
    """``cells`` ``[groups, models, tasks, accounts and accuracy]``."""
    before = which_account(config.before)
    groups = []
    with one_thread():
        for group, models in zip(config.groups, config.models(), strict=True):
            rows = []
            for place, (model, seed) in enumerate(zip(models, config.seeds, strict=True)):
                told, old = _told(config, model), place if group == SAME_MODELS else None
                rows.append(
                    [
                        _cell(config, model, task, seed, told,
                              best_descent(config.before, before, task, old))
                        for task in before.tasks
                    ]
                )  # fmt: skip
            groups.append(rows)
    return {"cells": torch.tensor(groups)}


@dataclass(frozen=True, kw_only=True)
class FreshAccountsResult:
    """How far accounts are from answers on which none of them was shaped.

    Attributes:
        groups, tasks, accounts: names along the axes.
        distances: ``KL(in context || account)`` in nats, ``[groups, models, tasks, accounts]``.
        context: accuracy in context, ``[groups, models, tasks]``.
    """

    groups: tuple[str, ...]
    tasks: tuple[str, ...]
    accounts: tuple[str, ...]
    distances: Float[np.ndarray, "groups models tasks accounts"]
    context: Float[np.ndarray, "groups models tasks"]

    def of(self, account: str) -> Float[np.ndarray, "groups models tasks"]:
        """The distances of one account."""
        check_choice("account", account, self.accounts)
        return self.distances[..., self.accounts.index(account)]

    @property
    def nearest_rival(self) -> Float[np.ndarray, "groups models tasks"]:
        """The distance of the nearest account that is no filter."""
        return np.min([self.of(name) for name in RIVALS], 0)

    def passes(self, account: str) -> Bool[np.ndarray, "groups models tasks"]:
        """Where an account is nearer than every rival."""
        return self.of(account) < self.nearest_rival

    def summary(self) -> str:
        """Cells in which each filter passes, by kind of model."""
        lines = ["cells in which it is nearer than every rival"]
        for place, group in enumerate(self.groups):
            both = [self.passes(name)[place] for name in (LEARNED, FILTER)]
            lines.append(
                f"  {group}: {LEARNED} {both[0].sum()}, {FILTER} {both[1].sum()}, of {both[0].size}"
            )
        return "\n".join(lines)


@experiment(
    "fresh_accounts",
    paper="shen2024pretrained",
    chapter="language_models/which_account",
    configs={
        Scale.LESSON: FreshAccountsConfig(),
        Scale.PAPER: FreshAccountsConfig(n_queries=500, dummies=100),
    },
    figure=figures.fresh_accounts,
)
def fresh_accounts(config: FreshAccountsConfig) -> FreshAccountsResult:
    """The Bayes filter as far as learned, and its rivals, on new demonstrations and new models."""
    cells = fresh_accounts_measures(config)["cells"].double().numpy()
    return FreshAccountsResult(
        groups=config.groups,
        tasks=config.before.tasks,
        accounts=TESTED,
        distances=cells[..., :-1],
        context=cells[..., -1],
    )
