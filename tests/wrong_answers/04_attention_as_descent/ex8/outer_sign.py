"""diag(f) + f f^T.

verdict: rejected
found: in sight
says: sign of f f^T
"""

import torch


def softmax_regression_gradient(a, b, x):
    f = torch.softmax(a @ x, dim=0)
    error = f - b
    return a.mT @ (f * error + f * (f @ error))
