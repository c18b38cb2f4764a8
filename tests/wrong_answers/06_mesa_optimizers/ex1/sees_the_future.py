"""Every position uses the whole sequence.

verdict: rejected
found: in sight
says: sees the future
"""

import torch


def mesa_layer(keys, values, queries, regularization):
    d = keys.shape[-1]
    kk = keys.mT @ keys
    vk = values.mT @ keys
    prior = torch.eye(d) / regularization
    solved = torch.linalg.solve(kk + prior, queries.mT)
    return (vk @ solved).mT
