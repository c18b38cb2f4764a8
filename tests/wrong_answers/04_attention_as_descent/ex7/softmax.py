"""Kernel values normalised over the context.

verdict: rejected
found: in sight
says: normalised over the context
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    among, across = kernel(xs, xs), kernel(x_query, xs)
    among = among / among.sum(-1, keepdim=True)
    across = across / across.sum(-1, keepdim=True)
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates:
        slots = slots - rate * across @ labels
        labels = labels - rate * among @ labels
    return -slots
