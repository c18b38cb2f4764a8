"""The gradient of another loss.

verdict: rejected
found: in sight
says: cross-entropy
"""

import torch


def softmax_regression_gradient(a, b, x):
    f = torch.softmax(a @ x, dim=0)
    error = f - b
    return a.mT @ error
