"""Outputs after the second do not leak.

verdict: rejected
found: hidden
says: m = 3
"""


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.clone() for w in layer)
    step_size = v[d + m, d].item()
    for r in range(min(m, 2)):
        a[d + m + r, d + m + r] -= step_size * penalty
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.clone() for w in layer)
    b[feature] = 0
    b[:, feature] = 0
    return a, v, b
