"""Without the 1/2.

verdict: rejected
found: in sight
says: twice too long
"""

import torch


def softmax_regression_gradient(a, b, x):
    f = torch.softmax(a @ x, dim=0)
    error = f - b
    return 2 * a.mT @ (f * error - f * (f @ error))
