"""No softmax.

verdict: rejected
found: in sight
says: no softmax in your gradient
"""


def softmax_regression_gradient(a, b, x):
    f = a @ x
    error = f - b
    return a.mT @ error
