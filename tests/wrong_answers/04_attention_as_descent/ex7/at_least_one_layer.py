"""One layer even where no rate is given.

verdict: rejected
found: hidden
says: 0 layer(s)
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    among, across = kernel(xs, xs), kernel(x_query, xs)
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates or [0.1]:
        slots = slots - rate * across @ labels
        labels = labels - rate * among @ labels
    return -slots
