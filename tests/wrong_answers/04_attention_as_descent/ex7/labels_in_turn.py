"""The labels of the context are updated one after another.

verdict: rejected
found: in sight
says: one after another
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    among, across = kernel(xs, xs), kernel(x_query, xs)
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates:
        slots = slots - rate * across @ labels
        labels = labels.clone()
        for j in range(labels.shape[1]):
            change = rate * among[:, j, None] @ labels
            labels[:, j] -= change[:, 0]
    return -slots
