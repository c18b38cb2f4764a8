"""Simpler rules for naming a layer's objective: cosines, with which the detector is compared."""

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.mesa_optimization.inner_losses import INNER_LOSSES, huber_loss
from icl_lessons.mesa_optimization.objective_detector import demixed_values, weight_change
from icl_lessons.types import Batch, Learner

COSINE_FAMILY = ("squared", "sign_flipped", "absolute", "cosine", "huber")
COSINE_THRESHOLD = 0.9


@torch.no_grad()
def cosine_scores(
    before: Learner, after: Learner, batch: Batch, delta: float | int
) -> dict[str, Float[Tensor, "batch losses"]]:
    """Three simpler rules: the cosine between what a layer did and what each loss would do.

    Args:
        delta: threshold of Huber's loss, which these rules have to be told.

    Returns:
        For each context and each loss of :data:`COSINE_FAMILY` (NaN where one has no gradient):
        ``"raw"``, the change ``dp_i`` of the predictions against the values ``v_i``; ``"demixed"``,
        the values recovered by :func:`demixed_values` against them (only with ``N <= d``);
        ``"update"``, ``dW`` against ``sum_i v_i x_i^T``, of which it is proposed to say yes above
        0.9.
    """
    seen = weight_change(before, after, batch)
    xs, ys, p = batch.xs.double(), batch.ys.double(), seen.predictions
    change = after(batch.xs, batch.ys, batch.xs).double() - p
    losses = {**INNER_LOSSES, "huber": huber_loss(delta)}
    undefined = torch.full_like(ys, torch.nan)
    values = torch.stack(
        [
            undefined if name == "cosine" and ys.shape[2] == 1 else losses[name].value(p, ys)
            for name in COSINE_FAMILY
        ]
    )

    def cosine(one: Tensor, two: Tensor) -> Tensor:
        one, two = one.flatten(-2), two.flatten(-2)
        return ((one * two).sum(-1) / (one.norm(dim=-1) * two.norm(dim=-1))).mT

    scores = {"raw": cosine(values, change), "update": cosine(values.mT @ xs, seen.change)}
    if xs.shape[1] <= xs.shape[2]:
        scores["demixed"] = cosine(values, demixed_values(xs, change))
    return scores
