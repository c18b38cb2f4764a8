"""The column of the feature stays.

verdict: rejected
found: in sight
says: You zero the row alone
"""

import torch


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.clone() for w in layer)
    step_size = v[d + m, d].item()
    a[d + m :, d + m :] -= step_size * penalty * torch.eye(m)
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.clone() for w in layer)
    b[feature] = 0
    return a, v, b
