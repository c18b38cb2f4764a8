"""The leak is lambda.

verdict: rejected
found: in sight
says: You shrink by lambda, not by eta lambda
"""

import torch


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.clone() for w in layer)
    a[d + m :, d + m :] -= penalty * torch.eye(m)
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.clone() for w in layer)
    b[feature] = 0
    b[:, feature] = 0
    return a, v, b
