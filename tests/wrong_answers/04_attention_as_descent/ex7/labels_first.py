"""The labels move before the queries have read them.

verdict: rejected
found: in sight
says: update the slots first
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    among, across = kernel(xs, xs), kernel(x_query, xs)
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates:
        labels = labels - rate * among @ labels
        slots = slots - rate * across @ labels
    return -slots
