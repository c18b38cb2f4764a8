"""The labels never change.

verdict: rejected
found: in sight
says: labels of your context stay
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    across = kernel(x_query, xs)
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates:
        slots = slots - rate * across @ labels
    return -slots
