"""b - f.

verdict: rejected
found: in sight
says: sign is turned
"""

import torch


def softmax_regression_gradient(a, b, x):
    f = torch.softmax(a @ x, dim=0)
    error = b - f
    return a.mT @ (f * error - f * (f @ error))
