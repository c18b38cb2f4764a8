"""Entry by entry, in single precision.

verdict: accepted
"""


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.float().clone() for w in layer)
    for r in range(d + m, d + 2 * m):
        a[r, r] = a[r, r] - v[r, r - m] * penalty
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.float().clone() for w in layer)
    for k in range(len(b)):
        b[feature, k] = b[k, feature] = 0.0
    return [a, v, b]
