"""What is claimed of updates computed wrongly, or used where they do not belong."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from icl_lessons.declare import Evidence, claim, error_size, passed, result_of, words
from icl_lessons.implicit_dynamics.block_regressor import without_context
from icl_lessons.implicit_dynamics.claims.rank_one_update import (
    ATTENTION_ALONE,
    BESIDE,
    CASES,
    DHERIN,
    INNOCENTI,
    PAGE,
    Case,
    update_cases,
    worst_case,
)
from icl_lessons.implicit_dynamics.contextual_blocks import block_output
from icl_lessons.implicit_dynamics.experiments.token_by_token import (
    BlockTraining,
    block_regressor_weights,
)
from icl_lessons.implicit_dynamics.rank_one_update import (
    ImplicitUpdate,
    implicit_update,
    updated_output,
)
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import Scale, seeded
from icl_lessons.zoo import models_from

WRONG = f"mean error over that of no update, median of {CASES} random blocks"


def _beside(name: str, says: str, *, kind: str = "experiment", paper: str = DHERIN):
    return claim(
        f"survey-update-{name}", paper=paper, where=BESIDE, kind=kind, says=says, chapter=PAGE
    )  # fmt: skip


def _misused(change: Callable[[Case, ImplicitUpdate], Tensor], *, seed: int, **shape) -> Evidence:
    """How wrong a block is with a change of its weights that is not quite the right one."""
    shares = []
    for case in update_cases(CASES, seed=seed, sizes_of_context=(1.0,), **shape):
        block, context, query = case.block, case.context, case.query
        nothing, expected = context[:, :0], block_output(block, context, query)
        update = implicit_update(block, context, query)
        reading = block.read(nothing, query)
        weight = block.dense_weight + change(case, update)
        hidden = (weight @ reading.dense_input[:, :, None])[..., 0]
        got = block.finish(hidden, reading.residual + update.bias)
        none = block_output(block, nothing, query)
        shares.append(((got - expected).abs().mean() / (none - expected).abs().mean()).item())
    return Evidence(
        measured=float(np.median(shares)),
        bound=0.01,
        unit=WRONG,
        samples=passed(np.array(shares) <= 0.01),
        note=f"From {min(shares):.2g} to {max(shares):.2g}.",
    )


# --- computed wrongly, in random blocks -----------------------------------------------------------


@_beside(
    "missing-bias",
    "With a skip connection and no change of the bias the output is off by what the context adds "
    "to attention.",
    kind="identity",
)
def missing_bias(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        block, context, query = case.block, case.context, case.query
        nothing = context[:, :0]
        update = implicit_update(block, context, query)
        half = dataclasses.replace(update, bias=torch.zeros_like(update.bias))
        got = updated_output(block, half, nothing, query)
        added = block.attend(context, query) - block.attend(nothing, query)
        return relative_error(block_output(block, context, query) - got, added)

    return worst_case(check, seed=740, reads="attention", skip=True)


@_beside(
    "stream-before-norm",
    "The update may be made from the stream before the norm.",
    kind="dispute",
    paper=INNOCENTI,
)
def stream_before_norm(scale: Scale) -> Evidence:
    def change(case: Case, update: ImplicitUpdate) -> Tensor:
        before = case.block.read(case.context[:, :0], case.query).residual
        added = update.bias @ case.block.dense_weight.mT
        return added[:, :, None] * before[:, None] / before.square().sum(-1)[:, None, None]

    return _misused(change, seed=741, norm="layer")


def _read(case: Case, context: Tensor) -> Tensor:
    return case.block.read(context, case.query).dense_input


@_beside(
    "full-reading-as-right-vector",
    "What the layer reads with the whole context may stand as the right vector of the update.",
    kind="dispute",
)
def full_reading_as_right_vector(scale: Scale) -> Evidence:
    def change(case: Case, update: ImplicitUpdate) -> Tensor:
        full, alone = _read(case, case.context), _read(case, case.context[:, :0])
        added = (full - alone) @ case.block.dense_weight.mT
        return added[:, :, None] * full[:, None] / full.square().sum(-1)[:, None, None]

    return _misused(change, seed=742, **ATTENTION_ALONE)


@_beside(
    "full-reading-as-denominator",
    "The update may be divided by the square of what is read with the whole context.",
    kind="dispute",
)
def full_reading_as_denominator(scale: Scale) -> Evidence:
    def change(case: Case, update: ImplicitUpdate) -> Tensor:
        full, alone = _read(case, case.context), _read(case, case.context[:, :0])
        shrunk = alone.square().sum(-1) / full.square().sum(-1)
        return update.weight * shrunk[:, None, None]

    return _misused(change, seed=743, **ATTENTION_ALONE)


@_beside(
    "another-query-untrained",
    "In a block that was never trained one query's update may be used for another.",
    kind="dispute",
)
def another_query_untrained(scale: Scale) -> Evidence:
    def change(case: Case, update: ImplicitUpdate) -> Tensor:
        other = case.normal(*case.query.shape)
        return implicit_update(case.block, case.context, other).weight

    return _misused(change, seed=744, **ATTENTION_ALONE)


# --- used for other queries, in trained blocks ----------------------------------------------------


@_beside("another-query", "One query's update may be used for another.", kind="dispute")
def another_query(scale: Scale) -> Evidence:
    result = result_of("query_swap", scale)
    share = result.one_query / result.no_update
    return Evidence(
        measured=share.max().item(),
        bound=0.01,
        unit="mean error over that of no update, worst seed",
        samples=passed(share <= 0.01),
        note=f"Trained blocks; {words(result.one_query)} against {words(result.no_update)}.",
    )


@_beside(
    "near-its-query", "The nearer a query to that of the update, the less wrong the update there."
)
def near_its_query(scale: Scale) -> Evidence:
    result = result_of("query_swap", scale)
    grows = (np.diff(result.swapped, axis=1) > 0).all(1)
    near = result.distances.index(0.1)
    share = result.swapped[:, near] / result.unchanged[:, near]
    return Evidence(
        measured=share.max().item(),
        bound=0.1,
        unit="error at a distance of 0.1 over that of no update, worst seed",
        samples=passed(grows & (share <= 0.1)),
        note=f"{len(share)} seeds; the error grows with every distance measured, from 0 to "
        f"{result.distances[-1]:g}.",
    )


@_beside(
    "as-many-as-coordinates",
    "In the trained block one change serves two queries exactly and not three: a query of two "
    "coordinates, read alone, fills two of the layer's inputs.",
)
def as_many_as_coordinates(scale: Scale) -> Evidence:
    result = result_of("query_swap", scale)
    two, three = (result.own[:, result.n_fitted.index(m)] for m in (2, 3))
    rank = result.rank.max(1)
    return Evidence(
        measured=three.min().item(),
        bound=1e-3,
        comparison="at least",
        unit="error at three fitted queries over that of no update, least of the seeds",
        samples=passed((two <= 1e-10) & (three >= 1e-3) & (rank == 2)),
        note=f"At two queries {error_size(two.max())}; the largest rank of any change, fitted to "
        f"up to {result.n_fitted[-1]} queries, is {rank.max():g}.",
    )


@_beside(
    "fitted-to-many",
    "One change of rank two, fitted to 16 queries, is worth the context at queries it was not "
    "fitted to.",
)
def fitted_to_many(scale: Scale) -> Evidence:
    result = result_of("query_swap", scale)
    ratio = result.loss[:, result.n_fitted.index(16)] / result.context_loss
    return Evidence(
        measured=ratio.max().item(),
        bound=1.1,
        unit="loss without context over loss with it, 1/2 E squared error, worst seed",
        samples=passed(ratio <= 1.1),
        note="Trained blocks. No update of one query does this, but a trained block's answer is "
        "nearly linear in the query, and so is what one matrix can add.",
    )


@_beside(
    "fitted-to-many-untrained",
    "In the same blocks before training no one change stands for the context as well.",
)
def fitted_to_many_untrained(scale: Scale) -> Evidence:
    result = result_of("query_swap", scale)
    untrained, trained = (
        values[:, result.n_fitted.index(16)] for values in (result.untrained_fresh, result.fresh)
    )
    ratio = untrained / trained
    return Evidence(
        measured=ratio.min().item(),
        bound=2.0,
        comparison="at least",
        unit="error left at other queries, untrained over trained, least of the seeds",
        samples=passed(ratio >= 2),
        note=f"Of the error without an update {words(untrained)} is left, trained "
        f"{words(trained)}.",
    )


@claim(
    "dherin2025-float32",
    paper=DHERIN,
    where="section 4, figure 1, in a replication",
    kind="experiment",
    says="In float32 the trained block with its context and the changed block without agree to "
    "rounding.",
    chapter=PAGE,
)
def in_single(scale: Scale) -> Evidence:
    config = BlockTraining()
    batch = config.task.sample(200, config.n_context, generator=seeded(745))
    errors = []
    with torch.no_grad():
        for model in models_from(config.build(seeded(0)), block_regressor_weights(config)):
            update = implicit_update(model.block, *model.tokens(*batch.context))
            weights = model.block.dense_weight + update.weight
            got = without_context(model, batch.x_query, weights)
            errors.append((got - model(*batch.context)).abs().max().item())
    return Evidence(
        measured=max(errors),
        bound=1e-5,
        unit="largest difference of the predictions, float32, worst seed",
        samples=passed(np.array(errors) <= 1e-5),
        reported=1e-6,
        note="The reported figure is a replication's, with 100 examples; here 30. It is not said "
        "whether it is of predictions or of losses. In float64 the difference is below 1e-12.",
    )
