"""Diagonal matrices on either side, and the step size from the other block.

verdict: accepted
"""

import torch


def add_ridge(layer, d, m, penalty):
    a, v, b = layer
    leak = torch.zeros(d + 2 * m)
    leak[d + m :] = -v.diagonal()[-1] * penalty
    return a - torch.diag(leak), v, b


def forget_feature(layer, feature):
    a, v, b = layer
    keep = torch.eye(len(b))
    keep[feature, feature] = 0
    return a, v, keep @ b @ keep
