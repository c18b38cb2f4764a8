"""Context and queries all read each other.

verdict: rejected
found: in sight
says: reads the queries too
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    points = torch.cat([xs, x_query], dim=1)
    zeros = torch.zeros(*x_query.shape[:2], ys.shape[2], dtype=ys.dtype)
    labels, scores = torch.cat([ys, zeros], dim=1), kernel(points, points)
    for rate in rates:
        labels = labels - rate * scores @ labels
    return -labels[:, xs.shape[1] :]
