"""A^T is missing.

verdict: rejected
found: in sight
says: multiplied by A^T
"""

import torch


def softmax_regression_gradient(a, b, x):
    f = torch.softmax(a @ x, dim=0)
    error = f - b
    return f * error - f * (f @ error)
