"""The new values move the keys.

verdict: rejected
found: in sight
says: In a gradient step all three are taken at the old point
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    one = torch.eye(len(covariance))
    square = covariance @ covariance
    moment = square + (covariance + covariance.trace() * one) @ covariance / n_context
    m = torch.einsum("h,hi,hj->ij", values, keys, queries)
    force = square - moment @ m @ covariance
    pulled = queries @ force.mT
    new_values = values + step_size * (keys * pulled).sum(-1)
    new_keys = keys + step_size * new_values[:, None] * pulled
    new_queries = queries + step_size * new_values[:, None] * (new_keys @ force)
    return new_values, new_keys, new_queries
