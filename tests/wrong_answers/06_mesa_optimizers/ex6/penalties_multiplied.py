"""A second ridge multiplies the first.

verdict: rejected
found: in sight
says: Penalties add up
"""


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.clone() for w in layer)
    step_size = v[d + m, d].item()
    a[d + m :, d + m :] *= 1 - step_size * penalty
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.clone() for w in layer)
    b[feature] = 0
    b[:, feature] = 0
    return a, v, b
