"""The force on the keys is transposed.

verdict: rejected
found: in sight
says: The force on your keys is transposed
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    one = torch.eye(len(covariance))
    square = covariance @ covariance
    moment = square + (covariance + covariance.trace() * one) @ covariance / n_context
    m = torch.einsum("h,hi,hj->ij", values, keys, queries)
    force = square - moment @ m @ covariance
    pulled, back = queries @ force.mT, keys @ force
    new_values = values + step_size * (keys * pulled).sum(-1)
    new_keys = keys + step_size * values[:, None] * (queries @ force)
    new_queries = queries + step_size * values[:, None] * back
    return new_values, new_keys, new_queries
