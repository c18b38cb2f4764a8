"""Each head has an error of its own.

verdict: rejected
found: in sight
says: learns as if it were alone
"""

import torch


def separate_step(values, keys, queries, covariance, n_context, step_size):
    one = torch.eye(len(covariance))
    square = covariance @ covariance
    moment = square + (covariance + covariance.trace() * one) @ covariance / n_context
    m = values[:, None, None] * keys[:, :, None] * queries[:, None, :]
    force = square - moment @ m @ covariance
    pulled = (force @ queries[..., None])[..., 0]
    back = (force.mT @ keys[..., None])[..., 0]
    return (
        values + step_size * (keys * pulled).sum(-1),
        keys + step_size * values[:, None] * pulled,
        queries + step_size * values[:, None] * back,
    )
