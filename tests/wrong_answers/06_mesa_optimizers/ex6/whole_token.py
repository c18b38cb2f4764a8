"""The whole token leaks.

verdict: rejected
found: in sight
says: changes the x part or the y part
"""

import torch


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.clone() for w in layer)
    step_size = v[d + m, d].item()
    a -= step_size * penalty * torch.eye(len(a))
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.clone() for w in layer)
    b[feature] = 0
    b[:, feature] = 0
    return a, v, b
