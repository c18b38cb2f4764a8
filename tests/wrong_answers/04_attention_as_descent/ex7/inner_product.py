"""The kernel is not called.

verdict: rejected
found: in sight
says: Call `kernel` instead
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    among, across = xs @ xs.mT, x_query @ xs.mT
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates:
        slots = slots - rate * across @ labels
        labels = labels - rate * among @ labels
    return -slots
