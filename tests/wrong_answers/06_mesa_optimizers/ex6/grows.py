"""The sign of the leak.

verdict: rejected
found: in sight
says: makes the weights grow
"""

import torch


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.clone() for w in layer)
    step_size = v[d + m, d].item()
    a[d + m :, d + m :] += step_size * penalty * torch.eye(m)
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.clone() for w in layer)
    b[feature] = 0
    b[:, feature] = 0
    return a, v, b
