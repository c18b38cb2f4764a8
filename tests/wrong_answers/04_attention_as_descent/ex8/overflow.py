"""Powers of large scores.

verdict: rejected
found: hidden
says: scores in the thousands
"""

import torch


def softmax_regression_gradient(a, b, x):
    f = torch.exp(a @ x) / torch.exp(a @ x).sum()
    error = f - b
    return a.mT @ (f * error - f * (f @ error))
