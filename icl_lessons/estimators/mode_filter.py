"""Exact filtering of a hidden mode that is drawn anew now and then.

Before the first observation the mode follows the prior; between two observations it is drawn anew
with probability ``hazard``. What is known of it after ``t`` observations is

.. math:: p_t(z) \\propto \\Big((1 - h)\\, p_{t-1}(z) + h\\, \\pi(z)\\Big)\\, p(o_t \\mid z),

the forward algorithm for a chain whose every jump goes back to the prior. With hazard 0 the order
of the observations does not matter; with hazard above 0 the last ones tell most.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lessons.runtime import check_number, check_tensor


def filtered_modes(
    prior: Float[Tensor, " modes"],
    likelihoods: Float[Tensor, "batch n modes"],
    hazard: float | int,
) -> Float[Tensor, "batch n_plus_1 modes"]:
    """What is known of the mode of the next observation, after 0, 1, ..., ``n`` observations.

    Args:
        prior: law of a mode that is drawn, ``[modes]``.
        likelihoods: probability of each observation under each mode, ``[batch, n, modes]``.
        hazard: probability that the mode is drawn anew between two observations.

    Returns:
        the law of the mode *before* each observation and before the one that would come next:
        entry ``t`` has seen ``t`` observations and allows for a new draw since.

    Raises:
        ValueError: a prior that is no distribution, a hazard that is no probability, or an
            observation that no mode allows after those before it.
    """
    check_tensor("prior", prior, "modes")
    check_tensor("likelihoods", likelihoods, "batch n modes")
    check_number("hazard", hazard)
    if hazard > 1:
        raise ValueError(f"hazard: got {hazard}; use a probability, from 0 to 1")
    if (prior < 0).any() or abs(float(prior.sum()) - 1) > 1e-9:
        raise ValueError("prior: use probabilities of the modes; they must sum to 1")
    known = prior.expand(likelihoods.shape[0], -1)
    laws = [known]
    for seen in likelihoods.unbind(1):
        joint = known * seen
        total = joint.sum(-1, keepdim=True)
        if not (total > 0).all():
            which = int((~(total > 0)).nonzero()[0, 0])
            raise ValueError(
                f"likelihoods: in sequence {which} no mode allows observation {len(laws) - 1}; "
                "give every observation some probability under some mode"
            )
        known = (1 - hazard) * joint / total + hazard * prior
        laws.append(known)
    return torch.stack(laws, 1)
