"""E_2 is the square of the covariance.

verdict: rejected
found: in sight
says: You use E_2 = Lambda^2
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    square = covariance @ covariance
    moment = square
    m = torch.einsum("h,hi,hj->ij", values, keys, queries)
    force = square - moment @ m @ covariance
    pulled, back = queries @ force.mT, keys @ force
    new_values = values + step_size * (keys * pulled).sum(-1)
    new_keys = keys + step_size * values[:, None] * pulled
    new_queries = queries + step_size * values[:, None] * back
    return new_values, new_keys, new_queries
