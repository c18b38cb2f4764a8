"""The claim that an account found by looking is held to on new answers."""

import numpy as np

from icl_lessons.declare import Evidence, passed, result_of
from icl_lessons.language_models.accounts import FILTER, LEARNED
from icl_lessons.language_models.claims.which_account import account_claim
from icl_lessons.language_models.experiments.fresh_accounts import FreshAccountsResult
from icl_lessons.runtime import Scale


@account_claim(
    "as-far-as-learned-afresh",
    "On demonstrations, queries and models that had no part in shaping it, that filter is nearer "
    "than no demonstrations, task vectors and descent, in every cell.",
    where="not in the paper; the rule was fixed before these answers were looked at",
)
def as_far_as_learned_afresh(scale: Scale) -> Evidence:
    result: FreshAccountsResult = result_of("fresh_accounts", scale)
    found, exact = result.passes(LEARNED), result.passes(FILTER)
    counts = "; ".join(
        f"{group}: {found[place].sum()} of {found[place].size} (exact filter {exact[place].sum()})"
        for place, group in enumerate(result.groups)
    )
    return Evidence(
        measured=float(np.max(result.of(LEARNED) / result.nearest_rival)),
        bound=1.0,
        unit="KL(in context || account) over that of the nearest rival, worst of tasks and models",
        samples=passed(found),
        note=f"{counts}. Largest divergence {result.of(LEARNED).max():.2f} nats.",
    )
