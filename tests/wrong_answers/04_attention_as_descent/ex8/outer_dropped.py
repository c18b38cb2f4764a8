"""f f^T is missing.

verdict: rejected
found: in sight
says: diag(f) - f f^T is needed
"""

import torch


def softmax_regression_gradient(a, b, x):
    f = torch.softmax(a @ x, dim=0)
    error = f - b
    return a.mT @ (f * error)
