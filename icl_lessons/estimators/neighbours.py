"""Nearest neighbours: predict what the most similar examples said.

The baseline of Garg et al. 2022 (`garg2022what`, released evaluation code): the unweighted mean
of the labels of the ``min(k, n)`` examples whose inputs are nearest to the query in Euclidean
distance. Unlike every other baseline of this floor it is not linear in the inputs: moving an
example changes the prediction in jumps.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_context, check_integer


@dataclass(frozen=True)
class NearestNeighbours:
    """The mean label of the nearest ``min(k, n_context)`` examples, a Learner.

    Where two examples are equally near, the one that comes first in the context is taken, so the
    prediction is a function of the context on every device.

    Source: `garg2022what`, section 3.1 (baselines); there k = 3.

    Raises:
        ValueError: k is not an integer of 1 or more.
    """

    k: int = 3

    def __post_init__(self) -> None:
        check_integer("k", self.k, at_least=1)

    def __call__(
        self,
        xs: Float[Tensor, "batch n_context d"],
        ys: Float[Tensor, "batch n_context m"],
        x_query: Float[Tensor, "batch n_query d"],
    ) -> Float[Tensor, "batch n_query m"]:
        """Predict the labels of the queries, in the units of ``ys``.

        Raises:
            TypeError: an argument is no floating-point tensor, or dtypes differ.
            ValueError: the context is empty, or shapes or devices do not fit together.
        """
        check_context(xs, ys, x_query)
        # The matrix-multiplication shortcut of cdist loses digits when points are close.
        distance = torch.cdist(x_query, xs, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.argsort(dim=-1, stable=True)[..., : self.k]  # [batch, n_query, k]
        labels = ys.unsqueeze(1).expand(-1, x_query.shape[1], -1, -1)
        chosen = labels.gather(2, nearest.unsqueeze(-1).expand(-1, -1, -1, ys.shape[-1]))
        return chosen.mean(dim=2)
