"""The new W is shrunk, not the old one.

verdict: rejected
found: in sight
says: You shrink AFTER the step
"""


def add_ridge(layer, d, m, penalty):
    a, v, b = (w.clone() for w in layer)
    step_size = v[d + m, d].item()
    a[d + m :] *= 1 - step_size * penalty
    v[d + m :] *= 1 - step_size * penalty
    return a, v, b


def forget_feature(layer, feature):
    a, v, b = (w.clone() for w in layer)
    b[feature] = 0
    b[:, feature] = 0
    return a, v, b
