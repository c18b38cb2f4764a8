"""Means in place of sums.

verdict: rejected
found: in sight
says: You average over the pairs
"""

import torch


def mesa_layer(keys, values, queries, regularization):
    d = keys.shape[-1]
    kk = (keys[..., :, None] * keys[..., None, :]).cumsum(1)
    vk = (values[..., :, None] * keys[..., None, :]).cumsum(1)
    prior = torch.eye(d) / regularization
    count = torch.arange(1, keys.shape[1] + 1)[:, None, None]
    kk, vk = kk / count, vk / count
    solved = torch.linalg.solve(kk + prior, queries[..., None])
    return (vk @ solved)[..., 0]
