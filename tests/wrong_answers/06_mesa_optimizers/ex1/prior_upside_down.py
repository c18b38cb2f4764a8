"""R starts at I / lambda.

verdict: rejected
found: in sight
says: upside down
"""

import torch


def mesa_layer(keys, values, queries, regularization):
    d = keys.shape[-1]
    kk = (keys[..., :, None] * keys[..., None, :]).cumsum(1)
    vk = (values[..., :, None] * keys[..., None, :]).cumsum(1)
    prior = torch.eye(d) * regularization
    solved = torch.linalg.solve(kk + prior, queries[..., None])
    return (vk @ solved)[..., 0]
