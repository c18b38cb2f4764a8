"""Each query reads itself.

verdict: rejected
found: in sight
says: Each query reads itself
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    among, across = kernel(xs, xs), kernel(x_query, xs)
    labels = ys
    slots = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    for rate in rates:
        own = kernel(x_query, x_query).diagonal(dim1=-2, dim2=-1)[..., None]
        slots = slots - rate * (across @ labels + own * slots)
        labels = labels - rate * among @ labels
    return -slots
