"""What is claimed of attention as a running average, each claim with a check."""

import torch

from icl_lessons.declare import Evidence
from icl_lessons.implicit_dynamics.claims.token_path import (
    BESIDE,
    Case,
    path_claim,
    worst_case,
)
from icl_lessons.implicit_dynamics.running_average import running_average
from icl_lessons.implicit_dynamics.token_path import token_path
from icl_lessons.measures.agreement import relative_error
from icl_lessons.runtime import Scale

AVERAGE = {"attention": "softmax", "norm": None, "reads": "attention"}


@path_claim(
    "running-average",
    "A token moves softmax attention by its own weight times its distance from the average so far, "
    "and the increments of the path follow.",
    where=BESIDE,
)
def average_moves(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        found = running_average(case.block, case.context, case.query)
        reached = found.averages.sum(1)
        return max(
            relative_error(reached, case.path.inputs),
            relative_error(found.increments(case.block.dense_weight), case.path.increments),
        )

    return worst_case(
        check, seed=611, **AVERAGE,
        note="A_{i+1} - A_i = p_{i+1} (v_{i+1} - A_i) in every head.",
    )  # fmt: skip


@path_claim(
    "even-attention",
    "Where attention is even, token i has a share of 1/(i + 1): increments of order 1/i.",
    where=BESIDE,
)
def even_attention(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        case.block.w_query.zero_()  # every score 0
        shares = running_average(case.block, case.context, case.query).shares
        expected = 1 / torch.arange(2, case.n + 2, dtype=torch.float64)
        return relative_error(shares, expected.expand_as(shares))

    return worst_case(check, seed=612, **AVERAGE)


@path_claim(
    "one-token-repeated",
    "When one token is repeated, the distance shrinks as well: increments of order 1/i^2.",
    where=BESIDE,
)
def one_token_repeated(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        n = 12
        context = case.context[:, :1].expand(-1, n, -1)
        path = token_path(case.block, context, case.query)
        found = running_average(case.block, context, case.query)
        # e: how much more weight the token has than the query; A_i = v + (A_0 - v) / (1 + i e).
        ratio = found.shares[..., :1] / (1 - found.shares[..., :1])
        i = torch.arange(n + 1, dtype=torch.float64)
        apart = (found.values[:, :, 0] - found.values[:, :, 1])[:, :, None]
        expected = (found.values[:, :, 1:2] + apart / (1 + i * ratio)[..., None]).sum(1)
        return relative_error(path.inputs, expected)

    return worst_case(
        check, seed=613, **AVERAGE,
        note="A_i - v = (A_0 - v) / (1 + i e) in every head, with e the odds of the token against "
        "the query; 12 repetitions.",
    )  # fmt: skip


@path_claim(
    "linear-attention-steps",
    "In linear attention a token's increment is the same wherever it stands: a sum does not slow.",
    where=BESIDE,
)
def linear_attention_steps(scale: Scale) -> Evidence:
    def check(case: Case) -> float:
        order = torch.randperm(case.n, generator=case.generator)
        other = token_path(case.block, case.context[:, order], case.query)
        return relative_error(other.increments, case.path.increments[:, order])

    return worst_case(check, seed=614, attention="linear", norm=None)
