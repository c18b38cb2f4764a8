"""The Jacobian as a matrix, in loops and single precision.

verdict: accepted
"""

import torch


def softmax_regression_gradient(a, b, x):
    a, b, x = a.float(), b.float(), x.float()
    scores = a @ x
    powers = torch.exp(scores - scores.max())
    f = powers / powers.sum()
    jacobian = torch.zeros(len(f), len(f))
    for i in range(len(f)):
        for j in range(len(f)):
            jacobian[i, j] = f[i] * ((1.0 if i == j else 0.0) - f[j])
    return a.T @ jacobian.to(a.dtype) @ (f - b)
