"""The heads are moved in place.

verdict: rejected
found: in sight
says: changed its argument
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    one = torch.eye(len(covariance))
    square = covariance @ covariance
    moment = square + (covariance + covariance.trace() * one) @ covariance / n_context
    m = torch.einsum("h,hi,hj->ij", values, keys, queries)
    force = square - moment @ m @ covariance
    pulled, back = queries @ force.mT, keys @ force
    old = values.clone()
    values += step_size * (keys * pulled).sum(-1)
    keys += step_size * old[:, None] * pulled
    queries += step_size * old[:, None] * back
    return values, keys, queries
