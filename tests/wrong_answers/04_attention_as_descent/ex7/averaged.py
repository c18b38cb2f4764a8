"""Divided by N.

verdict: rejected
found: in sight
says: divided by N
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    among, across = kernel(xs, xs), kernel(x_query, xs)
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates:
        rate = rate / xs.shape[1]
        slots = slots - rate * across @ labels
        labels = labels - rate * among @ labels
    return -slots
