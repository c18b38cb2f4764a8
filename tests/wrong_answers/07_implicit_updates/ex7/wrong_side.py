"""E_2 stands on the side of the query.

verdict: rejected
found: in sight
says: E_2 and Lambda have changed places
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    one = torch.eye(len(covariance))
    square = covariance @ covariance
    moment = square + (covariance + covariance.trace() * one) @ covariance / n_context
    m = torch.einsum("h,hi,hj->ij", values, keys, queries)
    force = square - covariance @ m @ moment
    pulled, back = queries @ force.mT, keys @ force
    new_values = values + step_size * (keys * pulled).sum(-1)
    new_keys = keys + step_size * values[:, None] * pulled
    new_queries = queries + step_size * values[:, None] * back
    return new_values, new_keys, new_queries
