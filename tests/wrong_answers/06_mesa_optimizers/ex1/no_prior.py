"""Plain least squares.

verdict: rejected
found: in sight
says: The prior is missing
"""

import torch


def mesa_layer(keys, values, queries, regularization):
    kk = (keys[..., :, None] * keys[..., None, :]).cumsum(1)
    vk = (values[..., :, None] * keys[..., None, :]).cumsum(1)
    prior = 0
    solved = torch.linalg.pinv(kk + prior, rtol=1e-10, hermitian=True) @ queries[..., None]
    return (vk @ solved)[..., 0]
