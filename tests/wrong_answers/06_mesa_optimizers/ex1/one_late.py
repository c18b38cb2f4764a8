"""The sums leave out the pair of their own position.

verdict: rejected
found: in sight
says: one pair late
"""

import torch


def mesa_layer(keys, values, queries, regularization):
    d = keys.shape[-1]
    kk = (keys[..., :, None] * keys[..., None, :]).cumsum(1)
    vk = (values[..., :, None] * keys[..., None, :]).cumsum(1)
    prior = torch.eye(d) / regularization
    own = keys[..., :, None] * keys[..., None, :]
    kk, vk = kk - own, vk - values[..., :, None] * keys[..., None, :]
    solved = torch.linalg.solve(kk + prior, queries[..., None])
    return (vk @ solved)[..., 0]
