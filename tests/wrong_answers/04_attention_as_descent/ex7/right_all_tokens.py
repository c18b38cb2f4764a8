"""All tokens in one tensor, with a mask on the keys; single precision.

verdict: accepted
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    xs, ys, x_query = xs.float(), ys.float(), x_query.float()
    n = xs.shape[1]
    points = torch.cat([xs, x_query], dim=1)
    zeros = ys.new_zeros(len(ys), x_query.shape[1], ys.shape[2])
    labels = torch.cat([ys, zeros], dim=1)
    scores = kernel(points, points)
    scores = scores * (torch.arange(points.shape[1]) < n)
    for rate in rates:
        labels = labels - rate * torch.einsum("bji,bim->bjm", scores, labels)
    return -labels[:, n:]
